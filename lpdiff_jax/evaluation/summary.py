"""From the records of single plates to the table: one line a row, each figure with its interval."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lpdiff_jax.evaluation import rows, statistics
from lpdiff_jax.evaluation.reading import PROVINCES, normalised_edit_distance
from lpdiff_jax.evaluation.records import Record, Scores

# Figure -> (title, decimals, whether more is better); the order is that of the table's columns.
FIGURES = {
    "psnr": ("PSNR", 2, True),
    "ssim": ("SSIM", 3, True),
    "ned": ("NED", 3, False),
    "ned_without_province": ("NED w/o prov.", 3, False),
    "acc": ("ACC", 3, True),
    "acc_without_province": ("ACC w/o prov.", 3, True),
}


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """Returns {row: {"images": n, "figures": {figure: estimate}, "difference": {...}}}.

    `difference` is to the first row, over the plates that both have.
    """
    names = rows.order(name for record in records for name in record["rows"])
    weights = statistics.bootstrap_weights(max(len(records), 1))
    columns = {name: _columns(records, name) for name in names}
    return {
        name: {
            "images": sum(name in record["rows"] for record in records),
            "figures": _estimates(columns[name], weights),
            "difference": {}
            if name == names[0]
            else _estimates(
                {key: columns[name][key] - columns[names[0]][key] for key in columns[name]}, weights
            ),
        }
        for name in names
    }


def _columns(records: Sequence[Record], row: str) -> dict[str, np.ndarray]:
    """One array [plates] a figure, NaN where a plate has no such figure."""
    figures = [_figures(record["rows"].get(row, {}), record["text"]) for record in records]
    return {
        key: np.array([plate.get(key, np.nan) for plate in figures], np.float64) for key in FIGURES
    }


def _figures(scores: Scores, text: str) -> dict[str, float]:
    figures = {key: scores[key] for key in FIGURES if key in scores}
    if "reading" in scores and text:
        reading = scores["reading"]
        figures["acc"] = float(reading == text)
        rest = reading[1:] if _has_province(reading, text) else reading
        figures["acc_without_province"] = float(rest == text[1:])
        figures["ned_without_province"] = normalised_edit_distance(rest, text[1:])
    return figures


def _has_province(reading: str, text: str) -> bool:
    """Whether the first character stands for the province, rightly read or not."""
    return reading[:1] in PROVINCES or len(reading) >= len(text)


def _estimates(columns: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, Any]:
    found = {key: statistics.estimate(values, weights) for key, values in columns.items()}
    return {key: asdict(value) for key, value in found.items() if value is not None}
