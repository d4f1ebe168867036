"""How a row is read in detail: by position, which characters are confused, how far to trust it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.partial_results import Record
from lpdiff_jax.evaluation.reading.edit_distance import align_places
from lpdiff_jax.evaluation.report import statistics

# What stands for a character that was not read at all.
NOTHING = ""


def summarise_reading(records: Sequence[Record]) -> dict[str, Any]:
    """For each row that was read: `positions`, `confusion` and `calibration`.

    `positions`: accuracy of the first, second, ... character of the truth. `confusion`: {true:
    {read: count}}, "" for a character that was missed. `calibration`: for each bin of confidence
    the mean confidence, the share of plates read right, and their number.
    """
    labelled = [record for record in records if record["text"]]
    names = rows.order(name for record in labelled for name in record["rows"])
    found = {}
    for name in names:
        read = [
            (record["rows"][name], record["text"])
            for record in labelled
            if "reading" in record["rows"].get(name, {})
        ]
        if read:
            pairs = [(align(scores["reading"], text), text) for scores, text in read]
            found[name] = {
                "positions": _by_position(pairs),
                "confusion": _confusion(pairs),
                "calibration": _calibration(
                    np.array([scores["confidence"] for scores, _ in read]),
                    np.array([scores["reading"] == text for scores, text in read], float),
                ),
            }
    return found


def align(reading: str, truth: str) -> list[str]:
    """For each character of `truth` what was read in its place; "" where it was left out.

    Follows a shortest edit path, so that one lost character does not shift all that come after.
    """
    return [NOTHING if i is None else reading[i] for i in align_places(reading, truth)]


def _by_position(pairs: Sequence[tuple[list[str], str]]) -> list[dict[str, float]]:
    right: dict[int, list[bool]] = defaultdict(list)
    for aligned, text in pairs:
        for position, (read, true) in enumerate(zip(aligned, text, strict=True)):
            right[position].append(read == true)
    return [
        {"position": position + 1, "accuracy": float(np.mean(values)), "count": len(values)}
        for position, values in sorted(right.items())
    ]


def _confusion(pairs: Sequence[tuple[list[str], str]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for aligned, text in pairs:
        for read, true in zip(aligned, text, strict=True):
            counts[true][read] += 1
    return {true: dict(counts[true].most_common()) for true in sorted(counts)}


def _calibration(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    bins = statistics.confidence_bins(confidence)
    return [
        {
            "low": k / statistics.BINS,
            "confidence": float(confidence[bins == k].mean()),
            "accuracy": float(right[bins == k].mean()),
            "count": int((bins == k).sum()),
        }
        for k in range(statistics.BINS)
        if (bins == k).any()
    ]


def worst_confusions(
    confusion: dict[str, dict[str, int]], count: int = 12
) -> list[tuple[str, str, int]]:
    """The commonest errors: (true character, what was read, how often)."""
    errors = [
        (true, read, times)
        for true, reads in confusion.items()
        for read, times in reads.items()
        if read != true
    ]
    return sorted(errors, key=lambda error: -error[2])[:count]
