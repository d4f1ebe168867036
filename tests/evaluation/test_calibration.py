"""Confidence that means what it says."""

from types import SimpleNamespace

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading.calibration import calibrate, readable_from
from lpdiff_jax.methods.base import Estimate
from lpdiff_jax.plate_text import Reading, SlotReader

CHARSET = "0123456789"


class Overconfident:
    """Knows the true probabilities of a one-digit text, and sharpens them by a factor of 2."""

    image_size = (4, 8)
    method = SimpleNamespace(slot_reader=SlotReader(CHARSET))

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


def test_slope_is_of_the_log_odds():
    slots = np.zeros((2, 1, 3))
    slots[0, 0, 1:], slots[1, 0, 1:] = (0.8, 0.2), (0.4, 0.6)
    plain, steep = SlotReader("AB").read(slots), SlotReader("AB", slope=2.0).read(slots)
    odds = lambda reading: reading.confidence / (1 - reading.confidence)  # noqa: E731
    for one, other in zip(plain, steep, strict=True):
        assert other.text == one.text
        assert odds(other) == pytest.approx(odds(one) ** 2)
        assert other.character_confidences == one.character_confidences


def test_slope_makes_up_for_characters_that_are_right_together():
    """A plate's two characters are both right or both wrong, as often as one of them says."""
    rng = np.random.default_rng(0)
    share = rng.uniform(0.5, 1.0, 250)
    right = rng.random(250) < share
    slots = np.zeros((250, 2, 11))
    slots[:, :, 1], slots[:, :, 2] = share[:, None], 1 - share[:, None]
    model = Overconfident(slots[:, 0])
    model.estimate = lambda frames, mask: Estimate(
        None, slots[np.rint((frames[:, 0, 0, 0, 0] + 1) * 127.5).astype(int)], None
    )
    found = calibrate(model, plates(["00" if each else "11" for each in right]), max_frames=1)

    def cost(temperature, slope):
        powers = slots ** (1 / temperature)
        readings = SlotReader(CHARSET, slope=slope).read(powers / powers.sum(-1, keepdims=True))
        chance = np.array([reading.confidence for reading in readings])
        return -np.log(np.where(right, chance, 1 - chance)).mean()

    assert cost(found.temperature, found.slope) < cost(found.temperature, 1.0) < cost(1.0, 1.0)
