"""The convolutions of VGG, whose features judge pictures.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(ICLR 2015). Perceptual losses compare the last convolution of each block, before its ReLU, as
ESRGAN does (Wang et al. 2018).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.models.layers import Dtype

VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)
_WIDTHS = (64, 128, 256, 512, 512)
# Mean and spread of ImageNet's pixels in [0, 1].
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_SPREAD = np.array([0.229, 0.224, 0.225], np.float32)


class VGG(nn.Module):
    """Blocks of 3x3 convolutions with max pooling between them.

    Attributes:
      convolutions: how many each of the five blocks has: `VGG16` or `VGG19`.
    """

    convolutions: tuple[int, ...] = VGG16
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Images [B, H, W, 3] in [0, 1] -> the last convolution of each block, before its ReLU."""
        x = ((x - _MEAN) / _SPREAD).astype(self.dtype)
        features = []
        number = 0
        for block, (width, count) in enumerate(zip(_WIDTHS, self.convolutions, strict=True)):
            x = nn.max_pool(x, (2, 2), (2, 2)) if block else x
            for _ in range(count):
                y = nn.Conv(width, (3, 3), padding=1, dtype=self.dtype, name=f"Conv_{number}")(x)
                x = nn.relu(y)
                number += 1
            features.append(y)
        return features
