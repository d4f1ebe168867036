"""Clean pictures of plates: reading, dividing, finding corners, setting anew, photographing.

The pictures are drawn plates seen at an angle; real ones are looked at where there are any.
"""

import dataclasses
import json
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.images import decode_image, read_image
from data_pipeline.synthetic import letters
from data_pipeline.synthetic.corners import GOOD_FIT, locate, style_of
from data_pipeline.synthetic.photographed import PictureSource
from data_pipeline.synthetic.pictures import (
    held_out_texts,
    province_weights,
    read_pictures,
    take_part,
)
from data_pipeline.synthetic.plates import draw_plate
from lpdiff_jax.cli import main

TEXTS = [
    "皖A12345", "皖AB6789", "皖AC0D1E", "皖AF9G87", "京BH6J54",
    "京CK3L21", "沪DM0N98", "浙EP7Q65", "苏FR4S32", "鲁GT1U00",
]  # fmt: skip


def photo(text: str, colour: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawn plate seen a little from the side, uint8 RGB, and its corners in the picture."""
    rng = np.random.default_rng(seed)
    style = style_of(text, colour)
    assert style is not None
    plate = draw_plate(text, dataclasses.replace(style, patterns={text: 1.0}), 0.5)[..., :3]
    height, width = plate.shape[:2]
    box = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    corners = (box + np.array([14, 10]) + rng.uniform(-6, 6, (4, 2))).astype(np.float32)
    warp = cv2.getPerspectiveTransform(box - 0.5, corners - 0.5)
    size = width + 28, height + 20
    image = cv2.warpPerspective(plate, warp, size, borderMode=cv2.BORDER_CONSTANT)
    noisy = cv2.GaussianBlur(image, (0, 0), 0.7) * 0.8 + rng.normal(20, 3, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), corners


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures with labels and corners; the last one is yellow."""
    root = tmp_path_factory.mktemp("pictures")
    corners = {}
    for k, text in enumerate(TEXTS):
        colour = "yellow" if k == len(TEXTS) - 1 else "blue"
        image, place = photo(text, colour, k)
        cv2.imwrite(str(root / f"p{k}.png"), image[..., ::-1])
        corners[f"p{k}"] = {"corners": place.tolist(), "colour": colour}
    (root / "labels.json").write_text(json.dumps({f"p{k}": t for k, t in enumerate(TEXTS)}))
    (root / "corners.json").write_text(json.dumps(corners))
    return root


def texts_of(source: PictureSource, count: int) -> list[str]:
    return [source[k].text or "" for k in range(count)]


# Reading


def test_what_is_known_of_a_picture(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.zeros((36, 136, 3), np.uint8))
    labels = {"a": "皖A1", "b": "皖A2", "c": "皖A3", "d": "皖A4", "gone": "皖A5"}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    meta = {
        "a": {"plate_box": [10, 5, 100, 30]},
        "b": {"original_size": [84, 21]},
        "c": {"original_size": None, "colour": "yellow"},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    a, b, c, d = read_pictures(tmp_path)
    assert a.corners == ((10, 5), (110, 5), (110, 35), (10, 35)) and a.aspect == 0
    assert (b.aspect, c.aspect, d.aspect) == (4.0, -1.0, 0.0)
    assert (c.colour, d.colour, d.corners, d.text) == ("yellow", "", None, "皖A4")
    found = {"a": {"corners": [[1, 2], [3, 4], [5, 6], [7, 8]]}}
    (tmp_path / "corners.json").write_text(json.dumps(found))
    assert read_pictures(tmp_path)[0].corners == ((1, 2), (3, 4), (5, 6), (7, 8))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"p0": {"plate_box": [1, 2, 3]}}, "'p0': plate_box is .x, y, width, height"),
        ({"p0": {"corners": [[1, 2], [3, 4]]}}, "'p0': .*2 corners"),
        ({"p0": {"original_size": [84, 0]}}, "'p0': .*original_size"),
        ({"p0": 3}, "must be an object of picture name -> object"),
    ],
)
def test_a_fault_in_what_is_known_is_named(folder: Path, tmp_path: Path, meta, message) -> None:
    (tmp_path / "found.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=message):
        read_pictures(folder, tmp_path / "found.json")


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.json: no such file"):
        read_pictures(tmp_path)
    (tmp_path / "labels.json").write_text('{"a": "皖A12345"}')
    with pytest.raises(DataError, match="no picture has a text"):
        read_pictures(tmp_path)
    with pytest.raises(DataError, match=r"x\.json: no such file; `lpdiff locate` writes it"):
        read_pictures(tmp_path, tmp_path / "x.json")


# Dividing


def test_the_held_out_texts_depend_on_the_texts_alone() -> None:
    texts = [f"皖A{k:05d}" for k in range(100)]
    aside = held_out_texts(texts, 20)
    assert len(aside) == 20 and aside == held_out_texts([*texts[::-1], *texts], 20)
    assert aside < held_out_texts(texts, 30)
    # Taking plates away changes nothing for those that stay.
    fewer = held_out_texts(texts[:50], 20)
    assert aside & set(texts[:50]) <= fewer


def test_parts_share_no_text_and_leave_none_out(folder: Path) -> None:
    pictures = read_pictures(folder)
    train, held, whole = (take_part(pictures, part, 4) for part in ("train", "held-out", "all"))
    assert len(held) == 4 and len(train) == 6 and len(whole) == 10
    assert {p.text for p in train}.isdisjoint(p.text for p in held)
    for part, count, message in (
        ("test", 4, "must be one of"), ("train", -1, "at least 0"), ("train", 10, "is left")
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            take_part(pictures, part, count)


def test_held_out_plates_are_never_trained_on(folder: Path) -> None:
    source = PictureSource(str(folder), held_out=4, num_frames=1, recombine=0.3)
    shown = texts_of(source, 60)
    assert set(shown).isdisjoint(source.aside) and len(source.aside) == 4
    own = {p.text for p in source.pictures}
    assert own <= set(shown)  # each of the six comes up
    assert 8 < sum(text not in own for text in shown) < 30
    assert {p.text for p in source._case.pictures}.isdisjoint(source.aside)


def test_held_out_plates_come_in_turn(folder: Path) -> None:
    source = PictureSource(str(folder), held_out=4, part="held-out", num_frames=1)
    assert texts_of(source, 4) == texts_of(source, 8)[4:]
    assert set(texts_of(source, 4)) == source.aside


def test_provinces_are_balanced() -> None:
    texts = ["皖A1"] * 90 + ["京A1"] * 9 + ["沪A1"]
    share = [province_weights(texts, balance)[[0, 90, 99]] for balance in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(share[0], 0.01)
    np.testing.assert_allclose(share[2] * [90, 9, 1], 1 / 3)
    totals = share[1] * [90, 9, 1]
    np.testing.assert_allclose(totals / totals[2], np.sqrt([90, 9, 1]))


# Corners


@pytest.mark.parametrize(
    ("text", "colour"), [("皖A12345", "blue"), ("鲁GT1U00", "yellow"), ("京AD12345", "")]
)
def test_corners_are_found_where_the_text_is_known(text: str, colour: str) -> None:
    image, corners = photo(text, colour, 5)
    found = locate(image, text, colour)
    assert found is not None and found[1] > 0.9
    assert np.abs(found[0] - corners).max() < 2.0


def test_a_wrong_text_fits_less_and_an_impossible_one_not_at_all() -> None:
    image, _ = photo("皖A12345", "blue", 5)
    right, wrong = (locate(image, text) for text in ("皖A12345", "京BH6J54"))
    assert right is not None and (wrong is None or wrong[1] < right[1] - 0.15)
    assert locate(image, "HELLO") is None
    assert locate(np.zeros_like(image), "皖A12345") is None


def test_the_command_writes_the_corners_that_it_finds(folder: Path, tmp_path, capsys) -> None:
    output = tmp_path / "found.json"
    assert main(["locate", str(folder), "--output", str(output)]) == 0
    assert "10 of 10 plates found" in capsys.readouterr().out
    found = json.loads(output.read_text(encoding="utf-8"))
    known = json.loads((folder / "corners.json").read_text(encoding="utf-8"))
    for name, entry in found.items():
        assert np.abs(np.array(entry["corners"]) - known[name]["corners"]).max() < 1.5
        assert entry["fit"] >= GOOD_FIT


# Setting anew


@pytest.fixture(scope="module")
def case(folder: Path) -> letters.TypeCase:
    return letters.TypeCase(read_pictures(folder))


@pytest.mark.parametrize("colour", list(letters.COLOURS))
def test_a_plate_set_anew_shows_its_text_in_its_colour(case, colour: str) -> None:
    found = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sight = letters.set_anew(case.pictures[seed], case, colour, rng)
        assert sight is not None and sight.text not in TEXTS
        assert len(sight.text) == (8 if colour == "green" else 7)
        # A drawn plate of the text fits; dark letters on white as on yellow.
        seen = "yellow" if colour == "white" else colour
        fit = locate(sight.image, sight.text, seen, sight.corners)
        other = sight.text[:2] + sight.text[2:][::-1]
        worse = locate(sight.image, other, seen, sight.corners)
        assert fit is not None and fit[1] > 0.75
        assert np.abs(fit[0] - sight.corners).max() < 6.0
        found += worse is None or worse[1] < fit[1] - 0.05
    assert found >= 2  # a text may look like its reverse
    low, high = sight.corners.astype(int)[[0, 2]]
    red, green, blue = np.median(sight.image[low[1] : high[1], low[0] : high[0]], axis=(0, 1))
    assert {
        "blue": blue > 1.3 * red, "yellow": red > 1.3 * blue,
        "green": green > 1.1 * red, "white": max(red, green, blue) < 1.15 * min(red, green, blue),
    }[colour]  # fmt: skip


def test_a_plate_may_keep_its_text(case) -> None:
    rng = np.random.default_rng(0)
    sight = letters.set_anew(case.pictures[0], case, "yellow", rng, keep_text=True)
    assert sight is not None and sight.text == TEXTS[0]
    fit = locate(sight.image, sight.text, "yellow", sight.corners)
    assert fit is not None and fit[1] > 0.8
    # Eight characters cannot be had of seven.
    green = letters.set_anew(case.pictures[0], case, "green", rng, keep_text=True)
    assert green is not None and len(green.text) == 8


def test_a_yellow_plate_stays_yellow_and_lends_its_letters(case) -> None:
    sight = letters.set_anew(case.pictures[9], case, "green", np.random.default_rng(0))
    assert sight is not None and len(sight.text) == 7
    low, high = sight.corners.astype(int)[[0, 2]]
    red, _, blue = np.median(sight.image[low[1] : high[1], low[0] : high[0]], axis=(0, 1))
    assert red > 1.5 * blue
    covered = [box.coverage.mean() for box in case.boxes(9)]
    assert min(covered) > 50 and max(covered) < 160  # dark letters are the ink here, too


def test_texts_to_avoid_do_not_come_about(case) -> None:
    class Everything:
        def __contains__(self, text: object) -> bool:
            return True

    rng = np.random.default_rng(0)
    assert letters.set_anew(case.pictures[0], case, "blue", rng, avoid=Everything()) is None


def test_a_plate_without_contrast_is_left_as_it_is(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 180, 3), 90, np.uint8))
    (tmp_path / "labels.json").write_text('{"a": "皖A12345"}')
    (tmp_path / "meta.json").write_text('{"a": {"plate_box": [5, 5, 170, 50]}}')
    grey = letters.TypeCase(read_pictures(tmp_path))
    assert letters.set_anew(grey.pictures[0], grey, "blue", np.random.default_rng(0)) is None
    example = PictureSource(str(tmp_path), recombine=1.0, num_frames=1)[0]
    assert example.text == "皖A12345"


# Photographing


def test_a_group_depends_on_seed_and_index_alone(folder: Path) -> None:
    options = {"recombine": 0.5, "colours": {"blue": 1.0, "green": 1.0}}
    first, second = (PictureSource(str(folder), seed=3, **options) for _ in range(2))
    assert first[5] == second[5] == pickle.loads(pickle.dumps(second))[5]
    assert first[5] != first[6] != PictureSource(str(folder), seed=4, **options)[6]
    order = [first[k] for k in (2, 0, 1)]
    assert [second[k] for k in (0, 1, 2)] == [order[1], order[2], order[0]]


def test_pictures_look_like_groups(folder: Path) -> None:
    source = PictureSource(str(folder), num_frames=4)
    for index in range(6):
        example = source[index]
        frames = [decode_image(data, "") for data in example.frames]
        target = decode_image(example.target or b"", "")
        assert len(frames) == 4 and all(20 <= frame.shape[1] <= 70 for frame in frames)
        assert target.shape[1] > 100 and target.std() > 10
        assert target.std() > np.mean([frame.std() for frame in frames])
        assert example.text in TEXTS


def test_the_ground_truth_shows_the_plate_that_is_named(folder: Path) -> None:
    source = PictureSource(str(folder), retouch={"loose": 0.0, "contrast": (0.9, 1.0)})
    fits = []
    for index in range(6):
        example = source[index]
        colour = "yellow" if example.text == TEXTS[-1] else "blue"
        fit = locate(decode_image(example.target or b"", ""), example.text or "", colour)
        fits.append(0.0 if fit is None else fit[1])
    assert np.mean(fits) > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retouch": {"zoom": 1.0}}, "retouch.zoom: no such effect"),
        ({"retouch": {"contrast": 0.5}}, r"retouch.contrast = 0.5: must be two numbers"),
        ({"retouch": {"lean": -1.0}}, r"retouch.lean = -1.0: must be a number from 0 up"),
        ({"colours": {"pink": 1.0}}, "colours .*must be weights of blue, yellow"),
        ({"recombine": 1.5}, "recombine is 1.5"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"preset": "dreamlike"}, "dreamlike: no such preset"),
    ],
)
def test_a_mistake_is_named(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PictureSource(str(folder), **options)


def test_setting_anew_needs_corners(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(DataError, match=r"no corners are known.*run `lpdiff locate"):
        PictureSource(str(folder), corners=str(tmp_path / "none.json"), recombine=0.5)


def test_the_command_writes_train_and_held_out_plates(folder: Path, tmp_path, capsys) -> None:
    common = ["--pictures", str(folder), "--held-out", "4", "--seed", "1"]
    both = tmp_path / "both"
    assert main(["synthesize", str(both), "--groups", "6", "--val-groups", "4", *common]) == 0
    labels = json.loads((both / "labels.json").read_text(encoding="utf-8"))
    train, val = (
        {labels[path.name] for path in (both / split / "gt").iterdir()}
        for split in ("train", "val")
    )
    assert train.isdisjoint(val) and len(val) == 4 and train | val <= set(TEXTS)
    anew = tmp_path / "anew"
    known = ["--corners", str(folder / "corners.json"), "--recombine", "1"]
    assert main(["synthesize", str(anew), "--groups", "4", *known, *common]) == 0
    new = set(json.loads((anew / "labels.json").read_text(encoding="utf-8")).values())
    assert len(new) == 4 and new.isdisjoint(TEXTS)
    held = tmp_path / "held"
    assert main(["synthesize", str(held), "--groups", "4", "--part", "held-out", *common]) == 0
    assert not (held / "train").exists() and len(list((held / "val" / "gt").iterdir())) == 4
    assert main(["synthesize", str(tmp_path / "x"), "--groups", "1", "--uniform", *common]) == 2
    assert "are for drawn plates" in capsys.readouterr().err


@pytest.mark.skipif("LPDIFF_SHARED" not in os.environ, reason="needs real pictures")
def test_real_plates_are_found_and_set_anew() -> None:
    pictures = read_pictures(Path(os.environ["LPDIFF_SHARED"]) / "data" / "real_ccpd")[::100]
    boxes = [None if p.corners is None else np.array(p.corners) for p in pictures]
    fits = [
        locate(read_image(p.path), p.text, box=box) for p, box in zip(pictures, boxes, strict=True)
    ]
    good = [fit is not None and fit[1] >= GOOD_FIT for fit in fits]
    assert sum(good) >= 0.7 * len(pictures)
