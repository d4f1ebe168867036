"""Layers that both networks share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.layers import GroupNorm, Norm, attend, depth_to_space, space_to_depth
from lpdiff_jax.models.median import lower_median


def draw(shape, dtype="float32"):
    """Standard normal numbers."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_group_norm_is_flax_group_norm(dtype, tolerance):
    x = draw((2, 5, 7, 12), dtype) * 3 + 1
    params = {"scale": draw((12,)), "bias": draw((12,)) + 1}
    ours = GroupNorm(4, dtype=jnp.dtype(dtype)).apply({"params": params}, x)
    flax = nn.GroupNorm(4, epsilon=1e-5).apply({"params": params}, x.astype(jnp.float32))
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours.astype(jnp.float32), flax, rtol=tolerance, atol=tolerance)


def test_group_norm_gradients_are_flax_gradients():
    x, params = draw((2, 5, 7, 12)), {"scale": draw((12,)), "bias": draw((12,))}

    def gradients(module):
        loss = lambda p, x: jnp.sin(module.apply({"params": p}, x)).sum()  # noqa: E731
        return jax.grad(loss, (0, 1))(params, x)

    ours, flax = gradients(GroupNorm(3)), gradients(nn.GroupNorm(3, epsilon=1e-5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, flax)


def test_group_norm_statistics_are_float32():
    # Mean 100, deviation 1: squares in bfloat16 would lose the deviation.
    x = (draw((1, 32, 32, 4)) + 100).astype(jnp.bfloat16)
    module = GroupNorm(2, dtype=jnp.bfloat16)
    y = module.apply(module.init(jax.random.key(0), x), x).astype(jnp.float32)
    assert abs(float(y.std()) - 1) < 0.01


def test_group_norm_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="10 channels do not divide into 4 groups"):
        GroupNorm(4).init(jax.random.key(0), draw((1, 2, 2, 10)))


def test_unknown_norm_names_the_allowed():
    with pytest.raises(ValueError, match="'batch', 'group'"):
        Norm("layer").init(jax.random.key(0), draw((1, 2, 2, 8)))


def test_group_norm_of_parts_is_that_of_the_whole():
    """Groups of 4 channels straddle the parts, of 6 and 10."""
    parts = draw((2, 5, 7, 6)), draw((2, 5, 7, 10)) * 3 + 1
    params = {"params": {"scale": draw((16,)), "bias": draw((16,)) + 1}}
    whole = jnp.concatenate(parts, axis=-1)
    norm = GroupNorm(4)
    np.testing.assert_allclose(
        norm.apply(params, whole, parts), norm.apply(params, whole), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_computes_both_products_as_asked(dtype):
    q, k, v = (draw((2, length, 3, 4), dtype) for length in (5, 7, 7))
    mask = jnp.arange(7)[None, None, None] < jnp.array([4, 7])[:, None, None, None]
    found = attend(q, k, v, mask, dtype=jnp.dtype(dtype))
    expected = nn.dot_product_attention(*(x.astype(jnp.float32) for x in (q, k, v)), mask=mask)
    assert found.dtype == dtype
    tolerance = 1e-6 if dtype == "float32" else 3e-2
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=0, atol=tolerance)
    lowered = jax.jit(lambda *x: attend(*x, dtype=jnp.dtype(dtype))).lower(q, k, v)
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    short = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    assert [line.count(f"x{short}>") for line in products] == [3, 3]


@pytest.mark.parametrize("length", [1, 2, 5, 96])
@pytest.mark.parametrize("axis", [1, -1])
def test_lower_median_is_the_sorted_middle(length, axis):
    x = draw((2, length, 3) if axis == 1 else (2, 3, length))
    expected = np.take(np.sort(x, axis), (length - 1) // 2, axis)
    np.testing.assert_array_equal(lower_median(x, axis), expected)


def test_lower_median_of_extremes_and_ties():
    values = jnp.array([[0.0, -0.0, 0.0, 5.0], [-jnp.inf, jnp.inf, -1.0, -2.0], [-3.0] * 4])
    np.testing.assert_array_equal(lower_median(values, 1), [0.0, -2.0, -3.0])


def test_lower_median_gradient_goes_to_one_element():
    x = jnp.array([3.0, 1.0, 2.0, 2.0, 9.0])
    np.testing.assert_array_equal(
        jax.grad(lambda x: lower_median(x, 0))(x), [0.0, 0.0, 1.0, 0.0, 0.0]
    )


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_space_to_depth_is_undone(patch):
    x = draw((2, 8, 16, 3))
    packed = space_to_depth(x, patch)
    assert packed.shape == (2, 8 // patch, 16 // patch, 3 * patch**2)
    np.testing.assert_array_equal(depth_to_space(packed, patch), x)
