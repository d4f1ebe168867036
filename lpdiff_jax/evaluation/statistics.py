"""Means over plates with bootstrap intervals, for one row and against another."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean over plates, with the bounds of its 95 % interval and the number of plates."""

    mean: float
    low: float
    high: float
    count: int


def bootstrap_weights(count: int, seed: int = 0) -> np.ndarray:
    """How often each of `count` plates is drawn in each of the resamples, [resamples, count]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def estimate(values: np.ndarray, weights: np.ndarray) -> Estimate | None:
    """The mean of `values` [plates], NaN where a plate has none, and its percentile interval.

    The same `weights` for all rows keep their resamples paired. None when no plate has a value.
    """
    known = ~np.isnan(values)
    if not known.any():
        return None
    drawn = weights[:, known]
    totals = drawn.sum(axis=1)
    usable = totals > 0
    means = drawn[usable] @ values[known] / totals[usable]
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(values[known].mean()), float(low), float(high), int(known.sum()))
