"""The distance between two texts."""

import pytest

from lpdiff_jax.evaluation.reading import readers


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("京A1", "京A1", 0), ("京A1", "", 3), ("kitten", "sitting", 3), ("AB", "BA", 2)],
)
def test_edit_distance(a, b, distance):
    assert readers.edit_distance(a, b) == readers.edit_distance(b, a) == distance
    longer = max(len(a), len(b), 1)
    assert readers.normalised_edit_distance(a, b) == distance / longer
