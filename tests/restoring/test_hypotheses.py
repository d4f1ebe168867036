"""The likeliest texts, held against all texts there are; and the marks of verdicts."""

import itertools

import numpy as np
import pytest

from lpdiff_jax.plate_text import CHARSET, Reading
from lpdiff_jax.restoring.hypotheses import Syntax, _of_patterns, syntax_of
from lpdiff_jax.restoring.verdicts import marked, verdict, weak_places

SMALL = "AB1"


def random_slots(slots, classes, seed=0):
    values = np.random.default_rng(seed).random((slots, classes)) ** 3
    return values / values.sum(1, keepdims=True)


def every_text(slots, allowed):
    """Texts and their probabilities, best first: empty slots come behind the text."""
    found = {}
    for classes in itertools.product(range(len(SMALL) + 1), repeat=len(slots)):
        text = "".join(SMALL[k - 1] for k in classes if k)
        if all(k == 0 for k in classes[len(text) :]) and allowed(text):
            found[text] = float(np.prod([slots[s, k] for s, k in enumerate(classes)]))
    return sorted(found.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("seed", range(5))
def test_the_best_texts_are_the_best_of_all(seed):
    slots = random_slots(4, len(SMALL) + 1, seed)
    letters, digit = frozenset("AB"), frozenset("1")
    patterns = [(letters, digit), (letters, letters, digit), (digit,) * 4]
    kept = {p for pattern in patterns for p in map("".join, itertools.product(*pattern))}
    for syntax, allowed in (
        (Syntax.any_text(SMALL), lambda text: True),
        (_of_patterns(SMALL, patterns), lambda text: text in kept),
    ):
        expected = every_text(slots, allowed)
        total = sum(chance for _, chance in expected)
        found = syntax.best(slots, 6)
        assert found.texts == tuple(text for text, _ in expected[:6])
        shares = [chance / total for _, chance in expected[:6]]
        np.testing.assert_allclose(found.probabilities, shares, rtol=1e-9)
        assert found.allowed == pytest.approx(total)
        assert syntax.best(slots, 10_000).total == pytest.approx(1.0)


def test_plates_keep_their_syntax():
    sure = {character: k for k, character in enumerate(CHARSET, 1)}
    slots = np.full((8, len(CHARSET) + 1), 1e-4)
    for place, character in enumerate("苏EI05L1"):  # no plate has an I behind its city
        slots[place, sure[character]] = 1.0
    slots[2, sure["1"]] = 0.5
    slots[7, 0] = 1.0
    slots /= slots.sum(1, keepdims=True)
    assert syntax_of(CHARSET, False).best(slots, 1).texts == ("苏EI05L1",)
    assert syntax_of(CHARSET, True).best(slots, 1).texts == ("苏E105L1",)


def test_verdicts_and_marks():
    reading = Reading("苏E905L1", 0.4, (0.9, 0.9, 0.9, 0.2, 0.9, 0.9, 0.59))
    assert weak_places(reading) == [3, 6] and marked(reading) == "苏E·9?5L?"
    assert verdict(reading, False) == "uncertain" and verdict(reading, True) == "readable"
    assert verdict(Reading("A1", 0.02, (0.1, 0.2)), False) == "unreadable"
    assert verdict(Reading("", 0.0, ()), False) == "unreadable"
    assert marked(Reading("AB123", 0.9, (0.9,) * 5)) == "AB123"
