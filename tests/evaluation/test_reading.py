"""The distance between two texts."""

import pytest

from lpdiff_jax.evaluation.reading.edit_distance import edit_distance, normalised_edit_distance


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("京A1", "京A1", 0), ("京A1", "", 3), ("kitten", "sitting", 3), ("AB", "BA", 2)],
)
def test_edit_distance(a, b, distance):
    assert edit_distance(a, b) == edit_distance(b, a) == distance
    longer = max(len(a), len(b), 1)
    assert normalised_edit_distance(a, b) == distance / longer
