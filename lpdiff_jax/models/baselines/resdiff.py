"""ResDiff: a small network predicts the plate, a guided diffusion models what it misses.

Shang et al., "ResDiff: Combining CNN and Diffusion Model for Image Super-Resolution" (AAAI 2024).
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.errors import check_choice
from lpdiff_jax.models.baselines.blocks import (
    TORCH_INIT,
    enlarge_bicubic,
    pixel_shuffle,
)
from lpdiff_jax.models.baselines.wavelet import haar_bands
from lpdiff_jax.models.layers import Dtype, GroupNorm, conv, upsample_nearest
from lpdiff_jax.models.unet import Block, NoiseEmbedding

SPLITTERS = ("per_image", "released")
GUIDED_LEVELS = 4  # of the wavelet transform
# Queries of guided attention that see all keys at once; more would need too much memory.
_QUERY_CHUNK = 2048


class SimpleCNN(nn.Module):
    """Three convolutions that correct an enlargement of their input."""

    scale: int = 1
    features: tuple[int, int] = (64, 32)
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images [B, H, W, C] in [-1, 1] to [B, H scale, W scale, out_channels], float32.

        The last channels of the input are what is corrected.
        """
        del train
        layer = functools.partial(conv, dtype=self.dtype, init=TORCH_INIT)
        first, second = self.features
        h = nn.relu(layer(first, name="conv1")(x.astype(self.dtype)))
        h = nn.relu(layer(second, name="conv2")(h))
        h = layer(self.out_channels * self.scale**2, name="conv3")(h).astype(jnp.float32)
        best = x[..., -self.out_channels :]
        if self.scale > 1:
            h, best = pixel_shuffle(h, self.scale), enlarge_bicubic(best, self.scale)
        return h + best


class GuidedUNet(nn.Module):
    """Predicts the noise in a residual; sees the prediction split by frequency.

    Attributes:
      features: channels of the first level; level i has `features * multipliers[i]`.
      blocks: the residual blocks per level on the way down; on the way up there is one more.
      attention_levels: levels with self attention, 0 is full resolution; the middle always has it.
      splitter: as `FrequencySplitter` takes it.
    """

    features: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8, 8)
    blocks: int = 2
    norm_groups: int = 32
    attention_levels: tuple[int, ...] = (3,)
    dropout: float = 0.2
    splitter: str = "per_image"
    out_channels: int = 3
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, condition: jax.Array, x_t: jax.Array, noise_level: jax.Array, train: bool = False
    ) -> jax.Array:
        """Runs the denoiser.

        Args:
          condition: [B, H, W, 3], the CNN's prediction of the plate.
          x_t: [B, H, W, 3], the noisy residual.
          noise_level: [B], sqrt(alphas_cumprod) in [0, 1].
          train: whether dropout is active.

        Returns:
          [B, H, W, out_channels], float32.

        Raises:
          ValueError: a size that the levels, or the wavelet transform, cannot halve.
        """
        self._check(x_t)
        embedding = NoiseEmbedding(self.features, "level", self.dtype, name="embed")(noise_level)
        splitter = FrequencySplitter(self.splitter, self.dtype, name="splitter")
        x = splitter(condition, x_t, embedding).astype(self.dtype)
        queries = [bands.sum(0) for bands in haar_bands(condition, GUIDED_LEVELS)]
        widths = [self.features * multiplier for multiplier in self.multipliers]
        levels = len(widths)

        def block(level: int, name: str, attend: bool | None = None) -> Block:
            if attend is None:
                attend = level in self.attention_levels
            return Block(
                widths[level], self.norm_groups, self.dropout, attend, self.dtype, name=name
            )

        x = conv(self.features, dtype=self.dtype, name="stem")(x)
        skips = [x]
        for level in range(levels):
            for i in range(self.blocks):
                x = block(level, f"down_{level}_{i}")(x, embedding, train)
                skips.append(x)
            if level < levels - 1:
                x = conv(widths[level], stride=2, dtype=self.dtype, name=f"shrink_{level}")(x)
                guided = GuidedAttention(self.norm_groups, self.dtype, name=f"guided_{level}")
                skips.append(guided(x, queries[level]))
        x = block(levels - 1, "mid_0", attend=True)(x, embedding, train)
        x = block(levels - 1, "mid_1", attend=False)(x, embedding, train)
        for level in reversed(range(levels)):
            for i in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = block(level, f"up_{level}_{i}")(x, embedding, train)
            if level > 0:
                x = conv(widths[level], dtype=self.dtype, name=f"grow_{level}")(upsample_nearest(x))
        x = nn.swish(GroupNorm(self.norm_groups, self.dtype, name="head_norm")(x))
        x = conv(self.out_channels, dtype=self.dtype, name="head")(x)
        return x.astype(jnp.float32)

    def _check(self, x: jax.Array) -> None:
        check_choice("splitter", self.splitter, SPLITTERS)
        levels = len(self.multipliers)
        if levels > GUIDED_LEVELS + 1:
            raise ValueError(f"{levels} levels; at most {GUIDED_LEVELS + 1} are guided")
        factor = 2 ** (levels - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"height and width must be multiples of {factor}, not {x.shape[1]} x {x.shape[2]}"
            )


class FrequencySplitter(nn.Module):
    """Splits the prediction into low and high frequencies, and gates the noisy residual.

    Attributes:
      kind: 'per_image' is what the paper means: each image alone, the frequencies counted from
        zero, low and high adding up. 'released' is what the published program computes: the Fourier
        transform runs over batch and channels too, the filter's centre is the highest frequency, so
        it lets the mean pass, its width hardly depends on the image, spectra are multiplied with
        pixels place by place, and signs are lost.
    """

    kind: str = "per_image"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, condition: jax.Array, x_t: jax.Array, embedding: jax.Array) -> jax.Array:
        """Maps condition and x_t, [B, H, W, 3] each, and embedding [B, E] to [B, H, W, 15].

        The channels are x_t, condition, gated x_t, low, high.
        """
        width = x_t.shape[2]
        row = nn.Dense(width, dtype=self.dtype, name="gate")(embedding).astype(jnp.float32)
        gate = jnp.broadcast_to(row[:, None, :, None], x_t.shape)
        gated = x_t * SqueezeExcite(name="gate_squeeze")(gate)
        split = self._released if self.kind == "released" else self._per_image
        low, high = split(condition.astype(jnp.float32))
        return jnp.concatenate([x_t, condition, gated, low, high], axis=-1)

    def _per_image(self, p: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, height, width, _ = p.shape
        widening = self.param("widening", nn.initializers.zeros, ())
        sigma = width / 2 * jnp.exp(widening)
        # A Gaussian of both frequencies is a product of one of each: no transform is needed.
        rows, columns = _low_pass(height, sigma), _low_pass(width, sigma)
        low = jnp.einsum("hi,wj,bijc->bhwc", rows, columns, p, precision="highest")
        return low, p - low

    def _released(self, p: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, height, width, channels = p.shape
        spectrum = jnp.fft.fft(jnp.fft.fftn(p, axes=(1, 2, 3)), axis=0)
        mean = SqueezeExcite(name="sigma_squeeze")(_parts(spectrum)).mean((1, 2, 3))
        sigma = jnp.minimum(jnp.abs(mean) + width / 2, width - 10)
        self.sow("intermediates", "sigma", sigma)
        rows, columns = jnp.arange(height) - height / 2, jnp.arange(width) - width / 2
        distance = rows[:, None] ** 2 + columns**2
        kept = 1 - jnp.exp(-distance / (2 * sigma[:, None, None] ** 2))
        filtered = spectrum * kept[..., None]
        weights = SqueezeExcite(name="low_squeeze")(_parts(filtered))
        low = p * nn.Dense(channels, name="low")(weights)
        high = jnp.abs(jnp.fft.ifft(jnp.fft.ifftn(filtered, axes=(1, 2, 3)), axis=0))
        return low, high


def _low_pass(size: int, sigma: jax.Array) -> jax.Array:
    """What `exp(-k^2 / (2 sigma^2))`, k the frequency, makes of `size` places: [size, size]."""
    frequencies = np.fft.fftfreq(size) * size
    angles = 2 * np.pi * np.outer(np.arange(size), frequencies) / size
    passed = jnp.exp(-jnp.asarray(frequencies**2, jnp.float32) / (2 * sigma**2)) / size
    waves = jnp.asarray(np.concatenate([np.cos(angles), np.sin(angles)], axis=1), jnp.float32)
    return jnp.matmul(waves * jnp.tile(passed, 2), waves.T, precision="highest")


def _parts(spectrum: jax.Array) -> jax.Array:
    return jnp.concatenate([spectrum.real, spectrum.imag], axis=-1)


class SqueezeExcite(nn.Module):
    """A gate for each channel from the channels' means, on a residual path."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        channels = x.shape[-1]
        mean = x.mean((1, 2), keepdims=True)
        gate = nn.Dense(channels // 2, use_bias=False, name="squeeze")(mean)
        gate = nn.Dense(channels, use_bias=False, name="excite")(nn.relu(gate))
        return x + x * nn.sigmoid(gate)


class GuidedAttention(nn.Module):
    """Attention whose queries come from the picture's fine detail, on a residual path."""

    norm_groups: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, detail: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C], guided by detail [B, H, W, 3], to the same shape as x."""
        batch, *_, channels = x.shape
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        h = GroupNorm(self.norm_groups, self.dtype, name="norm")(x).reshape(batch, -1, channels)
        key_value = dense(2 * channels, use_bias=False, name="key_value")(h)
        k, v = jnp.split(key_value, 2, axis=-1)
        q = dense(channels, use_bias=False, name="query")(detail.reshape(batch, h.shape[1], -1))
        h = dense(channels, name="out")(_attend_in_chunks(q, k, v))
        return x + h.reshape(x.shape)


def _attend_in_chunks(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """One head of attention, q, k, v [B, N, C]; few queries at a time, so that N may be large."""
    positions = q.shape[1]
    chunks = next(n for n in range(1, positions + 1) if positions <= n * _QUERY_CHUNK
                  and positions % n == 0)  # fmt: skip
    if chunks == 1:
        return _attend(q, k, v)
    batch, _, channels = q.shape
    parts = q.reshape(batch, chunks, -1, channels).swapaxes(0, 1)
    attended = jax.lax.map(lambda part: jax.checkpoint(_attend)(part, k, v), parts)
    return attended.swapaxes(0, 1).reshape(batch, positions, channels)


def _attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    logits = jnp.einsum("bqc,bkc->bqk", q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
    return jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)
