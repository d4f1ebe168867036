"""The condition network psi (paper section 3; ICAM, TEM and DFM): a first estimate of the plate.

The defaults are the mended network. Where the published program errs, both behaviours are a named
choice of one field, and `RELEASED` selects the published ones, for users' own checkpoints.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.convolution import conv_general_dilated
from lpdiff_jax.models.layers import (
    Dtype,
    Norm,
    ResidualBlock,
    conv,
    depth_to_space,
    expand,
    masked_mean,
    masked_softmax,
    space_to_depth,
)

# The published program's choices, wrongs included.
RELEASED: dict[str, Any] = dict(
    features=(16, 32, 64, 64),
    strides=(2, 2, 2, 1),
    patch=1,
    frame_blocks=0,
    blocks=0,
    norm="batch",
    frame_batching="sequential",
    pairing="consecutive",
    residual="projected_query",
    positions="none",
    curvature="published",
    channel_median="max",
    channel_kernel=1,
    skips="none",
    outer_skip="none",
)


class ConditionNetwork(nn.Module):
    """psi: N frames of one plate to one estimate of it.

    Attributes:
      features: channels of each encoder stage; the decoder mirrors them.
      strides: stride of each encoder stage.
      patch: side of the pixel-unshuffled stem (1: full resolution).
      frame_blocks: residual blocks in each encoder stage, which every frame goes through.
      blocks: residual blocks in each decoder stage, after the frames are fused: cheaper by N.
      norm: 'group', or 'batch' as published.
      frame_batching: 'batched' encodes all frames at once; 'sequential' one after the other, as
        published (it matters to BatchNorm alone).
      pairing: 'all' lets each frame attend to every frame; 'consecutive' is the published
        (1, 2), (2, 3), for exactly three frames.
      residual: ICAM adds its 'input', or its 'projected_query' as published.
      positions: '2d' adds sinusoids of row and column to ICAM's tokens; 'none' as published.
      curvature: 'corrected', or 'published', whose mixed derivative has the wrong sign.
      channel_median: 'true', or 'max' as published.
      channel_kernel: width of DFM's convolution along the channels; 1 as published.
      skips: 'fused' hands every encoder stage, fused over the frames, to the decoder; 'none'.
      outer_skip: 'mean' adds the mean frame to the output; 'none' as published.
    """

    features: tuple[int, ...] = (48, 96, 160)
    strides: tuple[int, ...] = (1, 2, 2)
    patch: int = 2
    frame_blocks: int = 1
    blocks: int = 2
    norm: str = "group"
    norm_groups: int = 8
    heads: int = 8
    frame_batching: str = "batched"
    pairing: str = "all"
    residual: str = "input"
    positions: str = "2d"
    curvature: str = "corrected"
    channel_median: str = "true"
    channel_kernel: int = 3
    skips: str = "fused"
    outer_skip: str = "mean"
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        check_choice("skips", self.skips, ("none", "fused"))
        check_choice("outer_skip", self.outer_skip, ("none", "mean"))
        check_choice("pairing", self.pairing, ("all", "consecutive"))
        check_choice("frame_batching", self.frame_batching, ("batched", "sequential"))
        shared: dict[str, Any] = dict(
            strides=self.strides,
            norm=self.norm,
            norm_groups=self.norm_groups,
            dtype=self.dtype,
        )
        self.encoder = Encoder(self.features, blocks=self.frame_blocks, **shared)
        self.icam = ICAM(self.heads, self.residual, self.positions, dtype=self.dtype)
        self.dfm = DFM(self.pairing, self.channel_median, self.channel_kernel, dtype=self.dtype)
        if self.skips == "fused":
            self.fusions = [FrameFusion(f, dtype=self.dtype) for f in self.features[:-1]]
        self.decoder = Decoder(self.features, blocks=self.blocks, patch=self.patch, **shared)

    def __call__(
        self, frames: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Estimates the plate.

        Args:
          frames: [B, N, H, W, 3] in [-1, 1], N >= 1, in order (far to near).
          mask: [B, N] bool, False where a frame is padding; None means that all are real.
          train: whether BatchNorm uses (and updates) batch statistics.

        Returns:
          psi [B, H, W, 3], float32, not clipped.

        Raises:
          ValueError: a shape that the network cannot take.
        """
        return self.estimate(frames, mask, train)[0]

    def estimate(
        self, frames: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """psi as `__call__` gives it, and the features [B, h, w, C] that a reading head reads.

        They are those of the decoder's first stage: fused over the frames, and wide enough to tell
        the characters apart.
        """
        self._check(frames)
        if mask is None:
            mask = jnp.ones(frames.shape[:2], bool)
        stages = self._encode(space_to_depth(frames, self.patch), train)
        paths, path_mask = self._interact(stages[-1], mask)
        trunk = self.dfm(texture_enhancement(paths, self.curvature), path_mask)
        skips = None
        if self.skips == "fused":
            skips = [
                fuse(stage, mask) for fuse, stage in zip(self.fusions, stages[:-1], strict=True)
            ]
        image, features = self.decoder(trunk, skips, train)
        psi = image.astype(jnp.float32)
        if self.outer_skip == "mean":
            psi = psi + masked_mean(frames.astype(jnp.float32), mask)
        return psi, features

    def _encode(self, frames: jax.Array, train: bool) -> list[jax.Array]:
        """Stages [B, N, h, w, C] of frames [B, N, H, W, C]."""
        batch, count, *shape = frames.shape
        if self.frame_batching == "sequential":
            each = [self.encoder(frames[:, i], train) for i in range(count)]
            return [jnp.stack(stage, axis=1) for stage in zip(*each, strict=True)]
        stages = self.encoder(frames.reshape(batch * count, *shape), train)
        return [stage.reshape(batch, count, *stage.shape[1:]) for stage in stages]

    def _interact(self, features: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """ICAM between frames; returns paths [B, P, h, w, C] and which of them are real [B, P]."""
        count = features.shape[1]
        if self.pairing == "all":
            attended = [
                self.icam(features[:, i], features, mask) + features[:, i] for i in range(count)
            ]
            return jnp.stack(attended, axis=1), mask
        if count != 3:
            raise ValueError(f"pairing 'consecutive' takes exactly 3 frames, not {count}")
        attended = [
            self.icam(features[:, i + 1], features[:, i : i + 1], mask[:, i : i + 1])
            + features[:, i + 1]
            for i in range(2)
        ]
        return jnp.stack(attended, axis=1), jnp.ones((features.shape[0], 2), bool)

    def _check(self, frames: jax.Array) -> None:
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.shape[1] < 1:
            raise ValueError(f"frames are [B, N, H, W, 3] with N >= 1, not {frames.shape}")
        factor = self.patch
        for stride in self.strides:
            factor *= stride
        height, width = frames.shape[2:4]
        if height % factor or width % factor:
            raise ValueError(
                f"height and width must be multiples of {factor}, not {height} x {width}"
            )


class Encoder(nn.Module):
    """Stages of conv3x3, norm, ReLU and, in the mended network, residual blocks."""

    features: tuple[int, ...]
    strides: tuple[int, ...]
    blocks: int
    norm: str
    norm_groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
        """Maps x [B, H, W, C] to the output of every stage, finest first."""
        stages = []
        for i, (features, stride) in enumerate(zip(self.features, self.strides, strict=True)):
            x = conv(features, stride=stride, dtype=self.dtype, name=f"conv_{i}")(x)
            x = Norm(self.norm, self.norm_groups, self.dtype, name=f"norm_{i}")(x, train)
            x = nn.relu(x)
            for j in range(self.blocks):
                block = ResidualBlock(
                    features, self.norm_groups, dtype=self.dtype, name=f"block_{i}_{j}"
                )
                x = block(x)
            stages.append(x)
        return stages


class Decoder(nn.Module):
    """The encoder mirrored, with transposed convolutions; no activation after the last."""

    features: tuple[int, ...]
    strides: tuple[int, ...]
    blocks: int
    norm: str
    norm_groups: int
    patch: int = 1
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, skips: list[jax.Array] | None = None, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Maps x [B, h, w, C], and the encoder's finer stages if given, to an image [B, H, W, 3].

        Beside it the features of its first stage.
        """
        features = x
        widths = (*reversed(self.features[:-1]), 3 * self.patch**2)
        last = len(widths) - 1
        for i, (width, stride) in enumerate(zip(widths, reversed(self.strides), strict=True)):
            if skips is not None and i > 0:
                x = jnp.concatenate([x, skips[-i].astype(x.dtype)], axis=-1)
            x = transposed_conv(width, stride, self.dtype, f"conv_{i}", zero=i == last)(x)
            if i == last:
                break
            x = Norm(self.norm, self.norm_groups, self.dtype, name=f"norm_{i}")(x, train)
            x = nn.relu(x)
            for j in range(self.blocks):
                block = ResidualBlock(
                    width, self.norm_groups, dtype=self.dtype, name=f"block_{i}_{j}"
                )
                x = block(x)
            if i == 0:
                features = x
        return depth_to_space(x, self.patch), features


def transposed_conv(
    features: int, stride: int, dtype: Dtype, name: str, zero: bool = False
) -> nn.Conv:
    """PyTorch's ConvTranspose2d(kernel 3, padding 1, output_padding stride - 1)."""
    init = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Conv(
        features,
        (3, 3),
        input_dilation=(stride, stride),
        padding=((1, stride), (1, stride)),
        kernel_init=init,
        dtype=dtype,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


class ICAM(nn.Module):
    """Inter-frame cross attention: one frame's tokens ask those of others (paper section 3.1)."""

    heads: int = 8
    residual: str = "input"
    positions: str = "2d"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, query: jax.Array, keys: jax.Array, key_mask: jax.Array) -> jax.Array:
        """Attends.

        Args:
          query: [B, h, w, C], the frame that asks.
          keys: [B, M, h, w, C], the frames asked.
          key_mask: [B, M] bool, False for frames that are padding.

        Returns:
          [B, h, w, C].
        """
        check_choice("residual", self.residual, ("input", "projected_query"))
        check_choice("positions", self.positions, ("none", "2d"))
        batch, height, width, channels = query.shape
        if self.positions == "2d":
            signal = position_signal(height, width, channels).astype(query.dtype)
            query, keys = query + signal, keys + signal
        tokens = height * width
        query = query.reshape(batch, tokens, channels)
        keys = keys.reshape(batch, -1, channels)
        dense = lambda name, width=channels: nn.Dense(width, dtype=self.dtype, name=name)  # noqa: E731
        q = dense("query")(query)
        attended = self._attend(
            q, dense("key")(keys), dense("value")(keys), jnp.repeat(key_mask, tokens, axis=1)
        )
        residual = query if self.residual == "input" else q
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)  # noqa: E731
        y = norm("norm1")(dense("out")(attended) + residual)
        y = norm("norm2")(y + dense("fc2")(nn.relu(dense("fc1", 4 * channels)(y))))
        return y.reshape(batch, height, width, channels)

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
        """Multi-head attention of q [B, T, C] over k, v [B, S, C] where mask [B, S] is set."""
        split = lambda x: x.reshape(*x.shape[:2], self.heads, -1)  # noqa: E731
        attended = nn.dot_product_attention(
            split(q),
            split(k),
            split(v),
            mask=mask[:, None, None, :],
            dtype=self.dtype,
            force_fp32_for_softmax=True,
        )
        return attended.reshape(q.shape)


def position_signal(height: int, width: int, channels: int) -> jax.Array:
    """Sinusoids of row and column, half of the channels each: [height, width, channels]."""
    quarter = channels // 4
    frequencies = jnp.exp(-jnp.log(100.0) * jnp.arange(quarter) / quarter)

    def waves(length: int) -> jax.Array:
        angles = jnp.arange(length)[:, None] * frequencies
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)

    rows = jnp.broadcast_to(waves(height)[:, None], (height, width, 2 * quarter))
    columns = jnp.broadcast_to(waves(width)[None], (height, width, 2 * quarter))
    signal = jnp.concatenate([rows, columns], axis=-1)
    return jnp.pad(signal, ((0, 0), (0, 0), (0, channels - 4 * quarter)))


def texture_enhancement(x: jax.Array, curvature: str = "corrected") -> jax.Array:
    """TEM: weighs each channel by its gradient and isophote curvature (paper section 3.1).

    Args:
      x: [..., H, W, C].
      curvature: 'corrected', or 'published', where Kxy has the wrong sign and the curvature of a
        45-degree stroke vanishes.

    Returns:
      `x * (softmax_over_channels(G + C) + 1)`, of x's shape and dtype.
    """
    check_choice("curvature", curvature, ("corrected", "published"))
    dtype, x = x.dtype, x.astype(jnp.float32)
    row, column = x.ndim - 3, x.ndim - 2
    smooth, slope, bend = (1.0, 2.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0)
    gx = _correlate(_correlate(x, smooth, row), slope, column)
    gy = _correlate(_correlate(x, slope, row), smooth, column)
    ixx = _correlate(_correlate(x, smooth, row), bend, column)
    iyy = _correlate(_correlate(x, bend, row), smooth, column)
    ixy = _correlate(_correlate(x, slope, row), slope, column)
    if curvature == "published":
        ixy = -ixy
    squared = gx**2 + gy**2 + 1e-6
    bending = (gx**2 * iyy - 2 * gx * gy * ixy + gy**2 * ixx) / squared**1.5
    weights = jax.nn.softmax(jnp.sqrt(squared) + bending, axis=-1)
    return (x * (weights + 1)).astype(dtype)


def _correlate(x: jax.Array, taps: tuple[float, float, float], axis: int) -> jax.Array:
    """Cross-correlates x with three taps along one axis, zero padded to the same length."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (1, 1)
    padded = jnp.pad(x, padding)
    length = x.shape[axis]
    terms = [
        tap * jax.lax.slice_in_dim(padded, i, i + length, axis=axis)
        for i, tap in enumerate(taps)
        if tap
    ]
    return sum(terms[1:], start=terms[0])


class DFM(nn.Module):
    """Dual-pathway fusion: weighs paths by channel and by position (paper section 3.1).

    With pairing 'consecutive' it is the published fusion of exactly two paths, each with a
    convolution of its own over both paths' statistics. With 'all' one convolution serves any
    number of paths: it sees a path's own statistics and the mean of all.
    """

    pairing: str = "all"
    channel_median: str = "true"
    channel_kernel: int = 3
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        check_choice("channel_median", self.channel_median, ("true", "max"))
        heads = 2 if self.pairing == "consecutive" else 1
        self.channel_convs = [_logit_conv((self.channel_kernel,)) for _ in range(heads)]
        self.spatial_convs = [_logit_conv((3, 3)) for _ in range(heads)]

    def __call__(self, paths: jax.Array, mask: jax.Array) -> jax.Array:
        """Fuses paths [B, P, h, w, C], of which mask [B, P] are real, into [B, h, w, C]."""
        channel = self.channel_weights(paths, mask)[:, :, None, None, :]
        spatial = self.spatial_weights(paths, mask)[..., None]
        # Published: w_i = channel_i + spatial_i + 1, a sum. For any number of paths the constant
        # part is their mean, so that the scale does not depend on how many there are.
        constant = 1.0 if self.pairing == "consecutive" else 1.0 / mask.sum(1)
        weights = channel + spatial + jnp.reshape(constant, (-1, 1, 1, 1, 1))
        weights = weights * expand(mask, weights.ndim)
        return (weights * paths.astype(jnp.float32)).sum(1).astype(self.dtype)

    def channel_weights(self, paths: jax.Array, mask: jax.Array) -> jax.Array:
        """Softmax over the paths of each channel's logit: [B, P, C]."""
        flat = paths.astype(jnp.float32).reshape(*paths.shape[:2], -1, paths.shape[-1])
        maximum = flat.max(2)
        median = maximum if self.channel_median == "max" else lower_median(flat, 2)
        statistics = jnp.stack([flat.mean(2), maximum, median], axis=-1)
        return masked_softmax(_path_logits(self.channel_convs, statistics, mask), mask)

    def spatial_weights(self, paths: jax.Array, mask: jax.Array) -> jax.Array:
        """Softmax over the paths of each position's logit: [B, P, h, w]."""
        x = paths.astype(jnp.float32)
        statistics = jnp.stack([x.mean(-1), x.max(-1), lower_median(x, -1)], axis=-1)
        return masked_softmax(_path_logits(self.spatial_convs, statistics, mask), mask)


def _logit_conv(kernel: tuple[int, ...]) -> nn.Conv:
    return nn.Conv(1, kernel, padding=[(k // 2, k // 2) for k in kernel])


def _path_logits(convs: list[nn.Conv], statistics: jax.Array, mask: jax.Array) -> jax.Array:
    """A logit for each path from statistics [B, P, ..., 3]: [B, P, ...]."""
    if len(convs) == 2:
        both = jnp.concatenate([statistics[:, 0], statistics[:, 1]], axis=-1)
        return jnp.stack([convolve(both)[..., 0] for convolve in convs], axis=1)
    context = jnp.broadcast_to(masked_mean(statistics, mask)[:, None], statistics.shape)
    own_and_context = jnp.concatenate([statistics, context], axis=-1)
    merged = own_and_context.reshape(-1, *own_and_context.shape[2:])
    return convs[0](merged)[..., 0].reshape(statistics.shape[:-1])


@functools.partial(jax.jit, static_argnums=1)  # a name that the ONNX conversion finds
def lower_median(x: jax.Array, axis: int) -> jax.Array:
    """The median along an axis, the lower of the two middle values as `torch.median` takes it.

    A bisection over the values' bits, exact, and several times faster than sorting. The gradient
    goes to the first element that has the value.

    Args:
      x: float32.
      axis: the one that disappears.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), jnp.int32)
    order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # ordered as the floats are
    middle = (x.shape[axis] - 1) // 2
    least = jnp.full_like(order.max(axis, keepdims=True), jnp.iinfo(jnp.int32).min)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        centre = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        enough = (order <= centre).sum(axis, keepdims=True) > middle
        return jnp.where(enough, low, centre + 1), jnp.where(enough, centre, high)

    median, _ = jax.lax.fori_loop(0, 32, halve, (least, ~least))
    first = jnp.argmax(order == median, axis=axis, keepdims=True)
    positions = jax.lax.broadcasted_iota(first.dtype, x.shape, axis % x.ndim)
    return jnp.where(positions == first, x, 0).sum(axis)


class FrameFusion(nn.Module):
    """A side branch: one encoder stage fused over the frames, for the decoder.

    It hands on the mean and the maximum over the real frames and the nearest (last) one, which
    shows the plate largest; a 1x1 convolution weighs them.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, stage: jax.Array, mask: jax.Array) -> jax.Array:
        """Fuses stage [B, N, h, w, C], of which mask [B, N] are real, into [B, h, w, features]."""
        real = expand(mask, stage.ndim)
        maximum = jnp.where(real, stage, -jnp.inf).max(1)
        last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
        nearest = jnp.take_along_axis(stage, last[:, None, None, None, None], axis=1)[:, 0]
        merged = jnp.concatenate([masked_mean(stage, mask), maximum, nearest], axis=-1)
        return conv(self.features, 1, dtype=self.dtype, name="merge")(merged)
