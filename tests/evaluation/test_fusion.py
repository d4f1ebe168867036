"""Several images of one plate, read as one."""

from types import SimpleNamespace

import numpy as np
import pytest

from lpdiff_jax.evaluation.reading.ctc_reader import CtcReader
from lpdiff_jax.evaluation.reading.fusion import fuse, read_product, vote
from lpdiff_jax.plate_text import Reading, SlotReader


def test_vote_by_character():
    voters = [
        Reading("京A1", 0.9, (0.9, 0.9, 0.9)),
        Reading("京B1", 0.5, (0.5, 0.5, 0.5)),
        Reading("沪B1", 0.5, (0.5, 0.5, 0.5)),
        Reading("京A123", 1.0, (1.0,) * 5),
        Reading("", 0.0, ()),
    ]
    voted = vote(voters)
    assert voted.text == "京B1"
    assert voted.character_confidences == pytest.approx((1.4 / 3, 1.0 / 3, 1.9 / 3))
    assert vote([Reading("", 0.0, ())]) == Reading("", 0.0, ())


def test_vote_on_the_length_goes_by_confidence_when_equal():
    assert vote([Reading("A", 0.4, (0.4,)), Reading("BC", 0.6, (0.6, 0.6))]).text == "BC"


def test_product_of_probabilities():
    first = [[0.1, 0.5, 0.4]]
    second = [[0.1, 0.3, 0.6]]
    fused = read_product(
        CtcReader(SimpleNamespace(), np.arange(3), ("", "A", "B")), np.array([first, second])
    )
    assert fused.text == "B"
    weights = np.array([0.1 * 0.1, 0.5 * 0.3, 0.4 * 0.6])
    assert fused.confidence == pytest.approx(weights[2] / weights.sum())


def test_pictures_decide_where_the_reading_head_hesitates():
    reader = SlotReader("AB12")
    slots = np.full((4, 5), 0.01)
    slots[0, [1, 2]] = 0.5, 0.46  # A, hardly B
    slots[1, 3] = slots[2, 4] = slots[3, 0] = 0.96  # 1, 2, nothing
    assert fuse(slots, reader, []).text == "A12"
    seen = Reading("B1", 0.81, (0.9, 0.9))
    fused = fuse(slots, reader, [seen, Reading("", 0.0, ())], weight=2)
    assert fused.text == "B12"
    assert 0.5 < fused.character_confidences[0] < 0.8
    assert fused.character_confidences[1] > 0.96
    # A character that the charset does not have says nothing.
    assert fuse(slots, reader, [Reading("X1", 0.81, (0.9, 0.9))], weight=2).text == "A12"
