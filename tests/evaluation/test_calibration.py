"""Confidence that means what it says."""

from types import SimpleNamespace

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.calibration import calibrate, readable_from
from lpdiff_jax.model import Estimate
from lpdiff_jax.reading import Reading

CHARSET = "0123456789"


class Overconfident:
    """Knows the true probabilities of a one-digit text, and sharpens them by a factor of 2."""

    image_size = (4, 8)
    charset = CHARSET
    model = SimpleNamespace(temperature=1.0)

    def __init__(self, probabilities):
        self.probabilities = probabilities

    def estimate(self, frames, mask):
        index = np.rint((frames[:, 0, 0, 0, 0] + 1) * 127.5).astype(int)
        sharpened = self.probabilities[index] ** 2
        return Estimate(None, (sharpened / sharpened.sum(-1, keepdims=True))[:, None], None)


def plates(texts):
    """A source whose k-th plate is a picture of grey level k."""
    import cv2

    from data_pipeline.example import Example

    def png(k):
        return cv2.imencode(".png", np.full((4, 8, 3), k, np.uint8))[1].tobytes()

    return [Example(f"{k}", (png(k),), png(k), text) for k, text in enumerate(texts)]


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    probabilities = np.zeros((250, 11))
    probabilities[:, 1:] = rng.dirichlet(np.full(10, 0.3), 250)
    texts = [CHARSET[rng.choice(10, p=p[1:])] for p in probabilities]
    found = calibrate(Overconfident(probabilities), plates(texts), max_frames=1)
    assert 1.5 < found.temperature < 2.7
    assert 0.8 < found.readable <= 1


def test_without_texts_there_is_nothing_to_fit():
    with pytest.raises(UserError, match="has a text"):
        calibrate(Overconfident(np.full((1, 11), 1 / 11)), plates([None]), max_frames=1)


def test_readable_is_where_enough_are_right():
    right = [Reading("A", c, (c,)) for c in np.linspace(0.6, 0.99, 60)]
    wrong = [Reading("B", c, (c,)) for c in np.linspace(0.1, 0.5, 40)]
    assert readable_from(right + wrong, ["A"] * 100) == pytest.approx(0.5, abs=0.1)
    assert readable_from(wrong, ["A"] * 40) == 1.0
    assert readable_from(right[:10], ["A"] * 10) == 1.0
