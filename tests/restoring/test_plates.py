"""Plates from frames, without files."""

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.restoring.plates import Options, even_parts, restore_plates, stack_frames
from lpdiff_jax.restoring.restorer import Restorer
from tests.methods.small_lpdiff import CONFIG, READER, SAMPLER, SIZE, draw_variables


@pytest.fixture(scope="module")
def restorer():
    model = build_model(CONFIG | READER)
    return Restorer(model, draw_variables(model), SAMPLER, max_batch=4)


@pytest.fixture(scope="module")
def groups():
    """Plates of 1 to 4 frames of any size."""
    rng = np.random.default_rng(0)
    return [
        [rng.integers(0, 256, (10 + k, 20 + 2 * k, 3), np.uint8) for k in range(count)]
        for count in (1, 2, 4, 2, 1)
    ]


def test_stacking_resizes_pads_and_masks():
    frames = [np.full((10, 30, 3), 200, np.uint8), np.full((20, 40, 3), 50, np.uint8)]
    stacked, mask = stack_frames(frames, (16, 32), 3)
    assert stacked.shape == (3, 16, 32, 3)
    assert stacked.mean((1, 2, 3)).tolist() == [200, 50, 0]
    assert mask.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("total", "largest", "sizes"),
    [(18, 16, [9, 9]), (5, 16, [5]), (33, 16, [11, 11, 11]), (0, 4, [])],
)
def test_parts_are_even(total, largest, sizes):
    assert [part.stop - part.start for part in even_parts(total, largest)] == sizes


def test_each_plate_has_its_results_and_says_what_was_used(restorer, groups):
    plates = restore_plates(restorer, groups, Options(samples=2, max_frames=3, batch_size=4))
    assert [list(plate.used) for plate in plates] == [[0], [0, 1], [1, 2, 3], [0, 1], [0]]
    for plate in plates:
        assert plate.frames.shape == (len(plate.used), *SIZE, 3)
        assert plate.first.shape == (*SIZE, 3)
        assert plate.samples.shape == (2, *SIZE, 3)
        assert plate.readable == (plate.reading.confidence >= 0.9)
        np.testing.assert_allclose(plate.slots.sum(-1), 1, rtol=1e-5)


def test_a_plate_does_not_depend_on_its_company(restorer, groups):
    together = restore_plates(restorer, groups)[2]
    (alone,) = restore_plates(restorer, groups[2:3])
    assert np.abs(together.samples.astype(int) - alone.samples).max() <= 1
    assert together.reading.text == alone.reading.text


def test_a_plate_without_frames_is_named(restorer, groups):
    with pytest.raises(UserError, match="plate 2 of 2 has no frames"):
        restore_plates(restorer, [groups[0], []])
