from dataclasses import fields, replace

import numpy as np
import pytest

from data_pipeline.augment import AugmentConfig
from data_pipeline.errors import DataError
from data_pipeline.pipeline import train_dataset
from data_pipeline.sources import open_source

OFF = AugmentConfig(
    **{f.name: 0.0 for f in fields(AugmentConfig) if not isinstance(f.default, tuple)}
)
SIZE = (24, 48)


@pytest.fixture
def example():
    """Three frames and a black one for padding; each has another grey ramp from left to right."""
    ramp = np.linspace(60, 190, SIZE[1])[None, :, None] * np.ones((SIZE[0], 1, 3))
    frames = np.stack([ramp - 20, ramp, ramp + 20, ramp * 0]).astype(np.uint8)
    mask = np.array([True, True, True, False])
    text = np.arange(32, dtype=np.uint8)
    return {"frames": frames, "frame_mask": mask, "target": ramp.astype(np.uint8), "text": text}


def run(config, example, seed=0):
    return config(example, np.random.default_rng(seed))


def test_all_off_changes_nothing(example):
    for key, value in run(OFF, example).items():
        np.testing.assert_array_equal(value, example[key])


def test_the_example_that_comes_in_is_left_alone(example):
    before = {key: value.copy() for key, value in example.items()}
    strong = AugmentConfig(blur=1, noise=1, erase=1, drop=0.5, reorder=1)
    after = run(strong, example)
    for key, value in before.items():
        np.testing.assert_array_equal(example[key], value)
    assert {k: (v.shape, v.dtype) for k, v in after.items()} == {
        k: (v.shape, v.dtype) for k, v in before.items()
    }
    assert not after["frames"][~after["frame_mask"]].any()


def test_it_depends_on_the_generator_alone(example):
    config = AugmentConfig(blur=1, noise=1, erase=1)
    once, again, other = (run(config, example, seed)["frames"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


@pytest.mark.parametrize(
    "effect", [{"brightness": 0.2}, {"contrast": 0.5}, {"colour": 0.3}, {"shift": 0.1},
               {"rotation": 8.0}, {"scale": 0.3}],
)  # fmt: skip
def test_the_scene_changes_frames_and_truth_alike(example, effect):
    example["target"] = example["frames"][1]
    after = run(replace(OFF, **effect), example)
    assert (after["target"] != example["target"]).any()
    np.testing.assert_array_equal(after["frames"][1], after["target"])


@pytest.mark.parametrize(
    "effect", [{"exposure": 0.2}, {"noise": 1.0}, {"erase": 1.0}, {"blur": 1.0}]
)
def test_an_exposure_changes_its_own_frame_alone(example, effect):
    example["frames"][:3] = np.random.default_rng(0).integers(0, 256, (*SIZE, 3))
    after = run(replace(OFF, **effect), example)
    np.testing.assert_array_equal(after["target"], example["target"])
    first, second, third, padding = after["frames"]
    assert (first != example["frames"][0]).any()
    assert (first != second).any() and (second != third).any() and not padding.any()


def test_brightness_and_contrast_stay_in_their_range(example):
    light = [run(replace(OFF, brightness=0.1), example, s)["target"] for s in range(50)]
    shifts = [float(x.mean()) - example["target"].mean() for x in light]
    assert -26 <= min(shifts) < -15 and 15 < max(shifts) <= 26
    spreads = [
        run(replace(OFF, contrast=0.2), example, s)["target"].std() / example["target"].std()
        for s in range(50)
    ]
    assert 0.79 <= min(spreads) < 0.85 and 1.15 < max(spreads) <= 1.21


def test_text_is_never_mirrored(example):
    for seed in range(200):
        after = run(AugmentConfig(drop=0, reorder=0, erase=0), example, seed)
        for image in (after["target"], *after["frames"][:3]):
            assert image[:, -8:].mean() > image[:, :8].mean()


def test_lost_frames_are_moved_up_and_one_stays(example):
    counts = []
    for seed in range(100):
        after = run(replace(OFF, drop=0.6), example, seed)
        count = int(after["frame_mask"].sum())
        counts.append(count)
        assert after["frame_mask"][:count].all() and not after["frames"][count:].any()
        means = after["frames"][:count].mean((1, 2, 3))
        assert (np.diff(means) > 0).all()  # still in their order
    assert set(counts) == {1, 2, 3}


def test_reordering_keeps_the_frames(example):
    orders = set()
    for seed in range(60):
        after = run(replace(OFF, reorder=1.0), example, seed)
        means = after["frames"][:3].mean((1, 2, 3))
        np.testing.assert_allclose(np.sort(means), example["frames"][:3].mean((1, 2, 3)))
        orders.add(tuple(np.argsort(means)))
    assert len(orders) == 6


@pytest.mark.parametrize(
    "wrong", [{"blur": 1.5}, {"shift": -0.1}, {"noise_std": (5.0, 1.0)}, {"drop": float("nan")}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(DataError, match=f"augment.{next(iter(wrong))} = "):
        AugmentConfig(**wrong)


def test_the_stream_is_the_same_with_any_number_of_processes(make_tree):
    source = open_source(make_tree(train={str(k): 3 for k in range(6)}), "train")
    settings = {"image_size": SIZE, "num_frames": 3, "global_batch_size": 4, "seed": 1}
    settings["augment"] = AugmentConfig(noise=0.5)
    whole = next(iter(train_dataset(source, **settings)))
    halves = [
        next(iter(train_dataset(source, **settings, process_index=p, process_count=2)))
        for p in range(2)
    ]
    for key in whole:
        np.testing.assert_array_equal(np.concatenate([h[key] for h in halves]), whole[key])
