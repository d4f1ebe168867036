"""Several sources in one stream: shares, order, resumption, what a configuration may say."""

import json

import cv2
import grain
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.mixing import MixedSource, open_mix
from data_pipeline.pipeline import decode_text, train_dataset
from data_pipeline.sources import open_source

SIZE = (16, 32)


@pytest.fixture
def pictures(tmp_path):
    """A folder of six small made-up plates."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels = {f"p{k}": f"皖A0000{k}" for k in range(6)}
    for name in labels:
        image = cv2.resize(rng.integers(0, 256, (3, 9, 3), np.uint8), (90, 30))
        cv2.imwrite(str(folder / f"{name}.png"), image)
    (folder / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    return folder


@pytest.fixture
def sections(make_tree, pictures):
    return {
        "stored": {"kind": "root", "path": str(make_tree(train={str(k): 3 for k in range(5)}))},
        "drawn": {"kind": "drawn", "weight": 2, "styles": ["cn-blue"]},
        "real": {"kind": "pictures", "weight": 5, "path": str(pictures), "held_out": 2},
    }


def stream(mix, **options):
    settings = {"image_size": SIZE, "num_frames": 3, "global_batch_size": 4, "seed": 7}
    return train_dataset(mix, **(settings | options))


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_every_stretch_holds_the_shares_that_the_weights_say():
    mix = MixedSource((range(11), range(100, 107), range(3)), (1.0, 2.0, 5.0))
    keys = stream(mix, global_batch_size=8).batches
    # The keys alone: what is read at them does not matter here.
    indices = np.concatenate([keys.parents[0][k]["index"] for k in range(40)])
    part = np.searchsorted(mix.starts, indices, side="right") - 1
    for k, share in enumerate((1 / 8, 2 / 8, 5 / 8)):
        counts = np.cumsum(part == k)
        assert np.abs(counts - share * np.arange(1, 321)).max() < 2.0
    # Each part is shown whole before any of it comes again, in another order each time.
    third = indices[part == 2][:198].reshape(-1, 3)
    assert (np.sort(third) == [18, 19, 20]).all() and len(np.unique(third, axis=0)) == 6


def test_an_index_names_one_example_of_one_part():
    mix = MixedSource(("abc", "de"), (1.0, 9.0))
    assert len(mix) == 5 and "".join(mix[k] for k in range(5)) == "abcde"
    with pytest.raises(IndexError):
        mix[5]


def test_all_kinds_come_in_one_batch(sections):
    mix = open_mix(sections, num_frames=2, seed=3)
    batch = next(iter(stream(mix, global_batch_size=8)))
    part = np.searchsorted(mix.starts, batch["index"], side="right") - 1
    assert sorted(part) == [0, 1, 1, 2, 2, 2, 2, 2]
    for k, index in zip(part, batch["index"], strict=True):
        example = mix[int(index)]
        assert len(example.frames) == (3 if k == 0 else 2) and example.target
        assert decode_text(batch["text"][list(batch["index"]).index(index)]) == example.text


def test_the_stream_is_the_same_again_and_after_an_interruption(sections):
    whole = take(iter(stream(open_mix(sections, 2, 3))), 4)
    iterator = iter(stream(open_mix(sections, 2, 3)))
    assert_same(take(iterator, 2), whole[:2])
    again = iter(stream(open_mix(sections, 2, 3)))
    again.set_state(json.loads(json.dumps(iterator.get_state())))
    assert_same(take(again, 2), whole[2:])
    other = next(iter(stream(open_mix(sections, 2, 4))))
    assert (other["frames"] != whole[0]["frames"]).any()


def test_output_is_the_same_after_a_checkpoint(sections):
    endless = stream(open_mix(sections, 1, 3), global_batch_size=2)
    finite = type(endless)(endless.batches[:4], share=(0, 1), workers=0, identity=endless.identity)
    grain.experimental.assert_equal_output_after_checkpoint(finite)


def test_processes_and_workers_share_one_stream(sections):
    mix = open_mix(sections, 2, 3)
    whole = take(iter(stream(mix)), 2)
    parts = [take(iter(stream(mix, process_index=p, process_count=2)), 2) for p in range(2)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)]
    assert_same(joined, whole)
    working = iter(stream(mix, workers=1))
    try:
        assert_same(take(working, 2), whole)
    finally:
        working.close()


@pytest.mark.parametrize(
    "change", [{"drawn": {"kind": "drawn", "weight": 3}}, {"more": {"kind": "drawn"}}]
)
def test_another_mix_is_not_taken_up(sections, change):
    state = iter(stream(open_mix(sections, 2, 3))).get_state()
    with pytest.raises(DataError, match="sequence cannot be continued"):
        iter(stream(open_mix(sections | change, 2, 3))).set_state(state)


def test_what_one_part_holds_out_no_other_shows(pictures):
    section = {"kind": "pictures", "path": str(pictures)}
    mix = open_mix({"a": section | {"held_out": 2}, "b": section}, 1, 0)
    aside = mix.parts[0].aside
    assert len(aside) == 2
    for part in mix.parts:
        assert {p.text for p in part.pictures}.isdisjoint(aside) and len(part.pictures) == 4


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "film"}, "sources.x.kind = 'film': must be 'root' or one of drawn, pictures"),
        ({"kind": "root"}, "sources.x: of kind 'root' has `path`"),
        ({"kind": "pictures"}, "sources.x: `path` is missing; a source of kind 'pictures' has"),
        ({"kind": "drawn", "groups": 3}, "sources.x: unknown: groups"),
        ({"kind": "drawn", "preset": "dreamlike"}, "dreamlike: no such preset"),
        ({"kind": "drawn", "camera": {"zoom": (1, 2)}}, "camera.zoom: no such effect"),
        ({"kind": "drawn", "camera": {"qp": (2, 1)}}, "camera.qp = .*the smaller first"),
        ({"kind": "drawn", "weight": -1}, "must be positive"),
        ({"kind": "drawn", "weight": 0}, "every weight is 0"),
    ],
)
def test_a_mistake_in_a_section_is_named(section, message):
    with pytest.raises(DataError, match=message):
        open_mix({"x": section}, 3, 0)


def test_a_section_of_weight_0_is_left_out(sections):
    sections["stored"]["weight"] = 0
    assert len(open_mix(sections, 2, 3).parts) == 2


def test_a_single_source_keeps_its_order(make_tree):
    tree = open_source(make_tree(train={str(k): 3 for k in range(5)}), "train")
    state = iter(stream(tree)).get_state()
    assert state == {"step": 0, "examples": 5, "global_batch_size": 4, "seed": 7}
