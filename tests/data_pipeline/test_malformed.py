"""200 groups, each spoilt in one way: each is listed with a reason, and no good group is lost."""

import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image

from data_pipeline.files import MAX_BYTES
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.sources import open_source

# A name that is no UTF-8, as the operating system hands it over.
ODD_NAME = os.fsdecode(b"odd-\xff\xfe")


def encoded(rng, kind, size=(24, 48)):
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def cut(kind):
    def spoil(frame, target, rng):
        data = encoded(rng, kind)
        frame.write_bytes(data[: int(rng.integers(1, len(data) * 3 // 4))])

    return spoil


def content(make):
    """Puts what `make` gives into a frame."""
    return lambda frame, target, rng: frame.write_bytes(make(rng))


def flipped_png(rng):
    """A PNG whose compressed pixels are damaged, which its checksum tells."""
    data = bytearray(encoded(rng, "PNG"))
    data[int(rng.integers(60, len(data) - 60))] ^= 0x55
    return bytes(data)


def huge_png(rng):
    """A PNG of a few bytes that claims 4 gigapixels."""
    data = bytearray(encoded(rng, "PNG"))
    data[16:24] = (1 << 16).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def huge_jpeg(rng):
    data = bytearray(encoded(rng, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


def huge_file(frame, target, rng):
    with frame.open("wb") as file:
        file.truncate(MAX_BYTES + 1)


def wrong_suffix(frame, target, rng):
    frame.rename(frame.with_suffix(str(rng.choice([".txt", ".svg", ".mp4", ".jpg~", ".exe"]))))


def tiny(rng):
    return encoded(rng, "PNG", size=[(1, 1), (3, 40), (40, 3), (2, 2)][rng.integers(4)])


def link_loop(frame, target, rng):
    frame.unlink()
    frame.symlink_to(frame.name)


def dead_link(frame, target, rng):
    frame.unlink()
    frame.symlink_to("nowhere.jpg")


def link_to_folder(frame, target, rng):
    (frame.parent / "img_7.jpg").symlink_to("..")


def group_loop(frame, target, rng):
    folder = frame.parent
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.symlink_to(folder.name)


def folder_for_a_frame(frame, target, rng):
    frame.unlink()
    frame.mkdir()


def pipe(frame, target, rng):
    frame.unlink()
    os.mkfifo(frame)


def unreadable(frame, target, rng):
    frame.unlink()
    frame.symlink_to("/proc/self/mem")  # a regular file that even root cannot read


def no_target(frame, target, rng):
    target.unlink()


def no_target_folder(frame, target, rng):
    target.unlink()
    target.parent.rmdir()


def two_targets(frame, target, rng):
    target.with_name("second.png").write_bytes(encoded(rng, "PNG"))


def no_frames(frame, target, rng):
    for path in frame.parent.iterdir():
        path.unlink()


def broken_target(frame, target, rng):
    target.write_bytes(encoded(rng, "JPEG")[:-30])


def odd_name(frame, target, rng):
    for folder in (frame.parent, target.parent):
        folder.rename(folder.with_name(f"{ODD_NAME}-{folder.name}"))


SPOILERS = [
    cut("JPEG"), cut("PNG"), cut("WEBP"), cut("BMP"), cut("TIFF"),
    content(lambda rng: b""), content(lambda rng: bytes(999)), content(lambda rng: rng.bytes(999)),
    content(lambda rng: b"<html>404</html>"), content(lambda rng: b"%PDF-1.7\n" + rng.bytes(99)),
    content(lambda rng: b"\xff\xd8\xff" + rng.bytes(500) + b"\xff\xd9"),
    content(lambda rng: b"\x89PNG\r\n\x1a\n" + rng.bytes(500)),
    content(lambda rng: encoded(rng, "PCX")),
    content(flipped_png), content(huge_png), content(huge_jpeg), content(tiny), huge_file,
    wrong_suffix,
    link_loop, dead_link, link_to_folder, group_loop, folder_for_a_frame, pipe, unreadable,
    no_target, no_target_folder, two_targets, no_frames, broken_target, odd_name,
]  # fmt: skip


@pytest.fixture
def spoilt(make_tree):
    """100 good groups with 200 bad ones between them."""
    names = [f"{k:03d}" for k in range(300)]
    root = make_tree(train=dict.fromkeys(names, 2))
    (root / "labels.json").unlink()
    rng = np.random.default_rng(0)
    bad = [name for name in names if int(name) % 3]
    for k, name in enumerate(bad):
        folder = root / "train" / "inputs" / name
        spoil = SPOILERS[k % len(SPOILERS)]
        spoil(folder / f"img_{k % 2}.jpg", root / "train" / "gt" / name / "img_2.jpg", rng)
    return root, bad


def test_200_malformed_groups_are_listed_and_no_good_one_is_lost(spoilt, tmp_path):
    root, bad = spoilt
    checked = check_tree(root)
    assert [g.name for g in checked.splits["train"]] == [f"{k:03d}" for k in range(0, 300, 3)]
    listed = {problem.group.rpartition("/")[2][-3:] for problem in checked.problems}
    assert listed == set(bad) and checked.left_out == len(bad) == 200
    for problem in checked.problems:
        line = str(problem)
        assert problem.reason and str(root) in line and "\n" not in line
        assert line.encode()  # can be printed, however odd the name is
    write_shards(tmp_path / "out", checked.splits, report=lambda _: None)
    assert len(open_source(tmp_path / "out", "train")) == 100
