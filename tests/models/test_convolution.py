"""Our convolution's gradients are XLA's own, however it is transformed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lpdiff_jax.models.convolution import Shape, conv_general_dilated, kernel_gradient

ONE = ((1, 1), (1, 1))
# Kernel, strides, dilation, padding: every kind that the models have.
KINDS = {
    "3x3": (3, (1, 1), (1, 1), ONE),
    "1x1": (1, (1, 1), (1, 1), ((0, 0), (0, 0))),
    "strided": (3, (2, 2), (1, 1), ONE),
    "transposed": (3, (1, 1), (2, 2), ((1, 2), (1, 2))),
}


def draw(shape, dtype="float32", seed=0):
    """Standard normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def plain(x, kernel, shape):
    """XLA's convolution, with XLA's gradients."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        shape.strides,
        shape.padding,
        lhs_dilation=shape.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def loss(x, kernel):
    """Something nonlinear of a 3x3 convolution."""
    return jnp.sin(conv_general_dilated(x, kernel, (1, 1), ONE)).sum()


def relative_error(ours, right):
    """|a - b| / |b| over the whole tensor."""
    ours, right = np.asarray(ours, np.float64), np.asarray(right, np.float64)
    return np.linalg.norm(ours - right) / np.linalg.norm(right)


# One band; bands of rows (a large image); bands of several samples (many small images).
@pytest.mark.parametrize("image", [(2, 6, 10), (1, 40, 100), (34, 10, 10)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 6e-3)])
def test_gradients_are_the_plain_ones(image, kind, dtype, tolerance):
    size, strides, dilation, padding = KINDS[kind]
    x, kernel = draw((*image, 3), dtype), draw((size, size, 3, 5), dtype, seed=1)
    shape = Shape(strides, dilation, padding)

    def ours(x, kernel):
        return conv_general_dilated(x, kernel, strides, padding, lhs_dilation=dilation)

    def right(x, kernel):
        return plain(x, kernel, shape)

    output, pullback = jax.vjp(jax.jit(ours), x, kernel)
    grad = draw(output.shape, dtype, seed=2)
    exact = [a.astype(jnp.float32) for a in (x, kernel)]
    _, exact_pullback = jax.vjp(jax.jit(right), *exact)
    expected = exact_pullback(grad.astype(jnp.float32))
    for gradient, correct, operand in zip(pullback(grad), expected, (x, kernel), strict=True):
        assert gradient.dtype == operand.dtype
        assert relative_error(gradient, correct) < tolerance
    np.testing.assert_array_equal(output, jax.jit(right)(x, kernel))


@pytest.mark.parametrize(
    "transform",
    [
        lambda x, k: jax.grad(loss, 1)(x, k),
        lambda x, k: jax.grad(jax.checkpoint(loss), 1)(x, k),
        lambda x, k: jax.vmap(lambda part: jax.grad(loss, 1)(part[None], k))(x).sum(0),
        lambda x, k: jax.lax.scan(
            lambda total, part: (total + jax.grad(loss, 1)(part[None], k), None), 0 * k, x
        )[0],
        lambda x, k: jax.pmap(
            lambda x, k: jax.lax.psum(jax.grad(loss, 1)(x, k), "devices"),
            axis_name="devices",
            in_axes=(0, None),
            out_axes=None,
        )(x[None], k),
        lambda x, k: jax.jit(jax.grad(loss, 1), donate_argnums=1)(x, k.copy()),
    ],
    ids=["eager", "remat", "vmap", "scan", "pmap", "donate"],
)
def test_gradients_survive_transformations(transform):
    x, kernel = draw((3, 40, 60, 3)), draw((3, 3, 3, 5), seed=1)
    shape = Shape((1, 1), (1, 1), ONE)
    right = jax.grad(lambda x, k: jnp.sin(plain(x, k, shape)).sum(), 1)(x, kernel)
    assert relative_error(transform(x, kernel), right) < 2e-6


def test_other_platforms_get_the_plain_gradient():
    x, kernel = draw((1, 40, 60, 3)), draw((3, 3, 3, 5), seed=1)
    gradient = jax.jit(jax.grad(loss, 1))
    lowered = {
        platform: jax.export.export(gradient, platforms=[platform])(x, kernel).mlir_module()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "stablehlo.while" in lowered["cpu"]
    for platform in ("cuda", "tpu"):
        assert "stablehlo.while" not in lowered[platform]
        assert lowered[platform].count("stablehlo.convolution") == 2


def test_products_sum_in_float32():
    ones = jnp.ones((1, 40, 60, 1), jnp.bfloat16)
    shape = Shape((1, 1), (1, 1), ((0, 0), (0, 0)))
    # In bfloat16 a running sum of ones stops at 256.
    assert float(kernel_gradient(ones, ones, (1, 1), shape)[0, 0, 0, 0]) == 2400


def test_options_that_it_lacks_are_refused():
    x, kernel = draw((1, 8, 8, 3)), draw((3, 3, 3, 5))
    with pytest.raises(NotImplementedError, match="feature_group_count"):
        conv_general_dilated(x, kernel, (1, 1), ONE, feature_group_count=3)
    with pytest.raises(NotImplementedError, match="dilation"):
        conv_general_dilated(x, kernel, (2, 2), ONE, lhs_dilation=(2, 2))
