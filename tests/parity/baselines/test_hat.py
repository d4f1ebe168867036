"""HAT, block by block, against the public program's numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.baselines import windows
from lpdiff_jax.models.baselines.hat import (
    HAT,
    ChannelAttention,
    Group,
    HybridBlock,
    OverlappingBlock,
)
from lpdiff_jax.pytorch.baselines import hat

BLOCK = dict(heads=2, window=4, mlp_ratio=2.0)
HYBRID = BLOCK | dict(compress=3, squeeze=6)
GROUP = Group((0.0, 0.0), **HYBRID, overlap=0.5)


@pytest.fixture(scope="module")
def numbers(golden):
    return golden("hat")


@pytest.fixture(scope="module")
def loaded(state):
    return hat.load(state("hat", "x1"), "seeded")


@pytest.fixture(scope="module")
def params(loaded):
    return loaded[1]["params"]


@pytest.fixture(scope="module")
def tokens(numbers_of):
    return numbers_of("in.tokens", (2, 128, 24)).reshape(2, 8, 16, 24)


@pytest.fixture(scope="module")
def run(compiled):
    return lambda module, params, *args: compiled(module.apply)({"params": params}, *args)


def test_indices_and_mask(numbers):
    np.testing.assert_array_equal(windows.relative_index(4), numbers["rpi_sa"])
    np.testing.assert_array_equal(windows.overlapping_index(4, 6), numbers["rpi_oca"] % 81)
    np.testing.assert_array_equal(windows.shift_mask(8, 16, 4), numbers["mask"])


def test_channel_attention(params, tokens, numbers, check, run):
    cab = params["group_0"]["block_0"]["channel"]
    check(run(ChannelAttention(3, 6), cab, tokens), numbers["cab"])


@pytest.mark.parametrize("index, name", [(0, "window_attention"), (1, "window_attention_masked")])
def test_window_attention(index, name, params, tokens, numbers, check, run):
    attention = params["group_0"][f"block_{index}"]["attention"]
    mask = numbers["mask"].astype(np.float32) if index else None
    attended = run(windows.WindowAttention(2, 4), attention, windows.partition(tokens, 4), mask)
    check(attended.reshape(16, 16, 24), numbers[name])


@pytest.mark.parametrize("index, name", [(0, "hab_unshifted"), (1, "hab_shifted")])
def test_hybrid_block(index, name, params, tokens, numbers, check, run):
    block = HybridBlock(**HYBRID, shift=index == 1)
    out = run(block, params["group_0"][f"block_{index}"], tokens)
    check(out.reshape(2, 128, 24), numbers[name])


def test_overlapping_block(params, tokens, numbers, check, run):
    out = run(OverlappingBlock(**BLOCK, overlap=0.5), params["group_0"]["overlapping"], tokens)
    check(out.reshape(2, 128, 24), numbers["ocab"])


def test_group(params, tokens, numbers, check, run):
    out = tokens + run(GROUP, params["group_0"], tokens)
    check(out.reshape(2, 128, 24), numbers["rhag"])


def test_body(params, image, numbers, check, run):
    x = image("in.feat", (1, 24, 8, 16))
    norm = nn.LayerNorm(1e-5)
    x = norm.apply({"params": params["embed_norm"]}, x)
    for i in range(2):
        x = x + run(GROUP, params[f"group_{i}"], x)
    check(norm.apply({"params": params["norm"]}, x), numbers["features"], 1e-4)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarging(scale, state, image, numbers, check, compiled):
    network, variables = hat.load(state("hat", f"x{scale}"), "seeded")
    assert network.scale == scale
    out = compiled(network.apply)(variables, image("in.small", (1, 3, 8, 16)))
    check(out, numbers[f"out_x{scale}"], 1e-4)


def test_window_of_eight(state, image, numbers, check, compiled):
    network, variables = hat.load(state("hat", "x1_window8"), "seeded")
    assert network.window == 8
    out = compiled(network.apply)(variables, image("in.x", (1, 3, 16, 32)))
    check(out, numbers["out_x1_window8"], 1e-4)


def test_padding(loaded, image, numbers, check, compiled):
    network, variables = loaded
    out = compiled(network.apply)(variables, image("in.odd", (1, 3, 14, 30)))
    check(out, numbers["out_x1_padded"], 1e-4)


def test_output_and_gradients(
    loaded, image, numbers, check, check_gradient_norms, gradient_norms, compiled
):
    network, variables = loaded
    x, target = image("in.x", (1, 3, 16, 32)), image("in.hr", (1, 3, 16, 32))

    def loss(params):
        out = network.apply({"params": params}, x)
        return jnp.mean(jnp.abs(out - target)), out

    (value, out), gradient = compiled(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    check(out, numbers["out_x1"], 1e-4)
    check(value, numbers["loss"], 1e-4)
    name = "grad.layers.0.residual_group.blocks.1.attn.relative_position_bias_table"
    check(gradient["group_0"]["block_1"]["attention"]["table"], numbers[name], 1e-4)
    check_gradient_norms(gradient, hat.NAMES, gradient_norms(numbers))


def test_inferred_shape(loaded):
    expected = HAT(
        features=24, depths=(2, 2), heads=2, window=4, compress=3, squeeze=6, overlap=0.5, scale=1
    )
    assert loaded[0] == expected
