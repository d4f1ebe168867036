"""ResShift: a chain that begins at the frame itself, and ends at the plate.

Yue et al., "ResShift" (NeurIPS 2023; journal version 2024). In pixels, or in the latents of an
autoencoder that is trained first.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.residual_shift import ShiftSchedule
from lpdiff_jax.diffusion.samplers import sample
from lpdiff_jax.errors import UserError, check_choice, explained_section
from lpdiff_jax.methods.base import Estimate, Function, How, Stage, Variables, frozen, storable
from lpdiff_jax.methods.frames import FRAMES, as_input
from lpdiff_jax.methods.noise import noise_of
from lpdiff_jax.models.baselines.swin_unet import SwinUNet
from lpdiff_jax.models.baselines.vq import VQAutoencoder

AUTOENCODER, DENOISER = "autoencoder", "denoiser"


@storable
class Guide(NamedTuple):
    """What the chain begins with, and what the network is shown at each step.

    Attributes:
      start: [B, h, w, C], the nearest frame, or its latents.
      condition: [B, H, W, C'], the frame(s) as pixels.
    """

    start: jax.Array
    condition: jax.Array


@dataclasses.dataclass(frozen=True)
class Chain:
    """How plates are drawn: by a number of steps of the chain."""

    steps: int


@dataclasses.dataclass(frozen=True)
class ResShift:
    """The network, its chain and, for latents, the autoencoder.

    Attributes:
      image_size: the (height, width) that it works at.
      denoiser: predicts the plate, or its latents.
      schedule: the schedule of the chain.
      autoencoder: None in pixel space.
      frames: how the frames become the condition, one of `methods.frames.FRAMES`; the chain
        begins at the nearest one ('mean': at the mean).
      count: the frames that 'stacked' puts side by side.
    """

    image_size: tuple[int, int]
    denoiser: SwinUNet
    schedule: ShiftSchedule
    autoencoder: VQAutoencoder | None = None
    frames: str = "nearest"
    count: int = 1
    first_picture: str = ""
    slot_reader: None = None

    def __post_init__(self) -> None:
        check_choice("frames", self.frames, FRAMES)
        halvings = 0
        if self.autoencoder is not None:
            halvings = len(self.autoencoder.multipliers) - 1
        if self.denoiser.condition_halvings != halvings:
            raise ValueError(
                f"denoiser.condition_halvings is {self.denoiser.condition_halvings}; the frames "
                f"are {halvings} halvings larger than what the chain works on"
            )

    @property
    def networks(self) -> tuple[str, ...]:
        """Those that restoring needs, in the order of computation."""
        return (DENOISER,) if self.autoencoder is None else (AUTOENCODER, DENOISER)

    @property
    def dtype(self) -> Any:
        """The precision of its computation."""
        return self.denoiser.dtype

    @property
    def space(self) -> str:
        """What the chain works on: 'pixel' or 'latent'."""
        return "pixel" if self.autoencoder is None else "latent"

    def init(self, key: jax.Array, networks: Sequence[str] | None = None) -> Variables:
        """Fresh variables of those of the networks that are named; jit this."""
        wanted = self.networks if networks is None else networks
        frames = jnp.zeros((1, max(self.count, 1), *self.image_size, 3))
        variables: Variables = {}
        if self.autoencoder is not None:
            variables[AUTOENCODER] = self.autoencoder.init(key, frames[:, 0])
        if DENOISER in wanted:
            guide = self._guide(variables, frames, None)
            time = jnp.zeros((1,))
            variables[DENOISER] = self.denoiser.init(key, guide.condition, guide.start, time)
        return {name: tree for name, tree in variables.items() if name in wanted}

    def _guide(self, variables: Variables, frames: jax.Array, mask: jax.Array | None) -> Guide:
        condition = as_input(frames, mask, self.frames, self.count)
        return Guide(self.encode(variables, condition[..., -3:]), condition)

    def encode(self, variables: Variables, image: jax.Array) -> jax.Array:
        """Pictures [B, H, W, 3] in [-1, 1] as the chain has them; in pixel space as they are."""
        if self.autoencoder is None:
            return image
        latents: Any = self.autoencoder.apply(variables[AUTOENCODER], image, method="encode")
        return latents

    def decode(self, variables: Variables, x: jax.Array) -> jax.Array:
        """Undoes `encode`; not clipped."""
        if self.autoencoder is None:
            return x
        image: Any = self.autoencoder.apply(variables[AUTOENCODER], x, method="decode")
        return image

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """What the chain begins with; there is no first picture."""
        return Estimate(None, None, self._guide(variables, frames, mask))

    def predict(
        self,
        variables: Variables,
        guide: Guide,
        x_t: jax.Array,
        time: jax.Array,
        scale: jax.Array,
        train: bool = False,
    ) -> jax.Array:
        """The plate (or its latents) in x_t [B, h, w, C], not clipped.

        Args:
          variables: of the networks.
          guide: of the plates.
          x_t: at `time`.
          time: [B], the trained steps' numbers.
          scale: what x_t is divided by: `scale_of` the time, [B, 1, 1, 1] or one number.
          train: whether dropout acts.
        """
        output: Any = self.denoiser.apply(
            variables[DENOISER], guide.condition, x_t / scale, time, train=train
        )
        return output

    def scale_of(self, time: jax.Array) -> jax.Array:
        """What x_t is divided by before the network sees it, at any number of times [N]: [N]."""
        scales = jnp.asarray(self.schedule.input_scale(self.space), jnp.float32)
        return scales[time.astype(jnp.int32)]

    def draw(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: Chain
    ) -> jax.Array:
        """Plates [B, H, W, 3], clipped to [-1, 1].

        While the network is not trained yet the nearest frame comes back, through the autoencoder
        where there is one.
        """
        guide: Guide = estimate.guide
        if not self.draws_vary(variables):
            return jnp.clip(self.decode(variables, guide.start), -1, 1)
        noise = noise_of(keys, guide.start.shape[1:])
        return self._sampled(variables, guide, noise(how.steps), noise, how)

    def _sampled(
        self,
        variables: Variables,
        guide: Guide,
        first: jax.Array,
        noise: Callable[[jax.Array], jax.Array],
        how: Chain,
    ) -> jax.Array:
        kept = self.schedule.respaced(how.steps)
        spread = self.schedule.kappa * float(self.schedule.sqrt_shift[kept[-1]])

        def denoise(x_t: jax.Array, time: jax.Array, scale: jax.Array) -> jax.Array:
            x_0 = self.predict(variables, guide, x_t, time, scale)
            return jnp.clip(x_0, -1, 1) if self.space == "pixel" else x_0

        steps = self.schedule.steps_back(kept)
        start = guide.start + spread * first
        x = sample(denoise, start, noise, steps, prepare=self.scale_of)
        return jnp.clip(self.decode(variables, x), -1, 1)

    def draws_vary(self, variables: Variables) -> bool:
        """Whether there is a trained network, whose chain begins with noise."""
        return DENOISER in variables

    def choose(
        self, defaults: Mapping[str, Any], *, sampler: Any = None, steps: int | None = None
    ) -> Chain:
        """The number of steps: what is asked for, else `sampler.steps`, else all that were trained.

        Raises:
          UserError: another sampler, or a number of steps that the chain does not have.
        """
        if sampler is not None and not isinstance(sampler, Chain):
            raise UserError("this model has a chain of its own and no other sampler; choose steps")
        count = sampler.steps if isinstance(sampler, Chain) else defaults.get("steps")
        count = steps if steps is not None else count or self.schedule.steps
        try:
            self.schedule.respaced(count)
        except ValueError as error:
            raise UserError(str(error)) from error
        return Chain(count)

    def stages(self, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
        """The stages `autoencoder` and `diffusion`, see `methods.resshift.stages`."""
        from lpdiff_jax.methods.resshift.stages import make_stages  # restoring needs none of it

        return make_stages(self, config, known)

    def exports(self, variables: Variables, how: How, num_frames: int) -> list[Function]:
        """The whole restoration of given noise."""
        if not self.draws_vary(variables):
            return []
        float32 = np.dtype(np.float32)
        frames = ((num_frames, *self.image_size, 3), float32)
        start = jax.eval_shape(
            lambda: self._guide(variables, jnp.zeros((1, *frames[0])), None).start
        )

        def restore(frames: jax.Array, mask: jax.Array, noise: jax.Array) -> jax.Array:
            of_step = lambda index: jnp.take(noise, index, axis=1)  # noqa: E731
            guide = self._guide(variables, frames, mask)
            return self._sampled(variables, guide, noise[:, -1], of_step, how)

        inputs = {
            "frames": frames,
            "mask": ((num_frames,), np.dtype(bool)),
            "noise": ((1 + how.steps, *start.shape[1:]), float32),
        }
        return [Function("restore", restore, inputs, "restored")]

    def with_dtype(self, dtype: str) -> "ResShift":
        """The same method, computing in another precision."""
        precision = jnp.dtype(dtype)
        return dataclasses.replace(
            self,
            denoiser=self.denoiser.clone(dtype=precision),
            autoencoder=self.autoencoder and self.autoencoder.clone(dtype=precision),
        )


def build_resshift(config: Mapping[str, Any]) -> ResShift:
    """Builds the method that a configuration's `model` section describes.

    Args:
      config: `image_size`, `dtype`, `frames`, `count`, and the sections `denoiser`, `autoencoder`
        (fields of the modules; none of the latter for pixel space) and `schedule` (fields of
        `ShiftSchedule`).

    Raises:
      UserError: a field that is missing, unknown or out of range.
    """
    with explained_section("model"):
        dtype = jnp.dtype(config["dtype"])
        autoencoder = config.get("autoencoder")
        return ResShift(
            image_size=tuple(config["image_size"]),
            denoiser=SwinUNet(**frozen(config["denoiser"]), dtype=dtype),
            schedule=ShiftSchedule(**config["schedule"]),
            autoencoder=VQAutoencoder(**frozen(autoencoder), dtype=dtype) if autoencoder else None,
            frames=config["frames"],
            count=config["count"],
        )
