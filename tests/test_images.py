"""Pixels and what models see: the same numbers on the host and on a device."""

import jax.numpy as jnp
import numpy as np

from lpdiff_jax.images import to_float, to_uint8


def test_numpy_gives_what_jax_gives_to_the_bit():
    pixels = np.arange(256, dtype=np.uint8)
    seen = to_float(pixels)
    assert isinstance(seen, np.ndarray)
    np.testing.assert_array_equal(seen, to_float(jnp.asarray(pixels)))
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    found = to_uint8(values)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, to_uint8(jnp.asarray(values)))


def test_pixels_come_back():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(pixels)), pixels)
