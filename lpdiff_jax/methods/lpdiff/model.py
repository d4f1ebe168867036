"""LP-Diff: condition network, reading head, sketch, denoiser and diffusion process, as one frozen
description.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lpdiff_jax.diffusion.objective import PREDICTIONS, to_noise, to_x0
from lpdiff_jax.diffusion.samplers import Carry, Row, Sampler, Steps, sample, table_of, take_step
from lpdiff_jax.diffusion.schedule import NoiseSchedule, build_schedule
from lpdiff_jax.errors import check_choice, explained_section
from lpdiff_jax.methods.base import Estimate, Function, Stage, Variables, frozen, storable
from lpdiff_jax.methods.noise import noise_of
from lpdiff_jax.methods.sampling import choose_sampler
from lpdiff_jax.models.condition import ConditionNetwork, Seen
from lpdiff_jax.models.hoisting import Hoisted, apply_hoisted, hoist, level_biases
from lpdiff_jax.models.layers import masked_mean
from lpdiff_jax.models.reading_head import ALIGNMENTS, ReadingHead
from lpdiff_jax.models.sketch import TEXTS, Sketch, likeliest
from lpdiff_jax.models.unet import UNet
from lpdiff_jax.plate_text import SlotReader

# In the order in which they are computed.
NETWORKS = ("condition", "reader", "sketch", "denoiser")


@storable
class Guide(NamedTuple):
    """What the denoiser is conditioned on, and what other samples would be.

    Attributes:
      psi: [B, H, W, 3], the condition network's first estimate, not clipped.
      sketch: [B, H, W, 3], the drawn residual of the reading head's text; None without a sketch.
      frame: [B, H, W, 3], the mean of the frames; None where the denoiser is not shown it.
      slots: [B, S, classes], the text's probabilities, of which `suppose` draws other texts; None
        where there is one sketch for all samples.
    """

    psi: jax.Array
    sketch: jax.Array | None = None
    frame: jax.Array | None = None
    slots: jax.Array | None = None

    def stacked(self) -> jax.Array:
        """All that the denoiser is shown, in channels: [B, H, W, 3, 6 or 9]."""
        parts = [part for part in (self.psi, self.sketch, self.frame) if part is not None]
        return jnp.concatenate(parts, axis=-1) if len(parts) > 1 else self.psi


@dataclasses.dataclass(frozen=True)
class LPDiff:
    """LP-Diff: psi, and the diffusion of the residual `(plate - psi) / residual_scale`.

    Attributes:
      image_size: (height, width) that it works at.
      prediction: what the denoiser predicts, see `objective.Objective`.
      residual_scale: the residual's unit; 1 as published. Near the residual's own standard
        deviation it makes signal and noise comparable.
      clip: 'image' clips `x_0 + psi` to [-1, 1]; 'residual' is the published clip of x_0 itself,
        which cannot turn black into white.
      reader: the reading head, or None.
      sketch: the network that draws the reading head's text for the denoiser, or None.
      guide_frame: whether the denoiser is also shown the mean of the frames.
      slot_reader: spells what the reading head says; None without a reading head.
    """

    image_size: tuple[int, int]
    condition: ConditionNetwork
    denoiser: UNet
    schedule: NoiseSchedule
    prediction: str = "v"
    residual_scale: float = 1.0
    clip: str = "image"
    reader: ReadingHead | None = None
    sketch: Sketch | None = None
    guide_frame: bool = False
    slot_reader: SlotReader | None = None

    def __post_init__(self) -> None:
        check_choice("prediction", self.prediction, PREDICTIONS)
        check_choice("clip", self.clip, ("image", "residual"))
        if self.sketch is not None and self.reader is None:
            raise ValueError("sketch.layers needs a reading head: what a sketch draws is its text")
        if self.reader is not None and self.reader.alignment == "ctc":
            columns = self.image_size[1] // self.condition.patch
            if columns < 2 * self.reader.slots - 1:  # of equal neighbours each is parted by one
                raise ValueError(
                    f"reader.alignment 'ctc' needs {2 * self.reader.slots - 1} columns for "
                    f"{self.reader.slots} slots; image_size gives {columns}"
                )

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that this model has, in the order of `NETWORKS`."""
        return tuple(name for name in NETWORKS if getattr(self, name) is not None)

    @property
    def dtype(self) -> Any:
        """The precision of the computation."""
        return self.condition.dtype

    @property
    def first_picture(self) -> str:
        """What `Estimate.image` is called."""
        return "psi"

    def with_dtype(self, dtype: str) -> "LPDiff":
        """The same model, computing in another precision."""
        return dataclasses.replace(
            self,
            condition=self.condition.clone(dtype=jnp.dtype(dtype)),
            denoiser=self.denoiser.clone(dtype=jnp.dtype(dtype)),
            reader=self.reader and self.reader.clone(dtype=jnp.dtype(dtype)),
            sketch=self.sketch and self.sketch.clone(dtype=jnp.dtype(dtype)),
        )

    def init(self, key: jax.Array, networks: Sequence[str] = NETWORKS) -> Variables:
        """Fresh variables of those networks that the model has; jit this."""
        frames = jnp.zeros((1, 3, *self.image_size, 3))
        image, level = frames[:, 0], jnp.ones((1,))
        variables: Variables = {"condition": self.condition.init(key, frames)}
        features = self._see(variables, frames).features
        if self.reader is not None:
            variables["reader"] = self.reader.init(key, features)
        if self.sketch is not None and "sketch" in networks:
            slots = self.read(variables, features)
            variables["sketch"] = self.sketch.init(key, slots, image)
        if "denoiser" in networks:
            guide = self.guide(variables, image, features, frames)
            variables["denoiser"] = self.denoiser.init(key, guide.stacked(), image, level)
        return variables

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """All that is known of the plates before the diffusion."""
        psi, features, _ = self._see(variables, frames, mask)
        slots = None
        if self.slot_reader is not None:
            slots = self.read(variables, features, self.slot_reader.temperature)
        return Estimate(psi, slots, self.guide(variables, psi, features, frames, mask))

    def guide(
        self,
        variables: Variables,
        psi: jax.Array,
        features: Any,
        frames: jax.Array,
        mask: jax.Array | None = None,
        truth: jax.Array | None = None,
    ) -> Guide:
        """What the denoiser is conditioned on.

        Args:
          variables: without those of a sketch (while only psi is trained) there is none in it.
          psi: [B, H, W, 3].
          features: [B, h, w, C], the condition network's.
          frames: [B, N, H, W, 3].
          mask: [B, N] bool; None means that all frames are real.
          truth: [B, S], the true classes of the slots, negative in a plate that is not labelled;
            a sketch of one text is trained with it.
        """
        sketch = frame = slots = None
        if self.sketch is not None and "sketch" in variables:
            # Not divided by the temperature, which is fitted after training.
            text = self.read(variables, features)
            if self.sketch.text == "likeliest":
                slots, text = text, likeliest(text)
                if truth is not None:
                    true = jax.nn.one_hot(truth, text.shape[-1])
                    text = jnp.where((truth >= 0).all(1)[:, None, None], true, text)
            sketch = self._drawn(variables, text, psi)
        if self.guide_frame:
            real = jnp.ones(frames.shape[:2], bool) if mask is None else mask
            frame = masked_mean(frames, real)
        return Guide(psi, sketch, frame, slots)

    def suppose(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, numbers: jax.Array
    ) -> Estimate:
        """The first sample (number 0) shows the likeliest text, others one drawn by its odds.

        Each character is drawn by itself, with the odds that the calibrated reading head gives it:
        so samples differ where the head is unsure, and agree where it is sure.
        """
        guide: Guide = estimate.guide
        if guide.slots is None or guide.sketch is None or self.slot_reader is None:
            return estimate
        odds = jnp.log(guide.slots + 1e-9) / self.slot_reader.temperature
        drawn = jax.vmap(lambda key, odds: jax.random.categorical(key, odds))(keys, odds)
        text = jax.nn.one_hot(drawn, odds.shape[-1])
        other = self._drawn(variables, text, guide.psi)
        sketch = jnp.where(numbers[:, None, None, None] == 0, guide.sketch, other)
        return estimate._replace(guide=guide._replace(sketch=sketch))

    def _drawn(self, variables: Variables, text: jax.Array, psi: jax.Array) -> jax.Array:
        """The sketch of a text [B, S, classes]."""
        assert self.sketch is not None
        drawn: Any = self.sketch.apply(variables["sketch"], text, psi)
        return drawn

    def guide_of(self, variables: Variables, image: jax.Array) -> Guide:
        """A guide that knows of nothing but psi [B, H, W, 3]: nothing drawn, a grey frame."""
        sketched = self.sketch is not None and "sketch" in variables
        nothing = jnp.zeros_like(image)
        return Guide(image, nothing if sketched else None, nothing if self.guide_frame else None)

    def read(
        self, variables: Variables, features: jax.Array, temperature: float = 1.0
    ) -> jax.Array:
        """The reading head's probabilities [B, slots, classes]."""
        logits = self.read_logits(variables, features)
        return self._head.probabilities(logits / temperature)

    def read_logits(self, variables: Variables, features: jax.Array) -> jax.Array:
        """The reading head's logits from the condition network's features; see `ReadingHead`."""
        logits: Any = self._head.apply(variables["reader"], features)
        return logits

    @property
    def _head(self) -> ReadingHead:
        if self.reader is None:
            raise ValueError("this model has no reading head")
        return self.reader

    def _see(self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None) -> Seen:
        seen: Any = self.condition.apply(variables["condition"], frames, mask, method="estimate")
        return Seen(*seen)

    def predict_noise(
        self, variables: Variables, guide: Guide, x_t: jax.Array, noise_level: jax.Array
    ) -> jax.Array:
        """The noise in x_t [B, H, W, 3] at noise_level [B], given the guide."""
        output = self.denoise(variables, guide, x_t, noise_level)
        return to_noise(self.prediction, output, x_t, noise_level)

    def predict_x0(
        self, variables: Variables, guide: Guide, x_t: jax.Array, noise_level: jax.Array
    ) -> jax.Array:
        """The scaled residual in x_t, clipped as `clip` says: [B, H, W, 3]."""
        output = self.denoise(variables, guide, x_t, noise_level)
        return self.clipped(to_x0(self.prediction, output, x_t, noise_level), guide.psi)

    def denoise(
        self,
        variables: Variables,
        guide: Guide,
        x_t: jax.Array,
        noise_level: jax.Array,
        train: bool = False,
    ) -> jax.Array:
        """The denoiser's output [B, H, W, 3]: what `prediction` says."""
        output: Any = self.denoiser.apply(
            variables["denoiser"], guide.stacked(), x_t, noise_level, train=train
        )
        return output

    def x0_denoiser(
        self, variables: Variables, guide: Guide
    ) -> tuple[Callable[..., jax.Array], Callable[[jax.Array], Any]]:
        """`predict_x0` for many steps: (`denoise_fn`, `prepare`) of `diffusion.samplers.sample`.

        What does not depend on x_t is computed here and in `prepare`, so once for all steps.
        """
        params = variables["denoiser"]["params"]
        hoisted = hoist(self.denoiser, params, guide.stacked())
        prepare = functools.partial(level_biases, self.denoiser, params)
        return self._denoise_fn(hoisted, guide), prepare

    def _denoise_fn(self, hoisted: Hoisted, guide: Guide) -> Callable[..., jax.Array]:
        def denoise(x_t: jax.Array, level: jax.Array, biases: dict[str, jax.Array]) -> jax.Array:
            output = apply_hoisted(self.denoiser, hoisted, x_t, biases)
            return self.clipped(to_x0(self.prediction, output, x_t, level), guide.psi)

        return denoise

    def draw(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: Sampler
    ) -> jax.Array:
        """Restored plates [B, H, W, 3], clipped to [-1, 1].

        Without a denoiser (while only psi is trained) psi is the result.

        Args:
          variables: the variables of all networks.
          estimate: what is known of the plates; only its guide is used.
          keys: the keys of the plates' noise, [B].
          how: the sampler, as `choose` gives it.
        """
        guide: Guide = estimate.guide
        if not self.draws_vary(variables):
            return jnp.clip(guide.psi, -1, 1)
        steps, noise = how.steps_of(self.schedule), noise_of(keys, guide.psi.shape[1:])
        denoise_fn, prepare = self.x0_denoiser(variables, guide)
        first = self.first(guide, noise(steps.count), steps)
        x_0 = sample(denoise_fn, first, noise, steps, prepare=prepare)
        return jnp.clip(self.compose(x_0, guide.psi), -1, 1)

    def first(self, guide: Guide, noise: jax.Array, steps: Steps) -> jax.Array:
        """The noisy residual [B, H, W, 3] that sampling begins with.

        Noise alone; where `Sampler.start` leaves room for more, what the sketch has drawn, too.
        """
        x = noise * steps.first_scale
        if guide.sketch is None or steps.first_scale == 1:
            return x
        return x + (1 - steps.first_scale**2) ** 0.5 * guide.sketch

    def count_steps(self, how: Sampler) -> int:
        """The number of steps of `draw`."""
        return how.steps_of(self.schedule).count

    def begin(
        self, variables: Variables, estimate: Estimate, keys: jax.Array, how: Sampler
    ) -> tuple[tuple[Hoisted, Row], Carry]:
        """`draw` before its first step, see `methods.base.DrawsInSteps`."""
        guide: Guide = estimate.guide
        params, steps = variables["denoiser"]["params"], how.steps_of(self.schedule)
        hoisted = hoist(self.denoiser, params, guide.stacked())
        table = table_of(steps, functools.partial(level_biases, self.denoiser, params))
        x = self.first(guide, noise_of(keys, guide.psi.shape[1:])(steps.count), steps)
        return (hoisted, table), (x, jnp.zeros_like(x))

    def step(
        self,
        estimate: Estimate,
        keys: jax.Array,
        how: Sampler,
        shared: tuple[Hoisted, Row],
        state: Carry,
        index: jax.Array,
    ) -> tuple[Carry, jax.Array]:
        """One step of `draw`; the plates after it are those of its estimate of x_0."""
        (hoisted, table), guide = shared, estimate.guide
        row = jax.tree.map(lambda values: values[index], table)
        noise = noise_of(keys, guide.psi.shape[1:])
        stochastic = how.steps_of(self.schedule).stochastic
        state = take_step(self._denoise_fn(hoisted, guide), noise, stochastic, state, row)
        # What the last step leads to is x itself.
        x_0 = jnp.where(index == 0, *state)
        return state, jnp.clip(self.compose(x_0, guide.psi), -1, 1)

    def draws_vary(self, variables: Variables) -> bool:
        """Whether there is a denoiser, which begins with noise."""
        return "denoiser" in variables

    def choose(
        self, defaults: Mapping[str, Any], *, sampler: Any = None, steps: int | None = None
    ) -> Sampler:
        """The sampler asked for, see `methods.sampling.choose_sampler`."""
        return choose_sampler(self.schedule, defaults, sampler, steps)

    def stages(self, config: Any, known: Sequence[str]) -> tuple[Stage, ...]:
        """The stages of a configuration, see `methods.lpdiff.stages`."""
        from lpdiff_jax.methods.lpdiff.stages import make_stages  # restoring needs none of it

        return make_stages(self, config, known)

    def exports(self, variables: Variables, how: Sampler, num_frames: int) -> list[Function]:
        """What can be exported, see `methods.lpdiff.exports`."""
        from lpdiff_jax.methods.lpdiff.exports import exported_functions

        return exported_functions(self, variables, how, num_frames)

    def clipped(self, x_0: jax.Array, psi: jax.Array) -> jax.Array:
        """Clips a scaled residual."""
        if self.clip == "residual":
            return jnp.clip(x_0, -1, 1)
        return self.residual(jnp.clip(self.compose(x_0, psi), -1, 1), psi)

    def residual(self, plate: jax.Array, psi: jax.Array) -> jax.Array:
        """x_0 of a plate, [B, H, W, 3] in [-1, 1]."""
        return (plate - psi) / self.residual_scale

    def compose(self, x_0: jax.Array, psi: jax.Array) -> jax.Array:
        """The plate that x_0 stands for, not clipped."""
        return psi + self.residual_scale * x_0


def build_model(config: Mapping[str, Any]) -> LPDiff:
    """Builds the method that a configuration's `model` section describes.

    Args:
      config: `image_size`, `prediction`, `residual_scale`, `clip`, `dtype`, and the sections
        `condition`, `denoiser` (fields of the modules) and `schedule` (arguments of
        `make_schedule`, or `betas`, a list); `reader` too where there is a reading head: its
        `charset`, `temperature`, `slope` (1 if not said), `readable` and the module's fields;
        `sketch`, the fields of its module; and `guide_frame`.

    Raises:
      UserError: a field that is missing, unknown or out of range.
    """
    with explained_section("model"):
        dtype = jnp.dtype(config["dtype"])
        return LPDiff(
            image_size=tuple(config["image_size"]),
            condition=ConditionNetwork(**frozen(config["condition"]), dtype=dtype),
            denoiser=UNet(**frozen(config["denoiser"]), dtype=dtype),
            schedule=build_schedule(config["schedule"]),
            prediction=config["prediction"],
            residual_scale=config["residual_scale"],
            clip=config["clip"],
            **_build_reader(config.get("reader"), dtype),
            sketch=_build_sketch(config.get("sketch"), dtype),
            guide_frame=config.get("guide_frame", False),
        )


def _build_reader(config: Mapping[str, Any] | None, dtype: Any) -> dict[str, Any]:
    """The fields of `LPDiff` that the section `reader` describes; no slots mean no reading head."""
    if not config or not config["slots"]:
        return {}
    spelling = {name: config[name] for name in ("charset", "temperature", "readable")}
    spelling["slope"] = config.get("slope", 1.0)
    fields = {name: value for name, value in config.items() if name not in spelling}
    slot_reader = SlotReader(**spelling)
    check_choice("reader.alignment", fields.get("alignment", "slots"), ALIGNMENTS)
    head = ReadingHead(classes=len(slot_reader.charset) + 1, dtype=dtype, **fields)
    return {"reader": head, "slot_reader": slot_reader}


def _build_sketch(config: Mapping[str, Any] | None, dtype: Any) -> Sketch | None:
    """The sketch that the section describes; no layers mean none."""
    if not config or not config["layers"]:
        return None
    if config["layers"] < 0 or config["features"] % config["heads"]:
        raise ValueError("sketch.layers is at least 0, sketch.features a multiple of sketch.heads")
    check_choice("sketch.text", config.get("text", TEXTS[0]), TEXTS)
    return Sketch(**frozen(config), dtype=dtype)
