"""The measures of likeness: zero for equals, and a judge that sees what is there and no more."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_pipeline.synthetic.groups import render_group


@pytest.fixture(scope="module")
def likeness() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "synthetic" / "likeness.py"
    spec = importlib.util.spec_from_file_location("likeness", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_distances(likeness: ModuleType) -> None:
    groups = [render_group(seed)[:2] for seed in range(6)]
    for values in likeness.describe(groups).values():
        table = likeness.flat(values)
        assert likeness.distance(table, table) == 0
        spread = np.maximum(table.std(axis=0), 0.05 * np.abs(table.mean(axis=0)))
        moved = table + 2 * np.maximum(spread, 1e-3)
        assert likeness.distance(table, moved) == pytest.approx(2)


def test_judge(likeness: ModuleType) -> None:
    rng = np.random.default_rng(0)
    real, same = rng.standard_normal((18, 3, 8)), rng.standard_normal((100, 3, 8))
    assert abs(likeness.judge(real, same) - 0.5) < 0.12
    assert likeness.judge(real, same + 3.0) > 0.95


def test_noise_measure_is_in_grey_levels(likeness: ModuleType) -> None:
    noisy = 128 + 4.0 * np.random.default_rng(0).standard_normal((200, 200, 1)).repeat(3, 2)
    assert likeness.noise(np.round(noisy).astype(np.uint8))[0] == pytest.approx(4.0, rel=0.1)


@pytest.mark.skipif("LPDIFF_SHARED" not in os.environ, reason="needs the real sample")
def test_synthetic_frames_are_as_hard_as_real_ones(likeness: ModuleType) -> None:
    real = likeness.read_tree(Path(os.environ["LPDIFF_SHARED"]) / "data" / "mdlp_sample")
    synthetic = [render_group([3, i], styles=likeness.STYLES)[:2] for i in range(60)]
    figures = likeness.compare(real, synthetic)
    for family in ("power spectrum", "gradients", "colour", "noise level", "border profile"):
        assert figures[family] < 1.0, family
