"""SRCNN: three convolutions from a bicubic enlargement to a sharper picture.

Dong et al., "Image Super-Resolution Using Deep Convolutional Networks" (TPAMI 2016). The paper
works on luminance and without padding; here colours go in and out, and the size stays.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, conv


class SRCNN(nn.Module):
    """Convolution, ReLU, convolution, ReLU, convolution; nothing is added.

    Attributes:
      features: channels after the first and second convolution.
      kernels: sides of the three kernels; (9, 1, 5) is the paper's basic network, (9, 5, 5) its
        best.
    """

    features: tuple[int, int] = (64, 32)
    kernels: tuple[int, int, int] = (9, 1, 5)
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to [B, H, W, out_channels], float32, not clipped."""
        del train
        init = nn.initializers.normal(0.001)  # the paper's, section 3.3
        x = x.astype(self.dtype)
        for i, features in enumerate((*self.features, self.out_channels)):
            x = nn.relu(x) if i else x
            layer = conv(
                features, self.kernels[i], dtype=self.dtype, init=init, name=f"conv{i + 1}"
            )
            x = layer(x)
        return x.astype(jnp.float32)
