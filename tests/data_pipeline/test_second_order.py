"""Real-ESRGAN's degradation: sizes, kinds of kernels and noise, and a source made of it."""

import dataclasses

import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.images import decode_image
from data_pipeline.mixing import open_mix
from data_pipeline.synthetic.second_order import (
    FIRST,
    SecondOrderSource,
    degrade,
    noisy,
    random_kernel,
)


def test_a_frame_is_smaller_and_another_each_time():
    plate = np.full((40, 120, 3), 40, np.uint8)
    plate[10:30, 20:100] = (200, 220, 240)
    rng = np.random.default_rng(0)
    frames = [degrade(plate, rng, 4.0) for _ in range(8)]
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((10, 30, 3), "uint8")}
    assert len({frame.tobytes() for frame in frames}) == 8
    # The plate can still be seen, and equal seeds give equal bytes.
    mean = np.mean(frames, axis=0)
    assert mean[4:6, 8:22].mean() > mean[0].mean() + 40
    np.testing.assert_array_equal(degrade(plate, np.random.default_rng(0), 4.0), frames[0])
    assert degrade(plate[:5, :5], rng, 8.0).shape == (4, 4, 3)


def test_kernels_keep_the_brightness_and_differ_in_kind():
    rng = np.random.default_rng(0)
    kernels = [random_kernel(rng, 3.0) for _ in range(200)]
    assert {kernel.shape for kernel in kernels} == {(21, 21)}
    np.testing.assert_allclose([kernel.sum() for kernel in kernels], 1)
    # A sinc alone is negative anywhere; a turned ellipse alone is not symmetric in x.
    assert 0.04 < np.mean([kernel.min() < -1e-6 for kernel in kernels]) < 0.18
    lopsided = [np.abs(kernel - kernel[:, ::-1]).max() > 1e-6 for kernel in kernels]
    assert 0.18 < np.mean(lopsided) < 0.4


def test_noise_is_of_either_kind_grey_or_coloured():
    """Gaussian noise is the same in the dark; Poisson noise leaves black as it is."""
    rng, half = np.random.default_rng(0), np.zeros((32, 32, 3))
    half[:16] = 0.5
    drawn = [noisy(half, FIRST, rng) - half for _ in range(100)]
    quiet = [noise[16:].std() == 0 for noise in drawn]
    grey = [np.ptp(noise[:16], axis=-1).max() < 1e-9 for noise in drawn]
    assert 0.35 < np.mean(quiet) < 0.65 and 0.25 < np.mean(grey) < 0.55
    assert all(noise[:16].std() > 1e-4 for noise in drawn)


def test_a_source_of_another_sets_ground_truths(make_tree):
    root = str(make_tree(train={"a": 2, "b": 2}))
    source = SecondOrderSource(root, seed=3, num_frames=2, scale=2.0)
    first, again, later = source[1], source[1], source[3]
    assert first == again and first.name != later.name
    assert first.target == later.target and first.frames != later.frames
    target = decode_image(first.target, "target")
    shapes = [decode_image(frame, "frame").shape for frame in first.frames]
    assert shapes == [(max(4, target.shape[0] // 2), max(4, target.shape[1] // 2), 3)] * 2
    mix = open_mix({"esrgan": {"kind": "second_order", "path": root}}, 3, 5)
    assert mix.parts[0] == dataclasses.replace(source, seed=5, num_frames=3, scale=4.0)
    with pytest.raises(DataError, match="`path` is missing"):
        open_mix({"esrgan": {"kind": "second_order"}}, 3, 5)
    with pytest.raises(DataError, match=r"scale 0.5: must be"):
        SecondOrderSource(root, scale=0.5)
