"""The smallest networks with the real ones' interfaces: what a step costs is then its overhead."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.schedule import NoiseSchedule
from lpdiff_jax.methods.lpdiff.model import LPDiff


class Condition(nn.Module):
    """The mean frame through one convolution."""

    straightener: int = 0

    @nn.compact
    def __call__(self, frames, mask=None, train=False):
        return nn.Conv(3, (1, 1), name="conv")(frames.mean(1))

    def estimate(self, frames, mask=None, train=False):
        return self(frames, mask, train), frames.mean(1)


class Denoiser(nn.Module):
    """Two convolutions with dropout between, told the noise level as a channel."""

    @nn.compact
    def __call__(self, condition, x_t, noise_level, train=False):
        level = jnp.broadcast_to(noise_level[:, None, None, None], (*x_t.shape[:-1], 1))
        x = jnp.concatenate([condition, x_t, level], axis=-1)
        x = nn.swish(nn.Conv(6, (1, 1), name="first")(x))
        x = nn.Dropout(0.2, deterministic=not train)(x)
        return nn.Conv(3, (1, 1), name="last")(x)


class SmallLPDiff(LPDiff):
    """Without the shortcuts of sampling that know the real denoiser's layers."""

    def x0_denoiser(self, variables, guide):
        def denoise(x_t, level, prepared):
            return self.predict_x0(variables, guide, x_t, level)

        return denoise, lambda levels: levels


def small_model(config=None) -> LPDiff:
    """A few dozen parameters at 8 x 16; takes the place of `build_model`."""
    return SmallLPDiff(
        image_size=(8, 16),
        condition=Condition(),
        denoiser=Denoiser(),
        schedule=NoiseSchedule(np.linspace(1e-3, 0.3, 20)),
    )
