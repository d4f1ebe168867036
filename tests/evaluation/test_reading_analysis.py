"""Alignment, accuracy by position, confusions and calibration, on cases counted by hand."""

import numpy as np
import pytest

from lpdiff_jax.evaluation.reading import analysis
from lpdiff_jax.evaluation.report import statistics
from lpdiff_jax.evaluation.report.summary import summarise


@pytest.mark.parametrize(
    ("reading", "truth", "aligned"),
    [
        ("ABC", "ABC", ["A", "B", "C"]),
        ("AC", "ABC", ["A", "", "C"]),
        ("AXBC", "ABC", ["A", "B", "C"]),
        ("", "AB", ["", ""]),
        ("A8C", "ABC", ["A", "8", "C"]),
        ("BCD", "ABCD", ["", "B", "C", "D"]),
    ],
)
def test_align(reading, truth, aligned):
    assert analysis.align(reading, truth) == aligned


def record(reading, text, confidence):
    scores = {
        "reading": reading,
        "confidence": confidence,
        "character_confidences": [],
        "ned": float(reading != text),
    }
    return {"text": text, "rows": {"psi": scores}, "sweep": {}}


RECORDS = [
    record("京A1", "京A1", 0.95),
    record("京A7", "京A1", 0.95),
    record("沪8", "沪B8", 0.15),
    record("B8", "沪B8", 0.05),
]


def test_reading_in_detail():
    row = analysis.summarise_reading(RECORDS)["psi"]
    assert [place["accuracy"] for place in row["positions"]] == [0.75, 0.75, 0.75]
    assert row["confusion"]["1"] == {"1": 1, "7": 1}
    assert row["confusion"]["B"] == {"": 1, "B": 1}
    assert [(b["low"], b["accuracy"], b["count"]) for b in row["calibration"]] == [
        (0.0, 0.0, 1),
        (0.1, 0.0, 1),
        (0.9, 0.5, 2),
    ]
    assert ("1", "7", 1) in analysis.worst_confusions(row["confusion"])


def test_gap_and_calibration_error():
    figures = summarise(RECORDS)["psi"]["figures"]
    assert figures["confidence_gap"]["mean"] == pytest.approx(0.95 - (0.95 + 0.15 + 0.05) / 3)
    assert figures["ece"]["mean"] == pytest.approx((2 * 0.45 + 0.15 + 0.05) / 4)
    assert figures["acc"]["mean"] == 0.25
    # The last reading lacks the province alone, the second has it and a wrong digit.
    assert figures["acc_without_province"]["mean"] == 0.5


def test_intervals_cover_the_truth():
    # 95 % intervals of the mean of a known distribution hold it in about 95 of 100 samples.
    generator = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        values = generator.exponential(1, 60)
        weights = statistics.bootstrap_weights(60, seed)
        found = statistics.estimate(statistics.mean_of("x"), {"x": values}, weights)
        held += found.low <= 1 <= found.high
    assert 86 <= held <= 99


def test_paired_differences_are_narrower_than_their_rows():
    generator = np.random.default_rng(0)
    a = generator.normal(0, 5, 200)
    b = a + 1 + generator.normal(0, 0.1, 200)
    b[:50] = np.nan
    weights = statistics.bootstrap_weights(200)
    mean = statistics.mean_of("x")
    found = statistics.difference(mean, {"x": b}, {"x": a}, weights)
    assert found.count == 150
    assert found.low <= 1 <= found.high
    assert found.high - found.low < 0.1
    assert statistics.estimate(mean, {"x": np.full(5, np.nan)}, weights[:, :5]) is None
