"""What the model makes of a batch, for the rows of the table."""

from types import SimpleNamespace

import numpy as np
import pytest

from lpdiff_jax.evaluation import rows


class Brightest:
    """Reads the column that is brightest: slot 0's class is its number."""

    image_size, charset = (8, 100), ""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def estimate(self, frames, mask):
        frames = np.asarray(frames)
        self.seen.append(frames)
        columns = frames[:, 0].mean(axis=(1, 3)).argmax(axis=-1)
        return SimpleNamespace(
            psi=frames[:, 0], guide=frames[:, 0], slots=np.eye(100)[columns][:, None]
        )

    def sample(self, guide, *, steps, samples, seed):
        return np.repeat(guide[:, None], samples, axis=1)


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    frames = np.zeros((2, 1, 8, 100, 3), np.uint8)
    frames[0, :, :, 20:23] = frames[1, :, :, 70:73] = 200
    frames[0, :, :, 21] = frames[1, :, :, 71] = 250
    return {"frames": frames, "frame_mask": np.ones((2, 1), bool)}


def test_second_looks_are_at_moved_frames(batch):
    model = Brightest()
    made = rows.restore_batch(model, batch, (8, 100), look_again=True)
    assert len(model.seen) == 1 + len(rows.MOVES)
    assert made.slots[0, 0].argmax() == 21 and made.slots[1, 0].argmax() == 71
    # The middle stays, zooming spreads, moving moves: 28.5 and 21.5 columns off the middle.
    expected = [[21], [71]]
    for zoom, shift in rows.MOVES:
        for found, column in zip(expected, (21, 71), strict=True):
            found.append(round(49.5 + zoom * (column - 49.5) + 100 * shift))
    for plate, columns in zip(made.looks[:, 0], expected, strict=True):
        assert plate.sum() == pytest.approx(1.0)
        assert np.flatnonzero(plate) == pytest.approx(sorted(set(columns)), abs=1)
    assert len(set(expected[0])) == len(expected[0])


def test_second_looks_are_taken_when_asked_for(batch):
    model = Brightest()
    assert rows.restore_batch(model, batch, (8, 100)).looks is None
    assert len(model.seen) == 1
