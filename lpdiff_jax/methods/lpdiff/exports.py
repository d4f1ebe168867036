"""LP-Diff's functions for other programs: psi, one denoiser step and the whole restoration."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.methods.base import Function, Variables
from lpdiff_jax.methods.lpdiff.model import Guide, LPDiff

_FLOAT, _BOOL = np.dtype(np.float32), np.dtype(bool)


def exported_functions(
    model: LPDiff, variables: Variables, sampler: Sampler, num_frames: int
) -> list[Function]:
    """psi and, where there is a denoiser, one step of it and the whole restoration.

    If the denoiser is shown more than psi, the first function gives its guide, psi first.

    Args:
      model: the networks and the diffusion process.
      variables: the networks' parameters, embedded as constants.
      sampler: the sampler of `restore`.
      num_frames: the number of frames per plate, N; fewer are padded and masked.
    """
    height, width = model.image_size
    image = ((height, width, 3), _FLOAT)
    frames = {"frames": ((num_frames, height, width, 3), _FLOAT), "mask": ((num_frames,), _BOOL)}

    def stacked_guide(frames: jax.Array, mask: jax.Array) -> jax.Array:
        guide: Guide = model.estimate(variables, frames, mask).guide
        return guide.stacked()

    channels = jax.eval_shape(
        stacked_guide,
        jax.ShapeDtypeStruct((1, num_frames, height, width, 3), _FLOAT),
        jax.ShapeDtypeStruct((1, num_frames), _BOOL),
    ).shape[-1]
    first = Function("psi", stacked_guide, frames, "psi" if channels == 3 else "guide")
    if not model.draws_vary(variables):
        return [first]
    denoise = Function(
        "denoise",
        lambda guide, x_t, level: model.predict_noise(variables, _parted(guide), x_t, level),
        {first.output: ((height, width, channels), _FLOAT), "x_t": image,
         "noise_level": ((), _FLOAT)},
        "noise",
    )  # fmt: skip
    noise = ((number_of_draws(model, sampler), height, width, 3), _FLOAT)
    restore = Function(
        "restore", restoring(model, variables, sampler), {**frames, "noise": noise}, "restored"
    )
    return [first, denoise, restore]


def _parted(stacked: jax.Array) -> Guide:
    """A guide of which psi alone has its name: the denoiser takes all of it in channels again."""
    rest = stacked[..., 3:]
    return Guide(stacked[..., :3], rest if rest.shape[-1] else None)


def number_of_draws(model: LPDiff, sampler: Sampler) -> int:
    """Images of noise that a restoration takes: one to start, and one per step that adds noise."""
    steps = sampler.steps_of(model.schedule)
    return 1 + steps.count if steps.stochastic else 1


def restoring(
    model: LPDiff, variables: Variables, sampler: Sampler
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The whole restoration: (frames, mask, noise [B, K, H, W, 3]) -> plates [B, H, W, 3].

    The last of the K images of noise is the start, the others are those of the steps, the last
    step's first; K is `number_of_draws`.
    """
    steps = sampler.steps_of(model.schedule)

    def restore(frames: jax.Array, mask: jax.Array, noise: jax.Array) -> jax.Array:
        guide: Guide = model.estimate(variables, frames, mask).guide
        x_0 = sample(
            lambda x_t, level: model.predict_x0(variables, guide, x_t, level),
            model.first(guide, noise[:, -1], steps),
            lambda index: jnp.take(noise, index, axis=1),
            steps,
        )
        return jnp.clip(model.compose(x_0, guide.psi), -1, 1)

    return restore
