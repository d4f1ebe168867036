"""The discriminator of Real-ESRGAN: a U-Net with spectral norm, one logit a pixel.

Wang et al., "Real-ESRGAN" (ICCV workshops 2021); Miyato et al., "Spectral Normalization for
Generative Adversarial Networks" (ICLR 2018).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.baselines.blocks import TORCH_INIT, enlarge_bilinear, leaky_relu
from lpdiff_jax.models.convolution import conv_general_dilated
from lpdiff_jax.models.layers import Dtype, conv


class UNetDiscriminator(nn.Module):
    """Three halvings, three doublings, two more convolutions.

    Attributes:
      features: channels at full resolution.
      skips: whether features going down are added going up.
    """

    features: int = 64
    skips: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Judges images.

        Args:
          x: [B, H, W, 3] in [0, 1], H and W multiples of 8.
          train: does one power iteration in every spectral norm first; the variables
            `batch_stats` change then.

        Returns:
          Logits [B, H, W, 1], float32; above 0 is "real".

        Raises:
          ValueError: another size.
        """
        if x.shape[1] % 8 or x.shape[2] % 8:
            raise ValueError(f"height and width must be multiples of 8, not {x.shape[1:3]}")
        layer = functools.partial(SpectralConv, dtype=self.dtype)
        x = x.astype(self.dtype)
        plain = functools.partial(conv, dtype=self.dtype, init=TORCH_INIT)
        x = leaky_relu(plain(self.features, name="conv0")(x))
        known = []
        for i in (1, 2, 3):
            known.append(x)
            x = leaky_relu(layer(self.features * 2**i, 4, 2, name=f"conv{i}")(x, train))
        for i in (4, 5, 6):
            width = self.features * 2 ** (6 - i)
            x = leaky_relu(layer(width, name=f"conv{i}")(enlarge_bilinear(x), train))
            x = x + known.pop() if self.skips else x
        for i in (7, 8):
            x = leaky_relu(layer(self.features, name=f"conv{i}")(x, train))
        return plain(1, name="conv9")(x).astype(jnp.float32)


class SpectralConv(nn.Module):
    """A convolution without bias whose kernel is divided by its largest singular value.

    The kernel is the matrix [out, in * rows * columns]. The singular vectors `u`, `v` are kept
    among the `batch_stats`; a call with `train` improves them by one power iteration and then
    takes them for constants.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", TORCH_INIT, shape).astype(jnp.float32)
        matrix = kernel.transpose(3, 2, 0, 1).reshape(self.features, -1)
        fixed = jax.lax.stop_gradient(matrix)
        u = self.variable("batch_stats", "u", lambda: _unit(self._draw()))
        v = self.variable("batch_stats", "v", lambda: _unit(fixed.T @ u.value))
        left, right = u.value, v.value
        if train and not self.is_initializing():
            right = _unit(jnp.matmul(fixed.T, left, precision="highest"))
            left = _unit(jnp.matmul(fixed, right, precision="highest"))
            u.value, v.value = left, right
        sigma = jnp.dot(left, jnp.matmul(matrix, right, precision="highest"))
        return conv_general_dilated(
            x.astype(self.dtype),
            (kernel / sigma).astype(self.dtype),
            (self.stride, self.stride),
            ((1, 1), (1, 1)),
        )

    def _draw(self) -> jax.Array:
        return jax.random.normal(self.make_rng("params"), (self.features,))


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
