import functools
import hashlib
import http.server
import pickle
import shutil
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from tensorflow_datasets.core.dataset_metadata import valid_tags  # noqa: E402
from tensorflow_datasets.core.download.checksums import load_url_infos  # noqa: E402

from data_pipeline.errors import DataError  # noqa: E402
from data_pipeline.mdlp.__main__ import main  # noqa: E402
from data_pipeline.mdlp.mdlp_dataset_builder import (  # noqa: E402
    DRIVE_ID,
    ENCODED,
    URL,
    Builder,
    TfdsSource,
    register_checksum,
)
from data_pipeline.pipeline import eval_batches  # noqa: E402
from data_pipeline.prepare import check_tree, write_shards  # noqa: E402
from data_pipeline.sources import list_splits, open_source  # noqa: E402


def build(data_dir, manual_dir):
    builder = Builder(data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


@pytest.fixture
def tree(make_tree):
    """`MDLP` in a manual folder; one group's images are of other kinds, ending in zero bytes."""
    root = make_tree("manual/MDLP", train={str(k): 1 + k % 4 for k in range(11)}, val={"a": 2})
    frame = root / "train/inputs/3/img_0.jpg"
    black = np.zeros((4, 8, 3), np.uint8)
    frame.with_suffix(".bmp").write_bytes(cv2.imencode(".bmp", black)[1].tobytes())
    frame.unlink()
    return root


def test_tfds_and_our_shards_give_the_same_bytes(tree, tmp_path):
    builder = build(tmp_path / "tfds", tree.parent)
    assert builder.info.full_name == "mdlp/1.0.0"
    assert {s: i.num_examples for s, i in builder.info.splits.items()} == {"train": 11, "val": 1}
    write_shards(tmp_path / "shards", check_tree(tree).splits, report=lambda _: None)
    for split in ("train", "val"):
        ours, theirs = open_source(tmp_path / "shards", split), TfdsSource(builder, split)
        assert len(ours) == len(theirs)
        assert [theirs[i] for i in range(len(theirs))] == [ours[i] for i in range(len(ours))]
        by_name = tfds.data_source(
            "mdlp", split=split, data_dir=tmp_path / "tfds", download=False, decoders=ENCODED
        )
        assert [record["target"] for record in by_name] == [
            ours[i].target for i in range(len(ours))
        ]
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(("inside", "kind"), [(".", "zip"), ("MDLP", "zip"), ("MDLP", "gztar")])
def test_an_archive_is_unpacked(tree, tmp_path, inside, kind):
    packed = tmp_path / "packed"
    base = tree if inside == "." else tree.parent
    shutil.make_archive(str(packed / "MDLP"), kind, base, inside)
    source = TfdsSource(build(tmp_path / "tfds", packed), "train")
    assert source[3] == open_source(tree, "train")[3]


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "MDLP.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"MDLP\.zip: cannot be unpacked"):
        build(tmp_path / "tfds", tmp_path)


def test_the_pipeline_reads_what_tfds_wrote(tree, tmp_path):
    folder = build(tmp_path / "tfds", tree.parent).data_dir
    assert list_splits(folder) == ["train", "val"]
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        open_source(folder, "test")
    source = open_source(folder, "val")
    assert pickle.loads(pickle.dumps(source))[0] == source[0]
    batch = next(iter(eval_batches(source, image_size=(8, 16), max_frames=3, batch_size=1)))
    assert batch["frame_mask"].tolist() == [[True, True, False]]


@pytest.mark.parametrize("empty", [True, False])
def test_the_message_says_where_to_put_the_archive(tmp_path, empty):
    manual = tmp_path / "manual"
    manual.mkdir()
    if not empty:
        (manual / "other.txt").write_text("x")
    # TFDS itself refuses an empty folder, with our instructions in its message.
    error = AssertionError if empty else DataError
    with pytest.raises(error, match=r"(?s)manual.*`MDLP\.zip`.* into the manual folder"):
        build(tmp_path / "tfds", manual)


def test_a_broken_tree_is_not_built(tree, tmp_path):
    (tree / "train/gt/0").rename(tree / "train/gt/nobody")
    with pytest.raises(DataError, match=r"train/gt/0: missing \(2 problems in all\)"):
        build(tmp_path / "tfds", tree.parent)
    assert not (tmp_path / "tfds/mdlp/1.0.0").exists()


def test_the_folder_s_files_describe_the_data_set(tmp_path):
    folder = Path(sys.modules[Builder.__module__].__file__).parent
    info = Builder(data_dir=tmp_path).info
    assert DRIVE_ID in info.description and "no licence" in info.description.replace("\n", " ")
    assert "17831--17840" in info.citation and "Nguyen, Anh" in info.citation
    tags = [line.split(" #")[0] for line in (folder / "TAGS.txt").read_text().splitlines()]
    assert set(tags) <= set(valid_tags())
    dummy = build(tmp_path, folder / "dummy_data")
    assert {s: i.num_examples for s, i in dummy.info.splits.items()} == {"train": 4, "val": 2}


@pytest.fixture
def address(tree, tmp_path):
    """A server on this machine that gives out the tree as `some.zip`."""
    shutil.make_archive(str(tmp_path / "served/some"), "zip", tree.parent, "MDLP")
    handler = functools.partial(QuietHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/some.zip"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_tfds_downloads_it_where_the_user_allows_it(tree, tmp_path, address, monkeypatch):
    monkeypatch.setattr(Builder, "URL", address)
    (tmp_path / "empty").mkdir()
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "empty")
    builder = Builder(data_dir=tmp_path / "tfds", allow_download=True)
    builder.download_and_prepare(download_config=config, download_dir=tmp_path / "downloads")
    assert TfdsSource(builder, "train")[3] == open_source(tree, "train")[3]
    assert "tensorflow" not in sys.modules


def test_a_download_that_fails_says_what_to_do(tmp_path, address, monkeypatch):
    monkeypatch.setattr(Builder, "URL", address.replace("some", "none"))
    builder = Builder(data_dir=tmp_path / "tfds", allow_download=True)
    with pytest.raises(DataError, match=r"(?s)none\.zip: cannot be downloaded.*1ebm"):
        builder.download_and_prepare(download_dir=tmp_path / "downloads")


def test_whoever_has_the_file_records_its_checksum(tmp_path):
    archive, table = tmp_path / "MDLP.zip", tmp_path / "checksums.tsv"
    archive.write_bytes(b"the authors' file")
    register_checksum(archive, table)
    digest = hashlib.sha256(b"the authors' file").hexdigest()
    assert table.read_text().split() == [URL, "17", digest, "MDLP.zip"]
    assert load_url_infos(table)[URL].checksum == digest


def test_the_command_builds(tree, tmp_path, capsys):
    arguments = ["--manual-dir", str(tree.parent), "--data-dir", str(tmp_path / "tfds")]
    assert main(arguments) == 0
    assert "train: 11 groups, val: 1 groups" in capsys.readouterr().out
    assert open_source(tmp_path / "tfds/mdlp/1.0.0", "val")[0].name == "a"


def test_the_command_tells_mistakes(tmp_path, capsys):
    (tmp_path / "manual").mkdir()
    arguments = ["--manual-dir", str(tmp_path / "manual"), "--data-dir", str(tmp_path / "tfds")]
    assert main(arguments) == 2
    assert "Download it with a browser" in capsys.readouterr().err
    assert main(["--register-checksum", str(tmp_path / "none.zip")]) == 2
    assert "none.zip: No such file" in capsys.readouterr().err
