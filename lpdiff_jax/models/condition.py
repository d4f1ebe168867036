"""The condition network psi (paper section 3; ICAM, TEM and DFM): a first estimate of the plate.

The defaults are the mended network. Where the published program errs, both behaviours are a named
choice of one field, and `RELEASED` selects the published ones, for users' own checkpoints.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.convolution import conv_general_dilated
from lpdiff_jax.models.detail import Detail
from lpdiff_jax.models.dfm import DFM, FrameFusion
from lpdiff_jax.models.icam import ICAM
from lpdiff_jax.models.layers import (
    Dtype,
    Norm,
    ResidualBlock,
    conv,
    depth_to_space,
    masked_mean,
    space_to_depth,
)
from lpdiff_jax.models.straightening import Straightener, inverse, resample
from lpdiff_jax.models.tem import texture_enhancement

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


class Seen(NamedTuple):
    """What a condition network makes of frames.

    Attributes:
      psi: the first estimate [B, H, W, 3], float32, not clipped.
      features: what a reading head reads [B, h, w, C]: those of the decoder's first stage, fused
        over the frames, and wide enough to tell the characters apart.
      places: where the plate lies in the frames, [B, N, 2, 3], and in the ground truth, [B, 2, 3],
        see `straightening`; None without a straightener.
    """

    psi: jax.Array
    features: jax.Array
    places: tuple[jax.Array, jax.Array] | None = None


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
      straightener: channels of a network that finds the plate in each frame and straightens it
        before all else; 0: none, as published.
      detail: channels of what adds the finer stages, fused, to the features that the reading head
        reads; 0: nothing does, as published. It needs the fused skips.
      detail_blocks: residual blocks of it.
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
    straightener: int = 0
    detail: int = 0
    detail_blocks: int = 2
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
        if self.detail:
            if self.skips != "fused":
                raise ValueError("condition.detail needs condition.skips 'fused'")
            self.refine = Detail(
                self.detail, self.detail_blocks, self.norm_groups, dtype=self.dtype
            )
        if self.straightener:
            self.straighten = Straightener(self.straightener, self.norm_groups, dtype=self.dtype)

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
        return self.estimate(frames, mask, train).psi

    def estimate(
        self, frames: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> Seen:
        """What the network makes of the frames; the arguments are those of `__call__`."""
        self._check(frames)
        if mask is None:
            mask = jnp.ones(frames.shape[:2], bool)
        if not self.straightener:
            return Seen(*self._estimate(frames, mask, train))
        places, place = self.straighten(frames, mask)
        shape = frames.shape
        straight = resample(frames.reshape(-1, *shape[2:]), places.reshape(-1, 2, 3))
        psi, features = self._estimate(straight.reshape(shape), mask, train)
        return Seen(resample(psi, inverse(place)), features, (places, place))

    def _estimate(
        self, frames: jax.Array, mask: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """psi and features of frames that lie as they should."""
        stages = self._encode(space_to_depth(frames, self.patch), train)
        paths, path_mask = self._interact(stages[-1], mask)
        trunk = self.dfm(texture_enhancement(paths, self.curvature), path_mask)
        skips = None
        if self.skips == "fused":
            skips = [
                fuse(stage, mask) for fuse, stage in zip(self.fusions, stages[:-1], strict=True)
            ]
        image, features = self.decoder(trunk, skips, train)
        if self.detail and skips is not None:
            features = self.refine(features, skips)
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
