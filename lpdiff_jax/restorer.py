"""Restorer: the public way to restore plates with a trained model."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.diffusion import samplers
from lpdiff_jax.errors import UserError
from lpdiff_jax.model import LPDiff, Variables, build_model
from lpdiff_jax.model_directory import StoredModel, is_model_directory, load_model


class Restorer:
    """A model ready to restore.

    Images are float32 NHWC RGB in [-1, 1] of `image_size`; frames are [B, N, H, W, 3], in order
    (far to near), and mask [B, N] is False where a frame is padding.

    Attributes:
      model: the networks and the diffusion process.
      variables: their parameters.
      sampler: default name, steps and eta of sampling.
    """

    def __init__(self, model: LPDiff, variables: Variables, sampler: dict[str, Any]):
        self.model = model
        self.variables = jax.tree.map(jnp.asarray, variables)
        self.sampler = sampler
        self._condition = jax.jit(model.psi)
        self._denoise = jax.jit(model.predict_noise)
        self._restore = jax.jit(
            functools.partial(_restore, model), static_argnames=("steps", "name", "eta", "samples")
        )

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        norm_groups: int = 32,
        betas: Sequence[float] | None = None,
        image_size: tuple[int, int] = (112, 224),
    ) -> "Restorer":
        """Loads a model.

        Args:
          source: a work directory of `train.py`, a model directory, or a published program's
            `..._gen.pth`.
          norm_groups: for a `.pth`, whose names and shapes do not tell it.
          betas: [T], for a `.pth` without schedule buffers.
          image_size: (height, width) that a `.pth` works at.

        Raises:
          UserError: there is no such model, or it cannot be read.
        """
        path = Path(source)
        if path.is_file():
            from lpdiff_jax.torch_checkpoint import read_checkpoint

            return cls._from_stored(
                read_checkpoint(path, norm_groups=norm_groups, betas=betas, image_size=image_size)
            )
        if not path.exists():
            raise UserError(
                f"{source}: no such model; expected a work directory, a model directory or a "
                "PyTorch `..._gen.pth`"
            )
        if is_model_directory(path):
            return cls._from_stored(load_model(path))
        from lpdiff_jax.training.checkpoint import load_for_inference

        config, model, variables = load_for_inference(path)
        return cls(model, variables, config.sampler.to_dict())

    @classmethod
    def _from_stored(cls, stored: StoredModel) -> "Restorer":
        model = build_model(stored.config["model"])
        return cls(model, stored.variables, stored.config["sampler"])

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that frames must have."""
        return self.model.image_size

    @property
    def has_diffusion(self) -> bool:
        """Whether the denoiser is there; without it (only psi is trained) psi is the result."""
        return "denoiser" in self.variables

    def condition(self, frames: Any, mask: Any = None) -> jax.Array:
        """psi [B, H, W, 3], the first estimate, not clipped."""
        frames, mask = self._check(frames, mask)
        return self._condition(self.variables, frames, mask)

    def denoise(self, psi: Any, x_t: Any, noise_level: Any) -> jax.Array:
        """The noise predicted in x_t [B, H, W, 3]; noise_level [B] = sqrt(alphas_cumprod)."""
        return self._denoise(
            self.variables, jnp.asarray(psi), jnp.asarray(x_t), jnp.asarray(noise_level)
        )

    def restore(
        self,
        frames: Any,
        mask: Any = None,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        samples: int = 1,
        seed: int = 0,
    ) -> jax.Array:
        """Restores plates.

        A plate's result depends on its frames, the seed and the sample's number alone, not on
        its place in the batch.

        Args:
          frames: [B, N, H, W, 3] in [-1, 1].
          mask: [B, N] bool; None means that all frames are real.
          steps: denoiser calls; None takes the model's default.
          sampler: see `diffusion.samplers`; None takes the model's default.
          samples: K, how many restorations of each plate.
          seed: of the noise.

        Returns:
          [B, K, H, W, 3], clipped to [-1, 1].

        Raises:
          UserError: frames of another size, or a sampler or number of steps that does not exist.
        """
        frames, mask = self._check(frames, mask)
        if not self.has_diffusion:
            psi = jnp.clip(self._condition(self.variables, frames, mask), -1, 1)
            return jnp.repeat(psi[:, None], samples, axis=1)
        try:
            return self._restore(
                self.variables,
                frames,
                mask,
                jax.random.key(seed),
                steps=steps or self.sampler["steps"],
                name=sampler or self.sampler["name"],
                eta=self.sampler["eta"],
                samples=samples,
            )
        except ValueError as error:
            raise UserError(str(error)) from error

    def _check(self, frames: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
        frames = jnp.asarray(frames, jnp.float32)
        if frames.ndim != 5 or frames.shape[2:] != (*self.image_size, 3) or frames.shape[1] < 1:
            height, width = self.image_size
            raise UserError(f"frames are [B, N, {height}, {width}, 3], not {list(frames.shape)}")
        mask = jnp.ones(frames.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
        if self.model.condition.pairing == "consecutive":
            return _first_three(frames, mask)
        return frames, mask


def _first_three(frames: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Exactly three frames, as the published program takes them: of two 1, 2, 2; of one 1, 1, 1."""
    real = mask.sum(1, keepdims=True)
    chosen = jnp.minimum(jnp.arange(3)[None], real - 1)
    frames = jnp.take_along_axis(frames, chosen[:, :, None, None, None], axis=1)
    return frames, jnp.ones(frames.shape[:2], bool)


def _restore(
    model: LPDiff,
    variables: Variables,
    frames: jax.Array,
    mask: jax.Array,
    key: jax.Array,
    *,
    steps: int,
    name: str,
    eta: float,
    samples: int,
) -> jax.Array:
    batch = frames.shape[0]
    psi = model.psi(variables, frames, mask)
    # Samples lie beside each other in one batch: [B, K] flattened.
    psi = jnp.repeat(psi, samples, axis=0)
    visited = samplers.timesteps(model.schedule.steps, steps)

    def noise(index: jax.Array) -> jax.Array:
        keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(key, k), index))(
            jnp.arange(samples)
        )
        each = jax.vmap(lambda k: jax.random.normal(k, psi.shape[1:]))(keys)
        return jnp.tile(each, (batch, 1, 1, 1))

    x_0 = samplers.sample(
        lambda x_t, level: model.predict_x0(variables, psi, x_t, level),
        noise(jnp.asarray(len(visited))),
        noise,
        model.schedule.respaced(visited),
        name,
        eta,
    )
    plates = jnp.clip(model.compose(x_0, psi), -1, 1)
    return plates.reshape(batch, samples, *plates.shape[1:])
