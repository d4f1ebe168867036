"""What the parity tests of the compared systems share: golden numbers, weights and inputs.

`tests/golden/baselines/README.md` says how weights and inputs follow from their names.
"""

import json
import math
import re
import zlib
from pathlib import Path

import flax.traverse_util
import jax
import numpy as np
import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "baselines"
ONE_MODULE = 1e-5
NETWORK = 1e-4


def generator(name):
    """The random numbers that belong to a name."""
    return np.random.default_rng([1, zlib.crc32(name.encode())])


def draw(name, shape):
    """Standard normal numbers, float32, that belong to a name."""
    return generator(name).standard_normal(shape, dtype=np.float32)


def draw_weight(name, shape):
    """The weight that the golden numbers were made with."""
    z = draw(name, shape)
    if name.endswith(".weight_u"):
        return z / np.linalg.norm(z)
    if name.endswith(".bias"):
        return np.float32(0.1) * z
    if len(shape) == 1:
        return 1 + np.float32(0.1) * z
    return z / np.float32(math.sqrt(math.prod(shape[1:])))


def draw_state(shapes, buffers=False):
    """A state dict by its shapes; computed buffers are left out, or zeros."""
    computed = re.compile(r"(relative_position_index(_\w+)?|attn_mask)$")
    weights = {
        name: draw_weight(name, tuple(shape))
        for name, shape in shapes.items()
        if not computed.search(name)
    }
    for name in weights:
        if name.endswith(".weight_v"):
            stem = name.removesuffix("_v")
            matrix = weights[f"{stem}_orig"].astype(np.float64)
            v = matrix.reshape(len(matrix), -1).T @ weights[f"{stem}_u"].astype(np.float64)
            weights[name] = (v / np.linalg.norm(v)).astype(np.float32)
    if buffers:
        weights |= {n: np.zeros(shape) for n, shape in shapes.items() if computed.search(n)}
    return weights


@pytest.fixture(scope="session")
def state():
    """(file stem, configuration) -> its seeded state dict, with buffers or without."""

    def load(stem, configuration, buffers=False):
        shapes = json.loads((GOLDEN / f"{stem}_shapes.json").read_text())
        return draw_state(shapes[configuration], buffers)

    return load


@pytest.fixture(scope="session")
def compiled():
    """`jax.jit` with less optimisation: the networks are so small that compiling takes longest."""
    options = {"xla_backend_optimization_level": 0}
    return lambda function: jax.jit(function, compiler_options=options)


@pytest.fixture(scope="session")
def image():
    """Draws the input of a name, stated as [B, C, H, W]; returns it as [B, H, W, C]."""
    return lambda name, shape: draw(name, shape).transpose(0, 2, 3, 1)


@pytest.fixture(scope="session")
def numbers_by():
    """The random numbers that belong to a name, as a generator."""
    return generator


@pytest.fixture(scope="session")
def numbers_of():
    """Draws the input of a name, as it is."""
    return draw


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by its stem, as a dict of arrays."""

    def load(stem):
        with np.load(GOLDEN / f"{stem}.npz") as arrays:
            return dict(arrays)

    return load


def relative_error(ours, theirs):
    """|a - b| / |b| over the whole tensor."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.fixture(scope="session")
def check():
    """Asserts that ours is the golden array; images come as NHWC and NCHW."""

    def compare(ours, theirs, tolerance=ONE_MODULE):
        if theirs.ndim == 4 and np.ndim(ours) == 4:
            theirs = theirs.transpose(0, 2, 3, 1)
        error = relative_error(ours, theirs)
        assert error < tolerance, error

    return compare


@pytest.fixture(scope="session")
def check_gradient_norms():
    """Asserts that the norm of every parameter's gradient is the golden one.

    Takes the gradient's variables, the names, and the golden norms by torch's names.
    """

    def compare(gradient, names, norms):
        ours = {
            names.torch_name(("params", *path)): np.linalg.norm(value)
            for path, value in flax.traverse_util.flatten_dict(gradient).items()
        }
        assert norms
        for name, theirs in norms.items():
            assert abs(ours[name] - theirs) < NETWORK * theirs, name

    return compare


def norms_of(numbers, prefix="gradnorm.", suffix=""):
    """The golden gradient norms by parameter."""
    return {
        name.removeprefix(prefix).removesuffix(suffix): value
        for name, value in numbers.items()
        if name.startswith(prefix) and name.endswith(suffix)
    }


@pytest.fixture(scope="session")
def gradient_norms():
    """(golden arrays, prefix, suffix) -> norms by parameter."""
    return norms_of
