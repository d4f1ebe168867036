"""The distance between two texts, and which of their characters belong together."""

from collections.abc import Sequence


def normalised_edit_distance(text: str, truth: str) -> float:
    """Levenshtein distance over the longer length: the paper's NED, 0 for equal texts."""
    return edit_distance(text, truth) / max(len(text), len(truth), 1)


def edit_distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions that turn `a` into `b`."""
    line = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, line[0] = line[0], i
        for j, right in enumerate(b, 1):
            change = diagonal + (left != right)
            diagonal, line[j] = line[j], min(line[j] + 1, line[j - 1] + 1, change)
    return line[-1]


def align_places(reading: str, truth: str) -> list[int | None]:
    """For each character of `truth` the place in `reading` of what was read for it; None: nothing.

    Follows a shortest edit path, so that one lost character does not shift all that come after.
    """
    costs = _edit_costs(reading, truth)
    places: list[int | None] = [None] * len(truth)
    i, j = len(reading), len(truth)
    while j:
        if i and costs[i][j] == costs[i - 1][j - 1] + (reading[i - 1] != truth[j - 1]):
            i, j = i - 1, j - 1
            places[j] = i
        elif i and costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return places


def _edit_costs(reading: str, truth: str) -> list[list[int]]:
    """Edit distances of all beginnings of `reading` [i] and `truth` [j]."""
    costs = [[i + j for j in range(len(truth) + 1)] for i in range(len(reading) + 1)]
    for i, read in enumerate(reading):
        for j, true in enumerate(truth):
            change = costs[i][j] + (read != true)
            costs[i + 1][j + 1] = min(change, costs[i][j + 1] + 1, costs[i + 1][j] + 1)
    return costs
