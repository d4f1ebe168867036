"""What the finer stages show of the characters, for the reading head."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, GroupNorm, ResidualBlock, conv, space_to_depth


class Detail(nn.Module):
    """Adds finer stages to the features that a reading head reads; it begins with nothing added.

    Those features have gone through the coarsest stage, a column or two a character.

    Attributes:
      features: channels.
      blocks: residual blocks.
      norm_groups: of the group normalisations.
    """

    features: int
    blocks: int
    norm_groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, stages: list[jax.Array]) -> jax.Array:
        """Adds to features [B, h, w, C] what it finds in stages [B, k * h, k * w, c], fused."""
        width = features.shape[2]
        parts = [features, *(space_to_depth(s, s.shape[2] // width) for s in stages)]
        x = jnp.concatenate([part.astype(self.dtype) for part in parts], axis=-1)
        x = conv(self.features, dtype=self.dtype, name="conv")(x)
        for i in range(self.blocks):
            name = f"block_{i}"
            x = ResidualBlock(self.features, self.norm_groups, dtype=self.dtype, name=name)(x)
        x = nn.swish(GroupNorm(self.norm_groups, self.dtype, name="norm")(x))
        added = conv(features.shape[-1], 1, dtype=self.dtype, zero=True, name="added")(x)
        return features + added
