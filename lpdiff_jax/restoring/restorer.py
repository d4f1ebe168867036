"""Restorer: the public way to restore plates with a trained model."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.compilation import jit
from lpdiff_jax.errors import UserError
from lpdiff_jax.methods.base import (
    Denoises,
    DrawsInSteps,
    Estimate,
    How,
    Method,
    Supposes,
    Variables,
)
from lpdiff_jax.parallel.devices import split_over_local_devices
from lpdiff_jax.parallel.platform import require_platform
from lpdiff_jax.plate_text import Reading
from lpdiff_jax.restoring.loading import load
from lpdiff_jax.restoring.programs import kept
from lpdiff_jax.restoring.tracing import trusting

DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True, eq=False)
class Restorer:
    """A model ready to restore.

    Images are float32 NHWC RGB in [-1, 1] of `image_size`, cropped to the plate. Frames are
    [B, N, H, W, 3], in order from far to near; mask [B, N] is False where a frame is padding.

    Each function is compiled once for a shape. Batches are filled up to a power of two, and those
    above `max_batch` are cut into parts of that size, so that few shapes occur. A restorer does not
    change, and several threads may use one.

    Attributes:
      method: the model's networks, and how it draws.
      variables: the parameters of the networks.
      defaults: a `sampler` section: how plates are drawn if the caller does not say.
      max_batch: the most plates that are computed together.
      programs: the folder where traced programs are kept for the next start; None keeps none.
    """

    method: Method
    variables: Variables
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    max_batch: int = 32
    programs: Path | None = None

    def __post_init__(self) -> None:
        self.method.choose(self.defaults)
        # By way of the host: what training has put on a device cannot meet frames on several. Not
        # by jnp.asarray, which compiles something for every shape.
        own = jax.device_put(jax.tree.map(np.array, self.variables))
        object.__setattr__(self, "variables", own)

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
        programs: Path | None = None,
    ) -> "Restorer":
        """Loads a model.

        Args:
          source: a work directory of `train.py`, a model directory, or a published program's
            `..._gen.pth`; None takes the model that comes with the package.
          norm_groups: the groups of GroupNorm of a `.pth`, whose names and shapes do not tell it.
          betas: the noise schedule [T] of a `.pth` without schedule buffers.
          image_size: the (height, width) that a `.pth` works at.
          dtype: the precision of the computation, one of `DTYPES`; None takes the model's.
          max_batch: the most plates that are computed together.
          programs: the folder where traced programs are kept for the next start; None keeps none.

        Raises:
          UserError: there is no such model, or it cannot be read; or the environment asks for a
            device that is not there.
        """
        require_platform()
        found = load(source, norm_groups=norm_groups, betas=betas, image_size=image_size)
        restorer = cls(found.method, found.variables, found.defaults, max_batch, programs)
        return restorer if dtype is None else restorer.in_precision(dtype)

    def in_precision(self, dtype: str) -> "Restorer":
        """The same model, computing in another precision, one of `DTYPES`."""
        if dtype not in DTYPES:
            raise UserError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
        # Kernels are cast once, here; norms' scales and biases stay as they are.
        cast = lambda x: jnp.asarray(x, dtype) if np.ndim(x) > 1 else x  # noqa: E731
        return dataclasses.replace(
            self, method=self.method.with_dtype(dtype), variables=jax.tree.map(cast, self.variables)
        )

    def with_variables(self, variables: Variables) -> "Restorer":
        """The same model with other parameters; nothing is compiled anew."""
        return dataclasses.replace(self, variables=variables)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that frames must have."""
        return self.method.image_size

    @property
    def draws_vary(self) -> bool:
        """Whether further samples of a plate differ from the first."""
        return self.method.draws_vary(self.variables)

    @property
    def has_diffusion(self) -> bool:
        """Whether plates are drawn with a denoiser that is trained; `denoise` calls it."""
        return isinstance(self.method, Denoises) and self.draws_vary

    def condition(self, frames: Any, mask: Any = None) -> jax.Array:
        """The first estimate (psi) [B, H, W, 3], not clipped.

        Raises:
          UserError: the method makes none, or frames of another size.
        """
        image = self.estimate(frames, mask).image
        if image is None:
            raise UserError("this model makes no first estimate; `restore` gives its plates")
        return image

    def read(self, frames: Any, mask: Any = None) -> list[Reading]:
        """Reads the plates straight from their frames, without a picture in between.

        Raises:
          UserError: the model has no reading head, or frames of another size.
        """
        slots, reader = self.estimate(frames, mask).slots, self.method.slot_reader
        if slots is None or reader is None:
            raise UserError("this model has no reading head (config.model.reader)")
        return reader.read(np.asarray(slots))

    def estimate(self, frames: Any, mask: Any = None) -> Estimate:
        """What is known before a plate is drawn: a first estimate, the text's probabilities."""
        compiled = self._compiled.estimate
        estimate: Estimate = self._in_parts(compiled, *self._check(frames, mask))
        return estimate

    def denoise(self, psi: Any, x_t: Any, noise_level: Any) -> jax.Array:
        """The noise predicted in x_t [B, H, W, 3]; noise_level [B] = sqrt(alphas_cumprod).

        Args:
          psi: what `estimate` gives; or psi alone [B, H, W, 3]. With psi alone nothing else is
            known of the plate, even if the denoiser could be shown more.
          x_t: the noisy residual [B, H, W, 3].
          noise_level: the level of its noise [B].

        Raises:
          UserError: the method has no denoiser, or the model's is not trained yet.
        """
        method = self.method
        if not (isinstance(method, Denoises) and self.has_diffusion):
            raise UserError("this model has no denoiser")
        if isinstance(psi, Estimate):
            guide = psi.guide
        else:
            guide = method.guide_of(self.variables, self._check_image(psi))
        call = self._compiled.denoise
        return call(self.variables, guide, jnp.asarray(x_t), jnp.asarray(noise_level))

    def restore(
        self,
        frames: Any,
        mask: Any = None,
        *,
        steps: int | None = None,
        sampler: Any = None,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
        callback: Callable[[int, int, jax.Array], None] | None = None,
    ) -> jax.Array:
        """Restores plates.

        A plate's result depends on its frames, its seed and the sample's number alone, not on
        its place in the batch.

        Args:
          frames: [B, N, H, W, 3] in [-1, 1], cropped to the plate.
          mask: [B, N] bool; None means that all frames are real.
          steps: the number of denoiser calls; None takes the model's default.
          sampler: a name of `diffusion.samplers`, or all of its choices; None takes the model's.
          samples: K, how many restorations are made of each plate.
          seed: the seed of the noise: one for all plates, or one per plate.
          callback: called for every step, as soon as it is taken, with its number (from 1), the
            number of steps, and the plates after it [B, K, H, W, 3]. The last are the result, which
            differs from one without a callback by what sums in another order do (1e-6).

        Returns:
          [B, K, H, W, 3], clipped to [-1, 1].

        Raises:
          UserError: frames of another size, or a sampler or number of steps that does not exist.
        """
        how = {"steps": steps, "sampler": sampler, "samples": samples, "seed": seed}
        return self.draw(self.estimate(frames, mask), callback=callback, **how)

    def draw(
        self,
        estimate: Estimate,
        *,
        steps: int | None = None,
        sampler: Any = None,
        samples: int = 1,
        seed: int | Sequence[int] = 0,
        callback: Callable[[int, int, jax.Array], None] | None = None,
    ) -> jax.Array:
        """`restore`, from what `estimate` gives."""
        how = self.method.choose(self.defaults, sampler=sampler, steps=steps)
        known = estimate._replace(slots=None)  # no picture is drawn of them
        count = len(jax.tree.leaves(known.guide)[0])
        draws = samples if self.draws_vary else 1
        seeds = np.broadcast_to(_as_seeds(seed), (count,))
        # Samples lie beside each other in one batch: [B, K] flattened.
        inputs = (
            jax.tree.map(lambda x: _repeated(x, draws, axis=0), known),
            np.repeat(seeds, draws),
            np.tile(np.arange(draws, dtype=np.uint32), count),
        )

        def by_plate(flat: jax.Array) -> jax.Array:
            plates = flat.reshape(count, draws, *flat.shape[1:])
            return _repeated(plates, samples // draws, axis=1)

        if callback is not None and self.draws_vary and isinstance(self.method, DrawsInSteps):
            number = self.method.count_steps(how)
            for step, flat in enumerate(self._in_steps(inputs, how, number), 1):
                plates = by_plate(flat)
                callback(step, number, plates)
            return plates
        call = functools.partial(self._compiled.draw, how=how)
        plates = by_plate(self._in_parts(call, *inputs))
        if callback is not None:
            callback(1, 1, plates)
        return plates

    def _in_steps(self, inputs: tuple, how: How, number: int) -> Iterator[jax.Array]:
        """The plates [B * K, H, W, 3] after each step of drawing them."""
        compiled, parts = self._compiled, []
        for place, size in batch_parts(len(inputs[-1]), self.max_batch):
            own = jax.tree.map(functools.partial(_cut, part=place, size=size), inputs)
            begun = compiled.begin(self.variables, *own, how=how)
            parts.append(_Part(place.stop - place.start, *begun))
        for index in reversed(range(number)):
            flat = []
            for part in parts:
                part.state, plates = compiled.step(
                    *part.given,
                    how=how,
                    shared=part.shared,
                    state=part.state,
                    index=np.int32(index),
                )
                flat.append(plates[: part.count])
            yield flat[0] if len(flat) == 1 else jnp.concatenate(flat)

    def lowered_draw(self, batch: int, how: How) -> Any:
        """JAX's lowered object behind `draw` of one part of `batch` plates, to inspect."""
        shape = jax.ShapeDtypeStruct
        frames = shape((batch, 1, *self.image_size, 3), jnp.float32)
        estimate: Estimate = jax.eval_shape(self.method.estimate, self.variables, frames)
        number = shape((batch,), jnp.uint32)
        call = self._compiled.draw
        return call.lower(self.variables, estimate._replace(slots=None), number, number, how=how)

    def _check_image(self, image: Any) -> jax.Array:
        image = jnp.asarray(image, jnp.float32)
        height, width = self.image_size
        if image.ndim != 4 or image.shape[1:] != (height, width, 3):
            raise UserError(
                f"psi is [B, {height}, {width}, 3], not {list(image.shape)}; or give all that "
                "`estimate(frames)` gives"
            )
        return image

    @property
    def _compiled(self) -> "_Compiled":
        return _compiled(self.method, self.programs)

    def _in_parts(self, function: Any, *trees: Any) -> Any:
        """Applies a compiled function to trees of arrays [B, ...] in parts of few sizes."""
        parts = []
        for part, size in batch_parts(len(jax.tree.leaves(trees)[0]), self.max_batch):
            cut = functools.partial(_cut, part=part, size=size)
            out = function(self.variables, *jax.tree.map(cut, trees))
            parts.append(jax.tree.map(lambda x, count=part.stop - part.start: x[:count], out))
        if len(parts) == 1:
            return parts[0]
        return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)

    def _check(self, frames: Any, mask: Any) -> tuple[jax.Array, jax.Array]:
        frames = jnp.asarray(frames, jnp.float32)
        if frames.ndim != 5 or frames.shape[2:] != (*self.image_size, 3) or 0 in frames.shape:
            height, width = self.image_size
            raise UserError(f"frames are [B, N, {height}, {width}, 3], not {list(frames.shape)}")
        mask = np.ones(frames.shape[:2], bool) if mask is None else mask
        return frames, jnp.asarray(mask, bool)


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """A method's functions, which compile when first called with a shape."""

    estimate: Any
    draw: Any
    denoise: Any
    begin: Any = None
    step: Any = None


@dataclasses.dataclass
class _Part:
    """A part of a batch between two steps: how many plates it has, and what a step is given."""

    count: int
    given: tuple[Estimate, jax.Array]
    shared: Any
    state: Any


@functools.lru_cache(maxsize=16)
def _compiled(method: Method, programs: Path | None) -> _Compiled:
    denoise = jit(trusting(method.predict_noise)) if isinstance(method, Denoises) else None
    suppose = method.suppose if isinstance(method, Supposes) else None
    estimate = trusting(method.estimate)
    draw = trusting(functools.partial(_draw, method.draw, suppose))
    if programs is not None:  # of what every start calls
        estimate = kept("estimate", estimate, method, programs)
        draw = kept("draw", draw, method, programs)
    compiled = _Compiled(jit(estimate), jit(draw, static_argnames="how"), denoise)
    if not isinstance(method, DrawsInSteps):
        return compiled
    begin = functools.partial(_begin, method.begin, suppose)
    return dataclasses.replace(
        compiled,
        begin=jit(trusting(begin), static_argnames="how"),
        step=jit(trusting(method.step), static_argnames="how"),
    )


def _draw(
    draw: Callable[..., jax.Array],
    suppose: Callable[..., Estimate] | None,
    variables: Variables,
    estimate: Estimate,
    seeds: jax.Array,
    numbers: jax.Array,
    *,
    how: How,
) -> jax.Array:
    """What is drawn [B, ...]; each one's noise is keyed by its seed [B] and its number [B]."""
    return draw(variables, *_supposed(suppose, variables, estimate, seeds, numbers), how)


def _begin(
    begin: Callable[..., tuple[Any, Any]],
    suppose: Callable[..., Estimate] | None,
    variables: Variables,
    estimate: Estimate,
    seeds: jax.Array,
    numbers: jax.Array,
    *,
    how: How,
) -> tuple[Any, ...]:
    """What every step of `_draw` is given, and the state before the first."""
    given = _supposed(suppose, variables, estimate, seeds, numbers)
    return given, *begin(variables, *given, how)


def _supposed(
    suppose: Callable[..., Estimate] | None,
    variables: Variables,
    estimate: Estimate,
    seeds: jax.Array,
    numbers: jax.Array,
) -> tuple[Estimate, jax.Array]:
    """What each draw begins with: its estimate, and its key [B]."""
    key_of = lambda seed, number: jax.random.fold_in(jax.random.key(seed), number)  # noqa: E731
    keys = jax.vmap(key_of)(seeds, numbers)
    return estimate if suppose is None else suppose(variables, estimate, keys, numbers), keys


def _as_seeds(seed: int | Sequence[int]) -> np.ndarray:
    seeds = np.asarray(seed)
    if seeds.dtype.kind not in "iu" or (seeds < 0).any() or (seeds >= 2**32).any():
        raise UserError(f"seed is {seed}; seeds are whole numbers from 0 to {2**32 - 1}")
    return seeds.astype(np.uint32)


def batch_parts(total: int, largest: int) -> Iterator[tuple[slice, int]]:
    """Cuts a batch into parts: which plates, and the size that they are filled up to.

    A batch up to `largest` is one part, filled up to a power of two; more plates make parts of
    `largest` throughout, so that one compilation serves any number of them.
    """
    size = largest if total > largest else min(1 << (total - 1).bit_length(), largest)
    for first in range(0, total, size):
        yield slice(first, min(first + size, total)), size


def _repeated(x: jax.Array, times: int, axis: int) -> jax.Array:
    return x if times == 1 else jnp.repeat(x, times, axis=axis)  # nothing is compiled for once


def _cut(x: jax.Array | np.ndarray, part: slice, size: int) -> Any:
    """A part of x [B, ...], its last plate repeated until there are `size`, over all devices."""
    x = x[part]
    if missing := size - len(x):
        of = np if isinstance(x, np.ndarray) else jnp
        x = of.concatenate([x, of.repeat(x[-1:], missing, axis=0)])
    return split_over_local_devices(x)
