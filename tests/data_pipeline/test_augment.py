from dataclasses import fields, replace

import numpy as np
import pytest

from data_pipeline.augment import AugmentConfig
from data_pipeline.errors import DataError
from data_pipeline.images import resize
from data_pipeline.pipeline import train_dataset
from data_pipeline.sources import open_source

OFF = AugmentConfig(
    **{f.name: 0.0 for f in fields(AugmentConfig) if not isinstance(f.default, tuple)}
)
SIZE = (24, 48)


def ramp(height, width, level):
    """Grey, brighter to the right."""
    row = np.linspace(level - 60, level + 60, width)[None, :, None]
    return np.repeat(np.repeat(row, height, 0), 3, -1).astype(np.uint8)


# Three frames, each larger and brighter than the one before, and the truth.
FRAMES = [ramp(10, 20, 100), ramp(12, 24, 125), ramp(14, 28, 150)]
TARGET = ramp(30, 60, 125)


def run(config, frames=FRAMES, target=TARGET, seed=0):
    return config(frames, target, SIZE, np.random.default_rng(seed))


def test_all_off_only_resizes():
    frames, target = run(OFF)
    np.testing.assert_array_equal(frames, [resize(frame, SIZE) for frame in FRAMES])
    np.testing.assert_array_equal(target, resize(TARGET, SIZE))


def test_a_camera_that_stands_still_resizes_like_resize():
    still = replace(OFF, shift=1e-12)
    texture = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    moved = run(still, frames=[texture])[0][0].astype(int)
    # The affine map interpolates on a grid of 1/32 pixels, which resizing does not.
    assert np.abs(moved - resize(texture, SIZE)).max() <= 8


def test_what_comes_in_is_left_alone():
    before = [frame.copy() for frame in (*FRAMES, TARGET)]
    frames, target = run(AugmentConfig(blur=1, noise=1, erase=1, drop=0.5, reorder=1))
    for old, new in zip(before, (*FRAMES, TARGET), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(f.shape == (*SIZE, 3) and f.dtype == np.uint8 for f in (*frames, target))


def test_it_depends_on_the_generator_alone():
    config = AugmentConfig(blur=1, noise=1, erase=1, drop=0)
    once, again, other = (np.stack(run(config, seed=seed)[0]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


@pytest.mark.parametrize(
    "effect", [{"brightness": 0.2}, {"contrast": 0.5}, {"colour": 0.3}, {"shift": 0.1},
               {"rotation": 8.0}, {"scale": 0.3}],
)  # fmt: skip
def test_the_scene_changes_frames_and_truth_alike(effect):
    (first, second, _), target = run(replace(OFF, **effect), [TARGET, TARGET, TARGET])
    assert (target != resize(TARGET, SIZE)).any()
    np.testing.assert_array_equal(first, target)
    np.testing.assert_array_equal(second, target)


@pytest.mark.parametrize(
    "effect", [{"exposure": 0.2}, {"noise": 1.0}, {"erase": 1.0}, {"blur": 1.0}]
)
def test_an_exposure_changes_its_own_frame_alone(effect):
    texture = np.random.default_rng(0).integers(0, 256, (12, 24, 3), np.uint8)
    (first, second, third), target = run(replace(OFF, **effect), [texture] * 3)
    np.testing.assert_array_equal(target, resize(TARGET, SIZE))
    assert (first != resize(texture, SIZE)).any()
    assert (first != second).any() and (second != third).any()


def test_brightness_and_contrast_stay_in_their_range():
    shifts = [
        run(replace(OFF, brightness=0.1), seed=s)[1].mean() - TARGET.mean() for s in range(50)
    ]
    assert -26 <= min(shifts) < -15 and 15 < max(shifts) <= 26
    still = resize(TARGET, SIZE).std()
    spreads = [run(replace(OFF, contrast=0.2), seed=s)[1].std() / still for s in range(50)]
    assert 0.79 <= min(spreads) < 0.85 and 1.15 < max(spreads) <= 1.21


def test_text_is_never_mirrored():
    for seed in range(200):
        frames, target = run(AugmentConfig(drop=0, erase=0), seed=seed)
        for image in (target, *frames):
            assert image[:, -8:].mean() > image[:, :8].mean()


def test_some_frames_are_lost_and_one_stays():
    counts = set()
    for seed in range(100):
        frames, _ = run(replace(OFF, drop=0.6), seed=seed)
        counts.add(len(frames))
        assert (np.diff([frame.mean() for frame in frames]) > 0).all()  # still in their order
    assert counts == {1, 2, 3}


def test_reordering_keeps_the_frames():
    orders = set()
    for seed in range(60):
        means = [frame.mean() for frame in run(replace(OFF, reorder=1.0), seed=seed)[0]]
        np.testing.assert_allclose(sorted(means), [f.mean() for f in FRAMES], atol=1)
        orders.add(tuple(np.argsort(means)))
    assert len(orders) == 6


def dots(height, width, corners):
    """Black, with a bright spot at each corner, each of another brightness."""
    image = np.zeros((height, width, 3), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for number, (x, y) in enumerate(corners):
        distance = np.hypot(columns + 0.5 - x * width, rows + 0.5 - y * height)
        image += ((120 + 40 * number) * np.exp(-0.5 * (distance / 1.5) ** 2))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def test_corners_follow_the_images():
    """Spots are found, by their brightest pixel, where `follow` says that corners are."""
    quad = np.array([[0.25, 0.3], [0.75, 0.25], [0.7, 0.7], [0.3, 0.75]])
    sizes = [(48, 96), (40, 96), (60, 120), (48, 100)]
    config = replace(OFF, rotation=4.0, scale=0.1, shift=0.05, drop=0.4, reorder=0.5)
    images = [dots(*size, quad) for size in sizes]
    for seed in range(6):
        frames, target = config(images[:3], images[3], (48, 96), np.random.default_rng(seed))
        corners = config.follow(np.stack([quad] * 4), sizes, np.random.default_rng(seed))
        assert len(corners) == len(frames) + 1
        for image, found in zip([*frames, target], corners, strict=True):
            for x, y in found * (96, 48):
                left, top = round(x - 4.5), round(y - 4.5)
                patch = image[max(top, 0) : top + 9, max(left, 0) : left + 9, 0].astype(float)
                rows, columns = np.mgrid[: patch.shape[0], : patch.shape[1]]
                centre = [(patch * grid).sum() / patch.sum() for grid in (columns, rows)]
                offset = np.array(centre) + 0.5 + [max(left, 0), max(top, 0)] - [x, y]
                assert np.abs(offset).max() < 0.6


@pytest.mark.parametrize(
    "wrong", [{"blur": 1.5}, {"shift": -0.1}, {"noise_std": (5.0, 1.0)}, {"drop": float("nan")}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(DataError, match=rf"augment\.{next(iter(wrong))} = "):
        AugmentConfig(**wrong)


def test_the_stream_is_the_same_with_any_number_of_processes(make_tree):
    source = open_source(make_tree(train={str(k): 3 for k in range(6)}), "train")
    settings = {"image_size": SIZE, "num_frames": 3, "global_batch_size": 4, "seed": 1}
    settings["augment"] = AugmentConfig(noise=0.5, drop=0.5)
    whole = next(iter(train_dataset(source, **settings)))
    halves = [
        next(iter(train_dataset(source, **settings, process_index=p, process_count=2)))
        for p in range(2)
    ]
    for key in whole:
        np.testing.assert_array_equal(np.concatenate([h[key] for h in halves]), whole[key])
    lost = ~whole["frame_mask"]
    assert lost.any() and not whole["frames"][lost].any()


def test_a_grey_group_has_no_colour_in_any_image():
    rng = np.random.default_rng(0)
    colours = [rng.integers(0, 256, (10, 20, 3), np.uint8) for _ in range(4)]
    config = replace(AugmentConfig(), grey=1.0, drop=0.0, reorder=0.0)
    frames, target = run(config, frames=colours[:3], target=colours[3])
    for image in (*frames, target):
        assert (image == image[..., :1]).all() and image.std() > 10
    # Red, green and blue count about as much as in luma, and not the same in every group.
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0] = 255
    only = replace(OFF, grey=1.0)
    levels = [int(run(only, frames=[red], target=red, seed=k)[1][0, 0, 0]) for k in range(60)]
    assert abs(np.mean(levels) / 255 - 0.299) < 0.06 and len(set(levels)) > 20


def test_as_many_groups_are_grey_as_asked_for():
    picture = np.dstack([ramp(8, 16, level)[..., 0] for level in (80, 120, 160)])
    config = replace(OFF, grey=0.25)
    targets = [run(config, frames=[picture], target=picture, seed=k)[1] for k in range(400)]
    share = np.mean([(t == t[..., :1]).all() for t in targets])
    assert 0.17 < share < 0.33
