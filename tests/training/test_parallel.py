"""One run on any devices and processes: the same losses and parameters."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.training.processes import free_port
from tests.training.tiny import ROOT, environment

# (name, devices of a process, processes, mode, parts of accumulation)
LAYOUTS = {
    "one device": (1, 1, "pmap", 1),
    "8 devices, pmap": (8, 1, "pmap", 1),
    "8 devices, jit": (8, 1, "jit", 1),
    "2 processes x 2 devices, pmap": (2, 2, "pmap", 1),
    "2 processes x 2 devices, jit": (2, 2, "jit", 1),
    "one device, accumulated": (1, 1, "pmap", 4),
}


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """Runs a layout once; returns arrays by name: gradients, losses, parameters after the steps."""
    known = {}

    def run(name: str) -> dict[str, np.ndarray]:
        if name not in known:
            devices, processes, mode, parts = LAYOUTS[name]
            output = tmp_path_factory.mktemp("layout") / "arrays.npz"
            port = free_port()
            words = [sys.executable, "-m", "tests.training.layout", mode, str(parts), str(output)]
            running = [
                subprocess.Popen(
                    [*words, str(port), str(i), str(processes)],
                    cwd=ROOT,
                    env=environment(devices),
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for i in range(processes)
            ]
            for process in running:
                _, errors = process.communicate(timeout=400)
                assert process.returncode == 0, errors[-3000:]
            known[name] = dict(np.load(output))
        return known[name]

    return run


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "one device"])
def test_layouts_agree(measure, name):
    one, other = measure("one device"), measure(name)
    assert one.keys() == other.keys()
    for key in one:
        scale = np.abs(one[key]).max() + 1e-8
        # Adam divides by the gradient's own size: where that is near zero, so is its precision.
        tolerance = 1e-5 if "gradient" in key or "loss" in key else 5e-5
        if name == "one device, accumulated" and "gradient" in key:
            tolerance = 1e-6
        np.testing.assert_allclose(
            other[key] / scale, one[key] / scale, atol=tolerance, rtol=0, err_msg=key
        )


def test_layouts_differ_where_they_should(measure):
    """The comparison can fail: a step changes parameters by far more than its tolerance."""
    one = measure("one device")
    changed = [key for key in one if key.startswith("change")]
    assert changed and all(np.abs(one[key]).max() > 1e-3 for key in changed)
    assert json.dumps(sorted(one))  # arrays have plain names
