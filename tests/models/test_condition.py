"""Properties of the condition network: frames, masks, choices, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.condition import RELEASED, ConditionNetwork, Encoder
from lpdiff_jax.models.dfm import FrameFusion

SMALL = dict(features=(8, 16), strides=(1, 2), norm_groups=4, heads=2, frame_blocks=1, blocks=1)
SHAPE = (8, 16)


def draw(shape, seed=0):
    """Numbers in [-1, 1]."""
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def random_variables(module, *inputs):
    """Random everywhere: initial biases and last layers are zero and would hide mistakes."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    generator = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: np.abs(0.3 * generator.standard_normal(x.shape, np.float32)), shapes
    )


@pytest.fixture(scope="module")
def network():
    """Applies a small network with random weights: (frames, mask) -> psi."""
    module = ConditionNetwork(**SMALL)
    variables = random_variables(module, draw((1, 3, *SHAPE, 3)))
    return jax.jit(lambda frames, mask=None: module.apply(variables, frames, mask))


def close(ours, right):
    np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_padding_changes_nothing(network, count):
    frames = draw((2, count, *SHAPE, 3))
    padded = jnp.concatenate([frames, draw((2, 2, *SHAPE, 3), seed=9)], axis=1)
    mask = jnp.arange(count + 2)[None].repeat(2, 0) < count
    psi = network(frames)
    assert psi.shape == (2, *SHAPE, 3) and psi.dtype == jnp.float32
    assert float(psi.std()) > 0.01
    close(network(padded, mask), psi)


def test_each_group_of_a_batch_has_its_own_mask(network):
    frames = draw((2, 3, *SHAPE, 3))
    mask = jnp.array([[True, True, True], [True, False, False]])
    psi = network(frames, mask)
    close(psi[:1], network(frames[:1]))
    close(psi[1:], network(frames[1:, :1]))


def test_order_matters_for_the_last_frame_alone(network):
    frames = draw((1, 4, *SHAPE, 3))
    close(network(frames[:, jnp.array([2, 0, 1, 3])]), network(frames))
    other = network(frames[:, ::-1])
    assert float(jnp.abs(other - network(frames)).max()) > 1e-3


def test_without_skips_order_does_not_matter():
    module = ConditionNetwork(**SMALL, skips="none")
    frames = draw((1, 3, *SHAPE, 3))
    variables = random_variables(module, frames)
    apply = jax.jit(module.apply)
    close(apply(variables, frames[:, ::-1]), apply(variables, frames))


@pytest.mark.parametrize(
    "choice",
    [
        {"norm": "batch", "frame_batching": "sequential", "skips": "none", "positions": "none"},
        {"pairing": "consecutive", "residual": "projected_query", "curvature": "published"},
        {"channel_median": "max", "channel_kernel": 1, "outer_skip": "none", "patch": 1},
        {"blocks": 0, "frame_blocks": 0, "dtype": jnp.bfloat16},
        RELEASED,
    ],
    ids=lambda choice: "released" if choice is RELEASED else str(choice),
)
def test_every_choice_runs(choice):
    module = ConditionNetwork(**(SMALL | choice))
    frames = draw((1, 3, 8, 16, 3))
    variables = random_variables(module, frames)
    psi = jax.jit(module.apply)(variables, frames)
    assert psi.shape == (1, 8, 16, 3) and psi.dtype == jnp.float32
    assert np.isfinite(psi).all()


def test_batch_norm_updates_its_statistics_in_training():
    module = ConditionNetwork(**SMALL, norm="batch")
    frames = draw((2, 3, *SHAPE, 3))
    variables = random_variables(module, frames)
    train = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))
    _, updated = train(variables, frames)
    before, after = variables["batch_stats"], updated["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({}, (1, 3, 10, 16, 3), "multiples of 4, not 10 x 16"),
        ({}, (1, 0, 8, 16, 3), "N >= 1"),
        ({}, (3, 8, 16, 3), "frames are"),
        ({}, (1, 3, 8, 16, 1), "frames are"),
        ({"pairing": "consecutive"}, (1, 2, 8, 16, 3), "exactly 3 frames, not 2"),
        ({"pairing": "some"}, (1, 3, 8, 16, 3), "'consecutive'"),
        ({"skips": "some"}, (1, 3, 8, 16, 3), "'fused'"),
        ({"outer_skip": "some"}, (1, 3, 8, 16, 3), "'mean'"),
        ({"frame_batching": "some"}, (1, 3, 8, 16, 3), "'sequential'"),
        ({"residual": "some"}, (1, 3, 8, 16, 3), "'projected_query'"),
        ({"positions": "some"}, (1, 3, 8, 16, 3), "'2d'"),
        ({"curvature": "some"}, (1, 3, 8, 16, 3), "'published'"),
        ({"channel_median": "some"}, (1, 3, 8, 16, 3), "'max'"),
    ],
    ids=str,
)
def test_what_it_cannot_take_is_named(fields, shape, message):
    module = ConditionNetwork(**(SMALL | fields))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize("masked", [False, True])
def test_fusing_the_frames_of_one_plate_has_the_same_gradient_however_compiled(masked):
    """Without optimisation XLA computes the stages twice, and rounds them in two ways."""
    encoder, fusion = Encoder((8, 8), (1, 2), 0, "group", 4), FrameFusion(8)
    frames = draw((3, 24, 48, 12))
    params = random_variables(encoder, frames)
    mask = jnp.ones((1, 3), bool)
    merge = random_variables(fusion, draw((1, 3, 24, 48, 8)), mask)

    def loss(params, frames, mask):
        stages = encoder.apply(params, frames)
        fused = fusion.apply(merge, stages[0][None], mask if masked else jnp.ones((1, 3), bool))
        return jnp.sin(fused).mean() + jnp.sin(stages[-1]).mean()

    quick, careful = (
        jax.jit(jax.grad(loss), compiler_options={"xla_backend_optimization_level": level})(
            params, frames, mask
        )
        for level in (0, 1)
    )
    for ours, right in zip(jax.tree.leaves(quick), jax.tree.leaves(careful), strict=True):
        np.testing.assert_allclose(ours, right, atol=1e-5)
