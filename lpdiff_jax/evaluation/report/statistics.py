"""Figures of a set of plates with their bootstrap intervals, for one row and between two.

A statistic takes a row's columns and weights [R, plates], how often each plate counts in each of R
resamples, and returns its value in each. So means, calibration errors and differences have their
intervals by one way, and the same resamples for every row keep comparisons paired.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
BINS = 10

Columns = Mapping[str, np.ndarray]
Statistic = Callable[[Columns, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A figure of a row, the bounds of its 95 % interval, and the number of plates behind it."""

    mean: float
    low: float
    high: float
    count: int


def bootstrap_weights(count: int, seed: int = 0) -> np.ndarray:
    """How often each of `count` plates is drawn in each resample, float64 [RESAMPLES, count]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def mean_of(column: str) -> Statistic:
    """The statistic that is the mean of one column."""

    def mean(columns: Columns, weights: np.ndarray) -> np.ndarray:
        return _ratio(weights @ columns[column], weights.sum(axis=1))

    return mean


def confidence_gap(columns: Columns, weights: np.ndarray) -> np.ndarray:
    """Mean confidence of the plates that are read right, minus that of the others."""
    confidence, right = columns["confidence"], columns["acc"]
    return _weighted_mean(confidence, right, weights) - _weighted_mean(
        confidence, 1 - right, weights
    )


def calibration_error(columns: Columns, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (Guo et al., ICML 2017), over ten bins of equal width."""
    confidence, right = columns["confidence"], columns["acc"]
    bins = confidence_bins(confidence)
    gaps = [weights[:, bins == k] @ (right - confidence)[bins == k] for k in range(BINS)]
    return _ratio(np.abs(gaps).sum(axis=0), weights.sum(axis=1))


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Which of the bins each confidence in [0, 1] falls into."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def estimate(statistic: Statistic, columns: Columns, weights: np.ndarray) -> Estimate | None:
    """A statistic over the plates that have all its columns; None where it has no value."""
    known = _known(columns)
    kept = {name: values[known] for name, values in columns.items()}
    return _interval(lambda w: statistic(kept, w), weights[:, known])


def difference(
    statistic: Statistic, columns: Columns, others: Columns, weights: np.ndarray
) -> Estimate | None:
    """The statistic of `columns` minus that of `others`, over the plates that both have."""
    known = _known(columns) & _known(others)
    first, second = ({k: v[known] for k, v in c.items()} for c in (columns, others))
    return _interval(lambda w: statistic(first, w) - statistic(second, w), weights[:, known])


def _known(columns: Columns) -> np.ndarray:
    return np.logical_and.reduce([~np.isnan(values) for values in columns.values()])


def _interval(value: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> Estimate | None:
    count = weights.shape[1]
    point = float(value(np.ones((1, count)))[0]) if count else np.nan
    if np.isnan(point):
        return None
    resampled = value(weights)
    low, high = np.percentile(resampled[~np.isnan(resampled)], (2.5, 97.5))
    return Estimate(point, float(low), float(high), count)


def _weighted_mean(values: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ (values * chosen), weights @ chosen)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """total / count; NaN where there is nothing to count."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
