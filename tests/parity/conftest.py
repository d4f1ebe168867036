"""What the parity tests share: the golden numbers, and the weights and inputs behind them."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest

from lpdiff_jax.pytorch.checkpoint import from_state_dict

GOLDEN = Path(__file__).parent.parent / "golden"
BETAS_1000 = np.linspace(1e-6, 1e-2, 1000)


def draw(name, shape):
    """Standard normal numbers, float32, that belong to a name."""
    generator = np.random.default_rng([0, zlib.crc32(name.encode())])
    return generator.standard_normal(shape, dtype=np.float32)


def draw_weight(name, shape):
    """The weight that the golden numbers were made with."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = draw(name, shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * abs(z)
    if name.endswith((".running_mean", ".bias")):
        return np.float32(0.1) * z
    if len(shape) == 1:
        return 1 + np.float32(0.1) * z
    return z / np.float32(math.sqrt(math.prod(shape[1:])))


def seeded_checkpoint(shapes_file, **arguments):
    """A checkpoint with seeded weights, through the mapping that users' checkpoints take."""
    shapes = json.loads((GOLDEN / shapes_file).read_text())
    weights = [name for name in shapes if "." in name]  # the others are schedule buffers
    state = {name: draw_weight(name, tuple(shapes[name])) for name in weights}
    return from_state_dict(state, **arguments)


@pytest.fixture(scope="session")
def draw_image():
    """Draws the input of a name, stated as [B, C, H, W]; returns it as [B, H, W, C]."""
    return lambda name, shape: draw(name, shape).transpose(0, 2, 3, 1)


@pytest.fixture(scope="session")
def relative_error():
    """|a - b| / |b| over the whole tensor; images come as [B, H, W, C] and [B, C, H, W]."""

    def error(ours, golden):
        ours = np.asarray(ours, np.float64)
        if golden.ndim == 4:
            golden = golden.transpose(0, 2, 3, 1)
        assert ours.shape == golden.shape
        return np.linalg.norm(ours - golden) / np.linalg.norm(golden)

    return error


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by its stem, as a dict of arrays."""

    def load(stem):
        with np.load(GOLDEN / f"{stem}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def full_checkpoint():
    """The 92 M network of the published size."""
    return seeded_checkpoint("state_dict_shapes.json", betas=BETAS_1000)


@pytest.fixture(scope="session")
def small_checkpoint():
    """The small network of the golden numbers, linear schedule 1e-6 .. 0.3 of 20 steps."""
    betas = np.linspace(1e-6, 0.3, 20)
    return seeded_checkpoint("small_state_dict_shapes.json", norm_groups=16, betas=betas)
