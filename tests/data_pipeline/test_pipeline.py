import json
import logging
import subprocess
import sys
from dataclasses import replace

import grain
import numpy as np
import pytest

from data_pipeline import pipeline
from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.images import decode_image, resize
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.sources import open_source

SIZE = (16, 32)


def noise(frames, target, size, rng):
    """Stands for an augmentation: leaves a trace of the random numbers that it was given."""
    return frames, rng.integers(0, 256, (*size, 3), np.uint8)


def train(source, **options):
    settings = {"image_size": SIZE, "num_frames": 3, "global_batch_size": 4, "seed": 7}
    return pipeline.train_dataset(source, **(settings | {"augment": noise} | options))


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.fixture
def source(make_tree):
    return open_source(make_tree(train={str(k): 1 + k % 4 for k in range(11)}), "train")


def test_a_batch_holds_what_the_files_hold(source):
    batch = next(iter(train(source, num_frames=3, global_batch_size=8, augment=None)))
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "frames": ((8, 3, *SIZE, 3), "uint8"),
        "frame_mask": ((8, 3), "bool"),
        "target": ((8, *SIZE, 3), "uint8"),
        "text": ((8, 32), "uint8"),
        "corners": ((8, 4, 4, 2), "float32"),
        "index": ((8,), "int64"),
    }
    for b, index in enumerate(batch["index"]):
        example = source[int(index)]
        kept = [resize(decode_image(data, ""), SIZE) for data in example.frames[-3:]]
        assert (
            batch["frame_mask"][b].sum() == len(kept) and batch["frame_mask"][b, : len(kept)].all()
        )
        np.testing.assert_array_equal(batch["frames"][b, : len(kept)], kept)
        assert (batch["frames"][b, len(kept) :] == 0).all()
        target = resize(decode_image(example.target, ""), SIZE)
        np.testing.assert_array_equal(batch["target"][b], target)
        assert pipeline.decode_text(batch["text"][b]) == example.text
    assert np.isnan(batch["corners"]).all()  # of none of these plates are they known


def test_corners_come_with_the_frames_that_are_kept(source):
    """Those of the last frames first, those of the ground truth last."""
    frames = np.random.default_rng(0).random((4, 4, 2)).astype(np.float32)
    quads = tuple(tuple(map(tuple, quad)) for quad in frames.tolist())
    whole = next(source[i] for i in range(len(source)) if len(source[i].frames) == 3)
    known = replace(whole, corners=quads)
    short = replace(known, frames=known.frames[:1], corners=(quads[0], quads[3]))
    batch = next(iter(train([known, short], num_frames=2, global_batch_size=2, augment=None)))
    for b, index in enumerate(batch["index"]):
        if index == 0:
            np.testing.assert_allclose(batch["corners"][b], frames[1:], atol=1e-6)
        else:
            np.testing.assert_allclose(batch["corners"][b, [0, 2]], frames[[0, 3]], atol=1e-6)
            assert np.isnan(batch["corners"][b, 1]).all()


def test_an_epoch_shows_each_example_once_and_the_next_in_another_order(source):
    indices = np.concatenate(
        [b["index"] for b in take(iter(train(source, global_batch_size=11)), 3)]
    )
    epochs = indices.reshape(3, 11)
    for epoch in epochs:
        assert sorted(epoch) == list(range(11))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    other = next(iter(train(source, global_batch_size=11, seed=8)))["index"]
    assert (other != epochs[0]).any()


def test_augmentation_differs_between_examples_and_epochs(source):
    draws = np.concatenate([b["target"] for b in take(iter(train(source)), 11)])
    assert len({draw.tobytes() for draw in draws}) == 44


@pytest.mark.parametrize("count", [2, 4])
def test_the_sequence_is_the_same_for_any_number_of_processes(source, count):
    whole = take(iter(train(source)), 7)
    parts = [
        take(iter(train(source, process_index=p, process_count=count)), 7) for p in range(count)
    ]
    joined = [
        {key: np.concatenate([batch[key] for batch in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


PROCESS = """
import sys
import numpy as np
from data_pipeline.augment import AugmentConfig
from data_pipeline.pipeline import train_dataset
from data_pipeline.sources import open_source

root, out, index, count = sys.argv[1:]
batches = iter(train_dataset(
    open_source(root, "train"), image_size=(16, 32), num_frames=3, global_batch_size=8, seed=5,
    process_index=int(index), process_count=int(count), augment=AugmentConfig(),
))
taken = [next(batches) for _ in range(4)]
np.savez(out, **{key: np.stack([batch[key] for batch in taken]) for key in taken[0]})
"""


def test_real_processes_share_one_sequence(make_tree, tmp_path):
    root = make_tree(train={str(k): 1 + k % 4 for k in range(11)})

    def run(count):
        outs = [tmp_path / f"{p}-of-{count}.npz" for p in range(count)]
        processes = [
            subprocess.Popen([sys.executable, "-c", PROCESS, root, out, str(p), str(count)])
            for p, out in enumerate(outs)
        ]
        assert [process.wait(120) for process in processes] == [0] * count
        parts = [np.load(out) for out in outs]
        return {key: np.concatenate([part[key] for part in parts], 1) for key in parts[0]}

    whole = run(1)
    for count in (2, 4):
        assert_same([run(count)], [whole])


def test_output_is_the_same_after_a_checkpoint(source):
    endless = train(source)
    finite = type(endless)(endless.batches[:6], share=(0, 1), workers=0, identity=endless.identity)
    grain.experimental.assert_equal_output_after_checkpoint(finite)


def test_resuming_continues_the_sequence(source):
    whole = take(iter(train(source)), 9)
    iterator = iter(train(source))
    take(iterator, 4)
    state = json.loads(json.dumps(iterator.get_state()))
    ahead = take(iterator, 5)
    assert_same(ahead, whole[4:])
    iterator.set_state(state)  # in the same iterator, and in a new one
    assert_same(take(iterator, 5), whole[4:])
    fresh = iter(train(source))
    fresh.set_state(state)
    assert_same(take(fresh, 5), whole[4:])


def test_resuming_with_another_number_of_processes(source):
    whole = take(iter(train(source)), 6)
    iterator = iter(train(source))
    take(iterator, 3)
    halves = [iter(train(source, process_index=p, process_count=2)) for p in range(2)]
    for half in halves:
        half.set_state(iterator.get_state())
    joined = [
        {key: np.concatenate([a[key], b[key]]) for key in a}
        for a, b in zip(take(halves[0], 3), take(halves[1], 3), strict=True)
    ]
    assert_same(joined, whole[3:])


@pytest.mark.parametrize("change", [{"seed": 8}, {"global_batch_size": 8}])
def test_another_sequence_cannot_be_resumed(source, change):
    state = iter(train(source)).get_state()
    key, value = next(iter(change.items()))
    with pytest.raises(DataError, match=f"{key} = .* this run has {value}"):
        iter(train(source, **change)).set_state(state)


def test_worker_processes_give_the_same_sequence(source):
    whole = take(iter(train(source)), 6)
    iterator = iter(train(source))
    take(iterator, 2)
    working = iter(train(source, workers=2))
    try:
        assert_same(take(working, 2), whole[:2])
        working.set_state(iterator.get_state())
        assert_same(take(working, 4), whole[2:])
    finally:
        working.close()


def test_batches_that_cannot_be_divided(source):
    with pytest.raises(DataError, match="batch size 6 cannot be divided among 4 processes"):
        train(source, global_batch_size=6, process_count=4)
    with pytest.raises(DataError, match="no examples"):
        train([])
    with pytest.raises(DataError, match="seed -1: must be in"):
        train(source, seed=-1)


@pytest.mark.parametrize("count, batch_size", [(1, 4), (2, 4), (4, 8)])
def test_evaluation_counts_each_example_once(source, count, batch_size):
    parts = [
        list(
            pipeline.eval_batches(
                source, image_size=SIZE, max_frames=4, batch_size=batch_size,
                process_index=p, process_count=count,
            )
        )
        for p in range(count)
    ]  # fmt: skip
    assert len({len(part) for part in parts}) == 1
    batches = [batch for part in parts for batch in part]
    assert all(b["frames"].shape == (batch_size // count, 4, *SIZE, 3) for b in batches)
    seen = np.concatenate([b["index"][b["valid"]] for b in batches])
    assert sorted(seen) == list(range(11))
    if count == 1:
        assert list(seen) == list(range(11))


def test_an_image_that_breaks_while_training_is_named(make_tree):
    root = make_tree(train={"a": 2})
    (root / "train/inputs/a/img_1.jpg").write_bytes(b"\xff\xd8\xff\xff\xd9")
    with pytest.raises(DataError, match="group 'a', frame 2: a damaged"):
        next(iter(train(open_source(root, "train"))))


def test_a_group_without_ground_truth_cannot_be_trained_on():
    with pytest.raises(DataError, match="group 'x' has no ground truth"):
        pipeline.Loader([Example("x", (b"",))], SIZE, 3)({"index": np.zeros(1, int)})


def test_texts_come_back_and_long_ones_are_refused():
    assert pipeline.decode_text(pipeline.encode_text("皖AD12345")) == "皖AD12345"
    assert not pipeline.encode_text("").any()
    with pytest.raises(DataError, match="longer than 32 bytes"):
        pipeline.encode_text("皖" * 11)


def test_shards_and_tree_give_the_same_batches(make_tree, tmp_path):
    root = make_tree(train={str(k): 3 for k in range(9)})
    quiet = logging.getLogger("test").debug
    write_shards(tmp_path / "out", check_tree(root).splits, groups_per_shard=4, report=quiet)
    from_tree = take(iter(train(open_source(root, "train"))), 4)
    assert_same(take(iter(train(open_source(tmp_path / "out", "train"))), 4), from_tree)
