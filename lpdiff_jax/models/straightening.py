"""Straightening: where the plate lies in each frame, and frames in which it lies in one place.

A detector's box is tight or loose, and a plate is seen from the side: its letters are anywhere, at
any slant, and somewhere else in each frame. A small network finds the plate's corners in each frame
(the localisation of spatial transformers: Jaderberg et al. 2015), and the frames are resampled so
that in all of them it fills the same place; the networks behind it need not learn to find letters.
It also says where the plate will lie in the ground truth, to where the first estimate goes back.

A place is an affine map: a point (u, v) of the straightened image lies at `a u + b v + c` across
and `d u + e v + f` down in the other one. Both count from 0 at their left or upper edge to 1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.models.layers import Dtype, GroupNorm, conv, masked_mean, space_to_depth

# Of the straightened image, on each side of the plate: what is left is 0.96 x 0.92 of it.
MARGIN = (0.02, 0.04)
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class Straightener(nn.Module):
    """Finds the plate in each frame, and where it is to be expected in the ground truth.

    Attributes:
      features: channels at half the resolution; twice as many at an eighth.
      norm_groups: of the group normalisations.
      hidden: width of what a frame is summed up in.
    """

    features: int = 24
    norm_groups: int = 8
    hidden: int = 128
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, frames: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Places of frames [B, N, H, W, 3], of which mask [B, N] are real.

        Returns:
          Those of the plate in each frame, [B, N, 2, 3], and in the ground truth, [B, 2, 3].
        """
        batch, count, *shape = frames.shape
        x = space_to_depth(frames.reshape(batch * count, *shape).astype(self.dtype), 2)
        for i, (width, stride) in enumerate(((1, 1), (2, 2), (2, 1), (2, 2))):
            x = conv(width * self.features, stride=stride, dtype=self.dtype, name=f"conv_{i}")(x)
            x = nn.relu(GroupNorm(self.norm_groups, self.dtype, name=f"norm_{i}")(x))
        dense = lambda width, name: nn.Dense(width, dtype=self.dtype, name=name)  # noqa: E731
        x = nn.relu(dense(self.hidden, "frame")(x.reshape(batch, count, -1)))
        # What is not seen in one frame is seen in another.
        all_frames = masked_mean(x, mask)
        together = jnp.broadcast_to(all_frames[:, None], x.shape)
        x = nn.relu(dense(self.hidden, "mixed")(jnp.concatenate([x, together], axis=-1)))
        truth = nn.relu(dense(self.hidden, "truth")(all_frames))
        return self._place(x, "frame_place"), self._place(truth, "truth_place")

    def _place(self, x: jax.Array, name: str) -> jax.Array:
        """A place [..., 2, 3] from what is known of it; at first that nothing is to be changed."""
        change = nn.Dense(6, kernel_init=nn.initializers.zeros, dtype=jnp.float32, name=name)
        place: jax.Array = change(x.astype(jnp.float32)).reshape(*x.shape[:-1], 2, 3)
        return jnp.asarray(_IDENTITY) + 0.1 * place


def corners_of(place: jax.Array) -> jax.Array:
    """The plate's corners [..., 4, 2], clockwise from the upper left, at a place [..., 2, 3]."""
    (x, y), ones = MARGIN, jnp.ones(4)
    across = jnp.asarray([x, 1 - x, 1 - x, x])
    down = jnp.asarray([y, y, 1 - y, 1 - y])
    return jnp.einsum("...ij,jk->...ki", place, jnp.stack([across, down, ones]))


def inverse(place: jax.Array) -> jax.Array:
    """The place [..., 2, 3] of the other image in the straightened one."""
    lead = place.shape[:-2]
    a, b, c, d, e, f = jnp.split(place.reshape(*lead, 6), 6, axis=-1)
    entries = (e, -b, b * f - c * e, -d, a, c * d - a * f)
    found: jax.Array = jnp.concatenate(entries, axis=-1) / (a * e - b * d)
    return found.reshape(*lead, 2, 3)


def resample(images: jax.Array, place: jax.Array) -> jax.Array:
    """Images [B, H, W, C] as they are seen from a place [B, 2, 3], linear, borders drawn out.

    Each pixel is gathered with its three neighbours at once. Products with matrices of weights, in
    one pass for rows and one for columns, took 70 times as long on a CPU.
    """
    batch, height, width, channels = images.shape
    a, b, c, d, e, f = jnp.split(place.reshape(batch, 6, 1), 6, axis=1)
    u, v = (jnp.arange(width) + 0.5) / width, ((jnp.arange(height) + 0.5) / height)[:, None]
    column, x = _split((a * u + b * v + c) * width - 0.5, width)
    row, y = _split((d * u + e * v + f) * height - 0.5, height)
    flat = images.reshape(batch, height * width, channels)
    neighbours = [jnp.roll(flat, -shift, axis=1) for shift in (0, 1, width, width + 1)]
    index = (row * width + column).reshape(batch, -1)
    found = jax.vmap(lambda pixels, at: pixels[at])(jnp.concatenate(neighbours, axis=-1), index)
    corners = found.reshape(batch, height, width, 4, channels).astype(jnp.float32)
    upper = corners[..., 0, :] * (1 - x) + corners[..., 1, :] * x
    lower = corners[..., 2, :] * (1 - x) + corners[..., 3, :] * x
    return (upper * (1 - y) + lower * y).astype(images.dtype)


def _split(position: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The pixel before a position, int32, and how far the position is behind it, [..., 1]."""
    position = jnp.clip(position, 0, count - 1)
    before = jnp.minimum(jnp.floor(position), count - 2)
    return before.astype(jnp.int32), (position - before)[..., None]
