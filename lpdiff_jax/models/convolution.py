"""Two-dimensional convolution whose gradients are fast on a CPU too.

XLA's CPU backend runs a convolution's forward pass well, but the gradient of the kernel is to it a
convolution with a kernel as large as the image, in one thread: 2 to 10 times slower than need be.
Here that gradient is, on the CPU, a loop of matrix products over bands of the image that stay in
the cache. Other platforms get XLA's own gradients, and the forward pass is XLA's everywhere.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]
# Positions of a band: enough for an efficient matrix product, few enough for the cache.
_BAND = 1600


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    *,
    lhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` for `flax.linen.Conv`, with gradients of our own on the CPU.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C, F].
      window_strides: the strides of rows and columns.
      padding: the padding before and after rows and columns; less than the kernel's size.
      lhs_dilation: the input's dilation by rows and columns (a transposed convolution); it cannot
        be combined with strides.
      dimension_numbers: NHWC, as flax gives them.
      **options: kernel dilation, groups and precision; only their defaults are taken.

    Raises:
      NotImplementedError: another option than the default.
    """
    del dimension_numbers
    (top, bottom), (left, right) = padding
    shape = Shape(_pair(window_strides), _pair(lhs_dilation), ((top, bottom), (left, right)))
    defaults = {"rhs_dilation": (1, 1), "feature_group_count": 1}
    others = {k: v for k, v in options.items() if v is not None and v != defaults.get(k)}
    if others or (shape.strides != (1, 1) and shape.dilation != (1, 1)):
        raise NotImplementedError(f"a convolution of {shape} with {others}")
    return _convolve(x, kernel, shape)


class Shape(NamedTuple):
    """What a convolution is besides its operands: rows and columns each time."""

    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding


def _pair(numbers: Sequence[int] | None) -> tuple[int, int]:
    rows, columns = numbers or (1, 1)
    return rows, columns


def _plain(x: jax.Array, kernel: jax.Array, shape: Shape) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        shape.strides,
        shape.padding,
        lhs_dilation=shape.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, shape: Shape) -> jax.Array:
    return _plain(x, kernel, shape)


def _forward(
    x: jax.Array, kernel: jax.Array, shape: Shape
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _plain(x, kernel, shape), (x, kernel)


def _backward(
    shape: Shape, saved: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (x_grad,) = jax.linear_transpose(lambda x: _plain(x, kernel, shape), x)(grad)

    def by_xla(x: jax.Array, grad: jax.Array) -> jax.Array:
        (kernel_grad,) = jax.linear_transpose(lambda k: _plain(x, k, shape), kernel)(grad)
        return kernel_grad

    def by_products(x: jax.Array, grad: jax.Array) -> jax.Array:
        kh, kw = kernel.shape[:2]
        return kernel_gradient(x, grad, (kh, kw), shape)

    return x_grad, jax.lax.platform_dependent(x, grad, cpu=by_products, default=by_xla)


_convolve.defvjp(_forward, _backward)


def kernel_gradient(
    x: jax.Array, grad: jax.Array, size: tuple[int, int], shape: Shape
) -> jax.Array:
    """A convolution's gradient by its kernel, as matrix products that sum in float32.

    Args:
      x: [B, H, W, C], the convolution's input.
      grad: [B, h, w, F], the gradient of its output.
      size: the size of the kernel, (kh, kw).
      shape: the strides, padding and dilation of the convolution.

    Returns:
      [kh, kw, C, F], of x's dtype.
    """
    if shape.dilation != (1, 1):
        # A transposed convolution is a strided one with input and output exchanged.
        padding = [
            (k - 1 - before, k - 1 - after)
            for k, (before, after) in zip(size, shape.padding, strict=True)
        ]
        swapped = _strided_kernel_gradient(grad, x, size, shape.dilation, padding)
        return jnp.flip(swapped, (0, 1)).swapaxes(2, 3).astype(x.dtype)
    if shape.strides == (1, 1):
        return _unstrided_kernel_gradient(x, grad, size, shape.padding).astype(x.dtype)
    return _strided_kernel_gradient(x, grad, size, shape.strides, shape.padding).astype(x.dtype)


def _unstrided_kernel_gradient(
    x: jax.Array, grad: jax.Array, size: tuple[int, int], padding: Sequence[tuple[int, int]]
) -> jax.Array:
    """One product a band gives all taps: x shifted by columns times grad shifted by rows."""
    kh, kw = size
    (top, bottom), columns = padding
    batch, height, _, channels = x.shape
    width, features = grad.shape[2:]
    samples, rows = _band_shape(batch, height, width)
    grad = _pad(grad, ((kh - 1 - top, kh - 1 - bottom), (0, 0)))

    def product(sample: jax.Array, row: jax.Array) -> jax.Array:
        a = _take(x, sample, row, samples, rows)
        a = _pad(a, ((0, 0), columns))
        b = _take(grad, sample, row, samples, rows + kh - 1)
        a = jnp.concatenate([a[:, :, j : j + width] for j in range(kw)], axis=-1)
        b = jnp.concatenate([b[:, kh - 1 - i :][:, :rows] for i in range(kh)], axis=-1)
        return _correlate(a, b)

    total = _sum_over_bands(product, batch // samples, height // rows, samples, rows)
    return total.reshape(kw, channels, kh, features).transpose(2, 0, 1, 3)


def _strided_kernel_gradient(
    x: jax.Array,
    grad: jax.Array,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """Patches of x (few, as the stride skips) times grad."""
    kh, kw = size
    down, across = strides
    batch, height, width, features = grad.shape
    channels = x.shape[-1]
    samples, rows = _band_shape(batch, height, width)
    x = _pad(x, padding)

    def product(sample: jax.Array, row: jax.Array) -> jax.Array:
        a = _take(x, sample, row * down, samples, (rows - 1) * down + kh)
        b = _take(grad, sample, row, samples, rows)
        last_row, last_column = (rows - 1) * down + 1, (width - 1) * across + 1
        patches = [
            a[:, i : i + last_row : down, j : j + last_column : across]
            for i in range(kh)
            for j in range(kw)
        ]
        return _correlate(jnp.concatenate(patches, axis=-1), b)

    total = _sum_over_bands(product, batch // samples, height // rows, samples, rows)
    return total.reshape(kh, kw, channels, features)


def _pad(x: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """Pads rows and columns of x [B, H, W, C] with zeros, or crops where negative."""
    rows, columns = ((before, after, 0) for before, after in padding)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), rows, columns, (0, 0, 0)))


def _band_shape(batch: int, height: int, width: int) -> tuple[int, int]:
    """Samples and rows of a band: rows of one sample, or whole small samples."""
    if height * width > _BAND:
        return 1, _divisor(height, max(_BAND // width, 1))
    return _divisor(batch, _BAND // (height * width)), height


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number up to a bound."""
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)


def _take(x: jax.Array, sample: jax.Array, row: jax.Array, samples: int, rows: int) -> jax.Array:
    return jax.lax.dynamic_slice(x, (sample, row, 0, 0), (samples, rows, *x.shape[2:]))


def _correlate(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sum over positions of a [n, h, w, C] times b [n, h, w, F]: [C, F] float32."""
    a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _sum_over_bands(
    product: Callable[[jax.Array, jax.Array], jax.Array],
    groups: int,
    bands: int,
    samples: int,
    rows: int,
) -> jax.Array:
    """Sums product(first sample, first row) over all bands of all samples."""
    zero = jnp.zeros((), jnp.int32)
    if groups * bands == 1:
        return product(zero, zero)
    shape = jax.eval_shape(product, zero, zero)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + product(i // bands * samples, i % bands * rows)

    return jax.lax.fori_loop(0, groups * bands, add, jnp.zeros(shape.shape, shape.dtype))
