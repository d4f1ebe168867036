"""Restorer: the public way to restore plates with a trained model."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.compilation import jit
from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.lpdiff.model import Estimate, LPDiff, Variables, build_model, psi_of
from lpdiff_jax.plate_text import Reading, read_slots
from lpdiff_jax.storage.model_directory import StoredModel, is_model_directory, load_model

DTYPES = ("float32", "bfloat16", "float16")
# The model that comes with the package.
PACKAGED = Path(__file__).parents[1] / "pretrained"


class Restorer:
    """A model ready to restore.

    Images are float32 NHWC RGB in [-1, 1] of `image_size`; frames are [B, N, H, W, 3], in order
    (far to near), and mask [B, N] is False where a frame is padding.

    Each function is compiled once for a shape. Batches are filled up to a power of two, and those
    above `max_batch` are cut into parts of that size, so that few shapes occur.

    Attributes:
      model: the networks and the diffusion process.
      variables: their parameters.
      sampler: how plates are sampled when the caller does not say.
      max_batch: plates that are computed together at most.
    """

    def __init__(
        self,
        model: LPDiff,
        variables: Variables,
        sampler: Sampler | Mapping[str, Any],
        *,
        dtype: str | None = None,
        max_batch: int = 32,
    ):
        if dtype is not None:
            model, variables = _in_precision(dtype, model, variables)
        self.model = model
        # By way of the host: what training has put on a device cannot meet frames on several. Not
        # by jnp.asarray, which compiles something for every shape.
        self.variables = jax.device_put(jax.tree.map(np.array, variables))
        self.sampler = sampler if isinstance(sampler, Sampler) else make_sampler(sampler)
        self.max_batch = max_batch
        self._estimate = jit(model.estimate)
        self._denoise = jit(model.predict_noise)
        self._sample = jit(functools.partial(_sample, model), static_argnames="sampler")

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        norm_groups: int = 32,
        betas: Sequence[float] | None = None,
        image_size: tuple[int, int] = (112, 224),
        dtype: str | None = None,
        max_batch: int = 32,
    ) -> "Restorer":
        """Loads a model.

        Args:
          source: a work directory of `train.py`, a model directory, or a published program's
            `..._gen.pth`; None takes the model that comes with the package.
          norm_groups: for a `.pth`, whose names and shapes do not tell it.
          betas: [T], for a `.pth` without schedule buffers.
          image_size: (height, width) that a `.pth` works at.
          dtype: precision of the computation, one of `DTYPES`; None takes the model's.
          max_batch: plates that are computed together at most.

        Raises:
          UserError: there is no such model, or it cannot be read.
        """
        path = PACKAGED if source is None else Path(source)
        if path.is_file():
            from lpdiff_jax.pytorch.checkpoint import read_checkpoint

            parts = _parts(
                read_checkpoint(path, norm_groups=norm_groups, betas=betas, image_size=image_size)
            )
        elif is_model_directory(path):
            parts = _parts(load_model(path))
        elif path.exists():
            from lpdiff_jax.storage.checkpoint import load_for_inference

            config, model, variables = load_for_inference(path)
            parts = model, variables, config.sampler.to_dict()
        else:
            raise UserError(
                f"{source}: no such model; expected a work directory, a model directory or a "
                "PyTorch `..._gen.pth`"
            )
        return cls(*parts, dtype=dtype, max_batch=max_batch)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that frames must have."""
        return self.model.image_size

    @property
    def has_diffusion(self) -> bool:
        """Whether the denoiser is there; without it (only psi is trained) psi is the result."""
        return "denoiser" in self.variables

    @property
    def charset(self) -> str:
        """The characters that the reading head reads; empty where there is none."""
        return self.model.charset

    @property
    def slope(self) -> float:
        """Slope of the reading head's confidence in log-odds, see `reading.read_slots`."""
        return self.model.slope

    def condition(self, frames: Any, mask: Any = None) -> jax.Array:
        """psi [B, H, W, 3], the first estimate, not clipped."""
        return self.estimate(frames, mask).psi

    def read(self, frames: Any, mask: Any = None) -> list[Reading]:
        """Reads the plates straight from their frames, without a picture in between.

        Raises:
          UserError: the model has no reading head, or frames of another size.
        """
        slots = self.estimate(frames, mask).slots
        if slots is None:
            raise UserError("this model has no reading head (config.model.reader)")
        return read_slots(np.asarray(slots), self.charset, self.slope)

    def estimate(self, frames: Any, mask: Any = None) -> Estimate:
        """psi, by the reading head the text's probabilities, and what the denoiser is given."""
        estimate: Estimate = self._in_parts(self._estimate, *self._check(frames, mask))
        return estimate

    def denoise(self, psi: Any, x_t: Any, noise_level: Any) -> jax.Array:
        """The noise predicted in x_t [B, H, W, 3]; noise_level [B] = sqrt(alphas_cumprod).

        A model whose denoiser is shown more than psi takes `estimate(frames).guide` in its place.
        """
        return self._denoise(
            self.variables, self._check_guide(psi), jnp.asarray(x_t), jnp.asarray(noise_level)
        )

    def restore(
        self,
        frames: Any,
        mask: Any = None,
        *,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
    ) -> jax.Array:
        """Restores plates.

        A plate's result depends on its frames, its seed and the sample's number alone, not on
        its place in the batch.

        Args:
          frames: [B, N, H, W, 3] in [-1, 1].
          mask: [B, N] bool; None means that all frames are real.
          steps: denoiser calls; None takes the model's default.
          sampler: a name of `diffusion.samplers`, or all of its choices; None takes the model's.
          samples: K, how many restorations of each plate.
          seed: of the noise: one for all plates, or one a plate.

        Returns:
          [B, K, H, W, 3], clipped to [-1, 1].

        Raises:
          UserError: frames of another size, or a sampler or number of steps that does not exist.
        """
        return self.sample(
            self.estimate(frames, mask).guide,
            steps=steps,
            sampler=sampler,
            samples=samples,
            seed=seed,
        )

    def sample(
        self,
        guide: Any,
        *,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
    ) -> jax.Array:
        """`restore`, from `estimate(frames).guide` (psi, where the denoiser sees no more)."""
        guide = self._check_guide(guide)
        chosen = self._choose(sampler, steps)
        if not self.has_diffusion:
            return jnp.repeat(jnp.clip(psi_of(guide), -1, 1)[:, None], samples, axis=1)
        seeds = np.broadcast_to(np.asarray(seed, np.uint32), guide.shape[:1])
        # Samples lie beside each other in one batch: [B, K] flattened.
        plates: jax.Array = self._in_parts(
            functools.partial(self._sample, sampler=chosen),
            jnp.repeat(guide, samples, axis=0),
            jnp.asarray(np.repeat(seeds, samples)),
            jnp.asarray(np.tile(np.arange(samples, dtype=np.uint32), len(guide))),
        )
        return plates.reshape(len(guide), samples, *plates.shape[1:])

    def compiled_sampler(self, batch: int, steps: int | None = None) -> Any:
        """JAX's compiled object behind `sample` of one part of `batch` plates, to inspect."""
        guide = jax.ShapeDtypeStruct((batch, *self.image_size, self.guide_channels), jnp.float32)
        number = jax.ShapeDtypeStruct((batch,), jnp.uint32)
        chosen = self._choose(None, steps)
        return self._sample.lower(self.variables, guide, number, number, sampler=chosen).compile()

    @property
    def guide_channels(self) -> int:
        """Channels of the denoiser's guide."""
        return self.model.guide_channels(self.variables)

    def _check_guide(self, guide: Any) -> jax.Array:
        guide = jnp.asarray(guide, jnp.float32)
        height, width, channels = *self.image_size, self.guide_channels
        if guide.ndim != 4 or guide.shape[1:] != (height, width, channels):
            raise UserError(
                f"this model samples from [B, {height}, {width}, {channels}], what "
                f"`estimate(frames).guide` gives, not {list(guide.shape)}"
            )
        return guide

    def _choose(self, sampler: str | Sampler | None, steps: int | None) -> Sampler:
        """The sampler asked for; what is left open is the model's own."""
        chosen = sampler if isinstance(sampler, Sampler) else self.sampler
        changes: dict[str, Any] = {"name": sampler} if isinstance(sampler, str) else {}
        changes |= {} if steps is None else {"steps": steps}
        try:
            chosen = dataclasses.replace(chosen, **changes)
            chosen.visited(self.model.schedule)
        except ValueError as error:
            raise UserError(str(error)) from error
        return chosen

    def _in_parts(self, function: Any, *arrays: jax.Array) -> Any:
        """Applies a compiled function to batches [B, ...] in parts of few sizes."""
        parts = []
        for part, size in batch_parts(len(arrays[0]), self.max_batch):
            out = function(self.variables, *(_fill(x[part], size) for x in arrays))
            parts.append(jax.tree.map(lambda x, count=part.stop - part.start: x[:count], out))
        if len(parts) == 1:
            return parts[0]
        return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)

    def _check(self, frames: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
        frames = jnp.asarray(frames, jnp.float32)
        if frames.ndim != 5 or frames.shape[2:] != (*self.image_size, 3) or 0 in frames.shape:
            height, width = self.image_size
            raise UserError(f"frames are [B, N, {height}, {width}, 3], not {list(frames.shape)}")
        mask = jnp.ones(frames.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
        return frames, mask


def make_sampler(section: Mapping[str, Any]) -> Sampler:
    """A sampler from a configuration's `sampler` section.

    Raises:
      UserError: a field that is unknown or out of range.
    """
    try:
        return Sampler(**section)
    except (TypeError, ValueError) as error:
        raise UserError(f"the configuration's section `sampler` does not fit: {error}") from error


def _parts(stored: StoredModel) -> tuple[LPDiff, Variables, dict[str, Any]]:
    # Stored with 16 bits perhaps, to be small; parameters are float32 all the same.
    variables = jax.tree.map(lambda x: np.asarray(x, np.float32), stored.variables)
    return build_model(stored.config["model"]), variables, stored.config["sampler"]


def _in_precision(dtype: str, model: LPDiff, variables: Variables) -> tuple[LPDiff, Variables]:
    """Kernels are cast once, here; norms' scales and biases stay as they are."""
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
    cast = lambda x: jnp.asarray(x, dtype) if np.ndim(x) > 1 else x  # noqa: E731
    return model.with_dtype(dtype), jax.tree.map(cast, variables)


def batch_parts(total: int, largest: int) -> Iterator[tuple[slice, int]]:
    """Cuts a batch into parts: which plates, and the size that they are filled up to.

    A batch up to `largest` is one part, filled up to a power of two; more plates make parts of
    `largest` throughout, so that one compilation serves any number of them.
    """
    size = largest if total > largest else min(1 << (total - 1).bit_length(), largest)
    for first in range(0, total, size):
        yield slice(first, min(first + size, total)), size


def _fill(x: jax.Array, size: int) -> jax.Array:
    """Repeats the last plate of x [B, ...] until there are `size`."""
    missing = size - len(x)
    return x if missing == 0 else jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])


def _sample(
    model: LPDiff,
    variables: Variables,
    guide: jax.Array,
    seeds: jax.Array,
    numbers: jax.Array,
    *,
    sampler: Sampler,
) -> jax.Array:
    """Plates [B, H, W, 3] from a guide; each's noise is keyed by its seed [B] and number [B]."""
    psi, schedule = psi_of(guide), sampler.visited(model.schedule)
    key_of = lambda seed, number: jax.random.fold_in(jax.random.key(seed), number)  # noqa: E731
    keys = jax.vmap(key_of)(seeds, numbers)

    def noise(index: jax.Array | int) -> jax.Array:
        draw = lambda key: jax.random.normal(jax.random.fold_in(key, index), psi.shape[1:])  # noqa: E731
        return jax.vmap(draw)(keys)

    denoise_fn, prepare = model.x0_denoiser(variables, guide)
    x_0 = sample(
        denoise_fn,
        sampler.first(noise(schedule.steps), schedule),
        noise,
        schedule,
        sampler.name,
        sampler.eta,
        prepare=prepare,
    )
    return jnp.clip(model.compose(x_0, psi), -1, 1)
