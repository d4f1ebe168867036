"""One run on any devices and processes: the same losses and parameters."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.training.processes import finish, free_port, start_command

# (name, devices of a process, processes, mode, parts of accumulation)
LAYOUTS = {
    "one device": (1, 1, "pmap", 1),
    "8 devices, pmap": (8, 1, "pmap", 1),
    "8 devices, jit": (8, 1, "jit", 1),
    "2 processes x 2 devices, pmap": (2, 2, "pmap", 1),
    "2 processes x 2 devices, jit": (2, 2, "jit", 1),
    "one device, accumulated": (1, 1, "pmap", 4),
}


TOLERANCE = 1e-5

CORES = """
import os, sys
os.cpu_count = lambda: int(sys.argv[1])
import jax
from lpdiff_jax.parallel.devices import use_cores
use_cores(map(int, sys.argv[2:]))
print(jax.local_device_count())
"""


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """Runs a layout once; returns arrays by name: gradients, losses, parameters after the steps."""
    known = {}

    def run(networks: str, name: str) -> dict[str, np.ndarray]:
        if (networks, name) not in known:
            output = tmp_path_factory.mktemp("layout") / "arrays.npz"
            known[networks, name] = train_in(networks, *LAYOUTS[name], output)
        return known[networks, name]

    return run


def train_in(networks, devices, processes, mode, parts, output) -> dict[str, np.ndarray]:
    words = [sys.executable, "-m", "tests.parallel.layout", networks, mode, str(parts), str(output)]
    port = free_port()
    running = [
        start_command([*words, str(port), str(i), str(processes)], devices)
        for i in range(processes)
    ]
    for status, printed in map(finish, running):
        assert status == 0, printed[-3000:]
    return dict(np.load(output))


def relative_error(array: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays over the largest value of the first."""
    return np.abs(array - other).max() / np.abs(array).max()


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "one device"])
def test_layouts_agree(measure, name):
    """Losses, every gradient, every parameter and its average after three steps of the recipe."""
    one, other = measure("small", "one device"), measure("small", name)
    assert one.keys() == other.keys()
    for key in (key for key in one if not key.startswith("change")):
        exact = name == "one device, accumulated" and key.startswith("gradient")
        assert relative_error(one[key], other[key]) <= (1e-6 if exact else TOLERANCE), key


def test_layouts_differ_where_they_should(measure):
    """The comparison can fail: the steps change every parameter by far more than its tolerance."""
    one = measure("small", "one device")
    changed = [key.removeprefix("change") for key in one if key.startswith("change")]
    assert len(changed) == 6
    for key in changed:
        assert one[f"change{key}"] > 100 * TOLERANCE * np.abs(one[f"params{key}"]).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "one device"])
def test_layouts_agree_with_real_networks(measure, name):
    """Losses, and each network's gradients and parameters, taken as one vector each."""
    one, other = measure("real", "one device"), measure("real", name)
    assert relative_error(one["loss"], other["loss"]) <= TOLERANCE
    for kind in ("gradient", "params", "ema"):
        for network in ("condition", "denoiser", "reader"):
            keys = [key for key in one if key.startswith(f"{kind}/{network}/")]
            a, b = (np.concatenate([found[key].ravel() for key in keys]) for found in (one, other))
            error = np.linalg.norm(a - b) / np.linalg.norm(a)
            print(f"{name}: {kind} of {network}: {error:.1e}")
            assert error <= TOLERANCE


@pytest.mark.parametrize(
    ("cores", "batch_sizes", "environment", "devices"),
    [
        (2, (32, 16), {}, 2),
        (6, (32, 16), {}, 4),
        (6, (32, 15), {}, 1),
        (6, (9, 15), {}, 3),
        (6, (32,), {"JAX_NUM_CPU_DEVICES": "1"}, 1),
        (6, (32,), {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
    ],
)
def test_a_cpus_cores_become_devices(cores, batch_sizes, environment, devices):
    unset = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    words = [sys.executable, "-c", CORES, str(cores), *map(str, batch_sizes)]
    done = subprocess.run(words, env=kept | environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(devices), done.stderr
