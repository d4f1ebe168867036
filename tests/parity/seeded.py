"""The golden numbers, and the seeded weights and inputs behind them; without pytest."""

import json
import math
import zlib
from pathlib import Path

import numpy as np

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


def golden_numbers(stem):
    """A golden file by its stem, as a dict of arrays."""
    with np.load(GOLDEN / f"{stem}.npz") as arrays:
        return dict(arrays)


def relative(ours, golden):
    """|a - b| / |b| over the whole tensor; images come as [B, H, W, C] and [B, C, H, W]."""
    ours = np.asarray(ours, np.float64)
    if golden.ndim == 4:
        golden = golden.transpose(0, 2, 3, 1)
    assert ours.shape == golden.shape
    return np.linalg.norm(ours - golden) / np.linalg.norm(golden)
