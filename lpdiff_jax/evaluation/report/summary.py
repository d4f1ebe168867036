"""From the records of single plates to the table: one line per row, figures with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data_pipeline.labels import normalise
from lpdiff_jax.evaluation import rows
from lpdiff_jax.evaluation.metrics import distribution
from lpdiff_jax.evaluation.partial_results import Record, RowFeatures
from lpdiff_jax.evaluation.reading.edit_distance import normalised_edit_distance
from lpdiff_jax.evaluation.report import statistics
from lpdiff_jax.plate_text import PROVINCES


@dataclass(frozen=True)
class Figure:
    """A column of the table.

    Attributes:
      title: the title of the column.
      decimals: the number of decimals that are printed.
      more_is_better: whether a larger figure is better.
      columns: the plates' values that the figure is made of.
      statistic: how the figure is made of them; None takes the mean of the one column.
    """

    title: str
    decimals: int
    more_is_better: bool
    columns: tuple[str, ...]
    statistic: statistics.Statistic | None = None

    def over_plates(self) -> statistics.Statistic:
        """The statistic that makes the figure of a row."""
        return self.statistic or statistics.mean_of(self.columns[0])


def _mean(name: str, title: str, decimals: int, more_is_better: bool) -> dict[str, Figure]:
    return {name: Figure(title, decimals, more_is_better, (name,))}


_CERTAINTY = ("confidence", "acc")
# The order is that of the table's columns.
FIGURES: dict[str, Figure] = {
    **_mean("psnr", "PSNR", 2, True),
    **_mean("ssim", "SSIM", 3, True),
    **_mean("lpips_alex", "LPIPS", 3, False),
    **_mean("lpips_vgg", "LPIPS (VGG)", 3, False),
    "fid": Figure("FID", 1, False, ()),
    "kid": Figure("KID x 1000", 2, False, ()),
    **_mean("ned", "NED", 3, False),
    **_mean("acc", "ACC", 3, True),
    **_mean("ned_without_province", "NED w/o prov.", 3, False),
    **_mean("acc_without_province", "ACC w/o prov.", 3, True),
    "confidence_gap": Figure("conf. gap", 3, True, _CERTAINTY, statistics.confidence_gap),
    "ece": Figure("ECE", 3, False, _CERTAINTY, statistics.calibration_error),
}


def summarise(records: Sequence[Record], features: RowFeatures | None = None) -> dict[str, Any]:
    """Returns {row: {"images": n, "figures": {figure: estimate}, "difference": {...}}}.

    `difference` is to the first row, over the plates that both have.
    """
    names = rows.order(name for record in records for name in record["rows"])
    weights = statistics.bootstrap_weights(max(len(records), 1))
    columns = {name: _columns(records, name) for name in names}
    table = {}
    for name in names:
        table[name] = {
            "images": sum(name in record["rows"] for record in records),
            "figures": _estimates(columns[name], weights) | _set_figures(name, features or {}),
            "difference": _differences(columns[name], columns[names[0]], weights)
            if name != names[0]
            else {},
        }
    return table


def summarise_sweep(records: Sequence[Record]) -> dict[str, Any]:
    """{number of frames: table as of `summarise`}, over the plates that have that number."""
    counts = sorted({int(count) for record in records for count in record["sweep"]})
    return {
        str(count): summarise(
            [
                {"text": record["text"], "rows": record["sweep"][str(count)]}
                for record in records
                if str(count) in record["sweep"]
            ]
        )
        for count in counts
    }


def _columns(records: Sequence[Record], row: str) -> dict[str, np.ndarray]:
    """One array [plates] a value, NaN where a plate has none."""
    plates = [_values(record["rows"].get(row, {}), record["text"]) for record in records]
    keys = {key for figure in FIGURES.values() for key in figure.columns}
    return {key: np.array([plate.get(key, np.nan) for plate in plates], float) for key in keys}


def _values(scores: Mapping[str, Any], text: str) -> dict[str, float]:
    values = {key: value for key, value in scores.items() if isinstance(value, float)}
    if "reading" in scores and text:
        values |= score_reading(normalise(scores["reading"]), text)
    return values


def score_reading(reading: str, text: str) -> dict[str, float]:
    """Whether a plate is read right, and, without the province, that and the edit distance.

    A plate that begins with a Latin letter or a digit has no province: all of it counts.
    """
    if text[:1].isascii():
        right, distance = float(reading == text), normalised_edit_distance(reading, text)
        return {"acc": right, "acc_without_province": right, "ned_without_province": distance}
    rest = reading[1:] if _has_province(reading, text) else reading
    return {
        "acc": float(reading == text),
        "acc_without_province": float(rest == text[1:]),
        "ned_without_province": normalised_edit_distance(rest, text[1:]),
    }


def _has_province(reading: str, text: str) -> bool:
    """Whether the first character stands for the province, rightly read or not."""
    return reading[:1] in PROVINCES or len(reading) >= len(text)


def _estimates(columns: statistics.Columns, weights: np.ndarray) -> dict[str, Any]:
    found = {
        name: statistics.estimate(figure.over_plates(), _pick(columns, figure), weights)
        for name, figure in FIGURES.items()
        if figure.columns
    }
    return {name: asdict(value) for name, value in found.items() if value is not None}


def _differences(
    columns: statistics.Columns, others: statistics.Columns, weights: np.ndarray
) -> dict[str, Any]:
    found = {
        name: statistics.difference(
            figure.over_plates(), _pick(columns, figure), _pick(others, figure), weights
        )
        for name, figure in FIGURES.items()
        if figure.columns
    }
    return {name: asdict(value) for name, value in found.items() if value is not None}


def _pick(columns: statistics.Columns, figure: Figure) -> dict[str, np.ndarray]:
    return {key: columns[key] for key in figure.columns}


def _set_figures(row: str, features: RowFeatures) -> dict[str, Any]:
    """FID and KID of a row's images against the ground truths of the same plates."""
    if row not in features or row == rows.GROUND_TRUTH:
        return {}
    positions, images = features[row]
    known, truths = features[rows.GROUND_TRUTH]
    truths = truths[np.searchsorted(known, positions)]
    if len(images) < 2:
        return {}
    kid, error = distribution.kid(images, truths)
    fid = distribution.fid(images, truths)
    margin = 1.96 * error
    return {
        # No interval: resampled sets repeat images, which biases FID far more than it scatters.
        "fid": {"mean": fid, "low": None, "high": None, "count": len(images)},
        "kid": {
            "mean": 1000 * kid,
            "low": 1000 * (kid - margin),
            "high": 1000 * (kid + margin),
            "count": len(images),
        },
    }
