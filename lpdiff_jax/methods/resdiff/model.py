"""ResDiff: a small CNN predicts the plate, a guided diffusion adds what it misses.

Shang et al., "ResDiff" (AAAI 2024).
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.objective import PREDICTIONS, to_noise, to_x0
from lpdiff_jax.diffusion.samplers import Sampler, sample
from lpdiff_jax.diffusion.schedule import NoiseSchedule, build_schedule
from lpdiff_jax.errors import check_choice, explained_section
from lpdiff_jax.methods.base import Estimate, Function, How, Stage, Variables, frozen
from lpdiff_jax.methods.frames import FRAMES, as_input
from lpdiff_jax.methods.noise import noise_of
from lpdiff_jax.methods.sampling import choose_sampler
from lpdiff_jax.models.baselines.resdiff import GuidedUNet, SimpleCNN

CNN, DENOISER = "cnn", "denoiser"
CLIPS = ("image", "residual")
INITIAL = ("usual", "orthogonal")


@dataclasses.dataclass(frozen=True)
class ResDiff:
    """The CNN's prediction p, and the diffusion of `(plate - p) / residual_scale`.

    Attributes:
      image_size: the (height, width) that it works at.
      cnn: predicts p from the frames.
      denoiser: called with (p, x_t, level).
      schedule: the schedule of the noise.
      frames: how the frames become the CNN's input, one of `methods.frames.FRAMES`.
      count: the frames that 'stacked' puts side by side.
      prediction: what the denoiser predicts: 'noise' as published, 'x0', 'v'.
      residual_scale: the residual's unit; 1 as published.
      clip: 'image' clips `p + residual` to [-1, 1]; 'residual' is the published clip.
      initial: the denoiser's first weights: 'usual' as LP-Diff's, or 'orthogonal' as published.
    """

    image_size: tuple[int, int]
    cnn: SimpleCNN
    denoiser: GuidedUNet
    schedule: NoiseSchedule
    frames: str = "nearest"
    count: int = 1
    prediction: str = "noise"
    residual_scale: float = 1.0
    clip: str = "image"
    initial: str = "usual"
    networks: tuple[str, ...] = (CNN, DENOISER)
    first_picture: str = "prediction"
    slot_reader: None = None

    def __post_init__(self) -> None:
        check_choice("frames", self.frames, FRAMES)
        check_choice("prediction", self.prediction, PREDICTIONS)
        check_choice("clip", self.clip, CLIPS)
        check_choice("initial", self.initial, INITIAL)

    @property
    def dtype(self) -> Any:
        """The precision of its computation."""
        return self.cnn.dtype

    def init(self, key: jax.Array, networks: Sequence[str] = (CNN, DENOISER)) -> Variables:
        """Fresh variables of those of the networks that are named; jit this."""
        channels = 3 * self.count if self.frames == "stacked" else 3
        image = jnp.zeros((1, *self.image_size, 3))
        variables: Variables = {}
        if CNN in networks:
            x = jnp.zeros((1, *self.image_size, channels))
            variables[CNN] = self.cnn.init(key, x)
        if DENOISER in networks:
            fresh: Any = self.denoiser.init(key, image, image, jnp.ones((1,)))
            variables[DENOISER] = orthogonal(fresh, key) if self.initial != "usual" else fresh
        return variables

    def predict(self, variables: Variables, frames: jax.Array, mask: jax.Array | None) -> jax.Array:
        """The CNN's prediction p [B, H, W, 3] from frames [B, N, H, W, 3], not clipped."""
        x = as_input(frames, mask, self.frames, self.count)
        return jnp.asarray(self.cnn.apply(variables[CNN], x))

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """The CNN's prediction, as picture and guide."""
        p = self.predict(variables, frames, mask)
        return Estimate(p, None, p)

    def guide_of(self, variables: Variables, image: jax.Array) -> jax.Array:
        """The prediction itself is all that guides."""
        del variables
        return image

    def denoise(
        self, variables: Variables, guide: jax.Array, x_t: jax.Array, level: jax.Array, train: bool
    ) -> jax.Array:
        """The denoiser's output [B, H, W, 3]: what `prediction` says."""
        output: Any = self.denoiser.apply(variables[DENOISER], guide, x_t, level, train=train)
        return output

    def predict_noise(
        self, variables: Variables, guide: jax.Array, x_t: jax.Array, noise_level: jax.Array
    ) -> jax.Array:
        """The noise in x_t [B, H, W, 3] at noise_level [B], given the prediction."""
        output = self.denoise(variables, guide, x_t, noise_level, False)
        return to_noise(self.prediction, output, x_t, noise_level)

    def draw(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: Sampler
    ) -> jax.Array:
        """Plates [B, H, W, 3], clipped to [-1, 1]; without a denoiser yet, the prediction."""
        p: jax.Array = estimate.guide
        if not self.draws_vary(variables):
            return jnp.clip(p, -1, 1)
        noise = noise_of(keys, p.shape[1:])
        steps = how.steps_of(self.schedule)
        return self._sampled(variables, p, noise(steps.count), noise, how)

    def _sampled(
        self,
        variables: Variables,
        p: jax.Array,
        first: jax.Array,
        noise: Callable[[jax.Array], jax.Array],
        how: Sampler,
    ) -> jax.Array:
        def denoise(x_t: jax.Array, level: jax.Array) -> jax.Array:
            output = self.denoise(variables, p, x_t, level, False)
            return self._clipped(to_x0(self.prediction, output, x_t, level), p)

        steps = how.steps_of(self.schedule)
        x_0 = sample(denoise, first * steps.first_scale, noise, steps)
        return jnp.clip(p + self.residual_scale * x_0, -1, 1)

    def _clipped(self, x_0: jax.Array, p: jax.Array) -> jax.Array:
        if self.clip == "residual":
            return jnp.clip(x_0, -1, 1)
        return (jnp.clip(p + self.residual_scale * x_0, -1, 1) - p) / self.residual_scale

    def draws_vary(self, variables: Variables) -> bool:
        """Whether there is a denoiser, which begins with noise."""
        return DENOISER in variables

    def choose(
        self, defaults: Mapping[str, Any], *, sampler: Any = None, steps: int | None = None
    ) -> Sampler:
        """The sampler asked for, see `methods.sampling.choose_sampler`."""
        return choose_sampler(self.schedule, defaults, sampler, steps)

    def stages(self, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
        """The stages `cnn` and `diffusion`, see `methods.resdiff.stages`."""
        from lpdiff_jax.methods.resdiff.stages import make_stages  # restoring needs none of it

        return make_stages(self, config, known)

    def exports(self, variables: Variables, how: How, num_frames: int) -> list[Function]:
        """The prediction and, with a denoiser, the whole restoration of given noise."""
        float32 = np.dtype(np.float32)
        frames = {
            "frames": ((num_frames, *self.image_size, 3), float32),
            "mask": ((num_frames,), np.dtype(bool)),
        }

        def predict(frames: jax.Array, mask: jax.Array) -> jax.Array:
            return self.predict(variables, frames, mask)

        if not self.draws_vary(variables):
            return [Function("restore", predict, frames, "restored")]
        steps = how.steps_of(self.schedule)
        draws = 1 + steps.count if steps.stochastic else 1

        def restore(frames: jax.Array, mask: jax.Array, noise: jax.Array) -> jax.Array:
            of_step = lambda index: jnp.take(noise, index, axis=1)  # noqa: E731
            p = self.predict(variables, frames, mask)
            return self._sampled(variables, p, noise[:, -1], of_step, how)

        noise = {"noise": ((draws, *self.image_size, 3), float32)}
        return [
            Function("prediction", predict, frames, "prediction"),
            Function("restore", restore, frames | noise, "restored"),
        ]

    def with_dtype(self, dtype: str) -> "ResDiff":
        """The same method, computing in another precision."""
        precision = jnp.dtype(dtype)
        return dataclasses.replace(
            self,
            cnn=self.cnn.clone(dtype=precision),
            denoiser=self.denoiser.clone(dtype=precision),
        )


def orthogonal(variables: Any, key: jax.Array) -> Any:
    """The same variables, each kernel as a matrix [inputs, outputs] with orthonormal rows or
    columns, whichever are fewer; those that would begin at zero, too.
    """

    def draw(path: Any, value: jax.Array) -> jax.Array:
        if path[-1].key != "kernel":
            return value
        name = zlib.crc32(jax.tree_util.keystr(path).encode())
        return nn.initializers.orthogonal()(jax.random.fold_in(key, name), value.shape)

    return jax.tree.map_with_path(draw, variables)


def build_resdiff(config: Mapping[str, Any]) -> ResDiff:
    """Builds the method that a configuration's `model` section describes.

    Args:
      config: `image_size`, `dtype`, `frames`, `count`, `prediction`, `residual_scale`, `clip`, and
        the sections `cnn`, `denoiser` (fields of the modules) and `schedule` (arguments of
        `make_schedule`, or `betas`, a list); `initial` where it is not 'usual'.

    Raises:
      UserError: a field that is missing, unknown or out of range.
    """
    with explained_section("model"):
        dtype = jnp.dtype(config["dtype"])
        fields = ("frames", "count", "prediction", "residual_scale", "clip")
        return ResDiff(
            image_size=tuple(config["image_size"]),
            cnn=SimpleCNN(**frozen(config["cnn"]), dtype=dtype),
            denoiser=GuidedUNet(**frozen(config["denoiser"]), dtype=dtype),
            schedule=build_schedule(config["schedule"]),
            **{name: config[name] for name in fields},
            initial=config.get("initial", "usual"),
        )
