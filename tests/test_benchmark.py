"""`lpdiff benchmark`, and what it is made of."""

import json

import jax
import numpy as np
import pytest

from lpdiff_jax import benchmark, cli

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({
        "model": {
            "image_size": (8, 16), "dtype": "float32", "prediction": "v", "residual_scale": 0.3,
            "clip": "image",
            "condition": {"features": (4,), "strides": (1,), "blocks": 0, "norm_groups": 2,
                          "heads": 2},
            "denoiser": {"features": 8, "multipliers": (1,), "blocks": 1, "norm_groups": 4,
                         "attention_resolutions": ()},
            "schedule": {"name": "cosine", "steps": 20, "zero_terminal_snr": True},
        },
        "sampler": {"name": "ddim", "steps": 2},
    })
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "configs" / "tiny.py"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


def test_the_command_measures_a_configuration(config_file, capsys, monkeypatch):
    monkeypatch.setenv("LPDIFF_COMPILATION_CACHE", "off")
    words = ["benchmark", "--model", str(config_file), "--batch", "2", "--repeats", "2"]
    assert cli.main([*words, "--profile", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (row,) = result["rows"]
    assert row["batch"] == 2
    assert row["steps"] == 2
    assert 0 < row["p50"] <= row["p95"]
    assert row["plates_per_second"] == pytest.approx(2e3 / row["p50"])
    assert row["memory_mb"] > 0
    assert result["machine"]["matmul"]["float32"] > 0
    shares = dict(result["profile"])
    assert sum(shares.values()) == pytest.approx(1)
    assert "conv_general_dilated" in shares


def test_operations_are_those_of_the_convolutions(config_file):
    """XLA's count, against the convolutions counted by hand; the rest of the net is small."""
    restorer = benchmark.load(str(config_file))
    kernels = jax.tree_util.tree_leaves_with_path(restorer.variables["denoiser"]["params"])
    at_pixels = sum(np.size(k) for path, k in kernels if np.ndim(k) == 4)
    by_hand = 2 * at_pixels * (8 // 2) * (16 // 2)
    count = lambda batch, steps: benchmark.operations(restorer, batch, steps)  # noqa: E731
    # What a further step costs is a call of the denoiser.
    assert count(1, 3) - count(1, 2) == pytest.approx(by_hand, rel=0.4)
    assert count(4, 2) == pytest.approx(4 * count(1, 2), rel=0.05)


def test_a_share_above_all_of_the_limit_is_not_shown():
    machine = benchmark.Machine("a machine", 2, {"float32": 1.0}, 1.0)
    shares = benchmark._share(57.57, 1.0), benchmark._share(0.4, 1.0)
    assert shares == (None, 0.4)  # as it is in JSON, too
    rows = [benchmark.Row(1, 1, "float32", 1.0, 1.0, 1.0, 0.5, 0.5, 1.0, s, 1.0) for s in shares]
    assert "busy:" in benchmark.as_text(machine, rows, [])
    text = benchmark.as_text(machine, rows[1:], [])
    assert "busy" not in text and "40.0%" in text


def test_quantiles():
    timing = benchmark.Timing((1.0, 2.0, 3.0, 4.0, 5.0))
    assert timing.quantile(0.5) == 3
    assert timing.quantile(1.0) == 5


def test_time_is_limited():
    calls = []
    timing = benchmark.time_calls(lambda: calls.append(1), repeats=10_000, seconds=0.001)
    assert 1 <= len(timing.seconds) < 10_000
    assert len(calls) == len(timing.seconds) + 1  # the first one does not count


def test_operations_behind_instructions():
    program = """
  %fusion.1 = f32[2]{0} fusion(%p), metadata={op_name="jit(f)/while/body/UNet/conv" id=1}
  ROOT while.2 = (f32[2]) while(%t), metadata={op_name="jit(f)/while"}
"""
    assert benchmark._kinds(program) == {"fusion.1": "conv"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "no_such.py"], "no_such.py: no such configuration"),
        (["--model", "no_such_dir"], "no such model"),
        (["--model", "x", "--batch", "0"], "from 1 to"),
    ],
)
def test_mistakes(words, message, capsys, monkeypatch):
    monkeypatch.setenv("LPDIFF_COMPILATION_CACHE", "off")
    assert cli.main(["benchmark", *words]) == 2
    assert message in capsys.readouterr().err
