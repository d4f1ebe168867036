"""The whole model: condition network, denoiser and diffusion process, as one frozen description."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.diffusion.objective import PREDICTIONS, to_noise, to_x0
from lpdiff_jax.diffusion.schedule import NoiseSchedule, make_schedule
from lpdiff_jax.errors import UserError, check_choice
from lpdiff_jax.models.condition import ConditionNetwork
from lpdiff_jax.models.hoisting import apply_hoisted, hoist, level_biases
from lpdiff_jax.models.layers import masked_mean
from lpdiff_jax.models.reading_head import ALIGNMENTS, ReadingHead
from lpdiff_jax.models.sketch import Sketch
from lpdiff_jax.models.unet import UNet

# In the order in which they are computed.
NETWORKS = ("condition", "reader", "sketch", "denoiser")

# {'condition': {'params', 'batch_stats'}, 'reader': {'params'}, ...} by the names of NETWORKS. Not
# every model has a reader or a sketch; the last ones are missing while those before are trained.
Variables = dict[str, Any]


class Estimate(NamedTuple):
    """What is known of a batch of plates before the diffusion.

    Attributes:
      psi: [B, H, W, 3], the condition network's first estimate, not clipped.
      slots: [B, S, C], the reading head's probabilities; None in a model that has none.
      guide: [B, H, W, 3, 6 or 9], what the denoiser is conditioned on: psi, behind it the sketch
        of the residual and the mean frame, where the model has one or shows the other.
    """

    psi: jax.Array
    slots: jax.Array | None
    guide: jax.Array


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
      sketch: what draws the residual of the reading head's text for the denoiser, or None.
      guide_frame: whether the denoiser is shown the mean of the frames, too.
      charset: the characters that it reads: of class 1, 2, ...
      temperature: what its logits are divided by, so that its confidence is right.
      slope: of a plate's confidence in log-odds, likewise.
      readable: confidence from which on a plate is called readable.
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
    charset: str = ""
    temperature: float = 1.0
    slope: float = 1.0
    readable: float = 0.95

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

    def with_dtype(self, dtype: str) -> "LPDiff":
        """The same model, computing in another precision."""
        return dataclasses.replace(
            self,
            condition=self.condition.clone(dtype=jnp.dtype(dtype)),
            denoiser=self.denoiser.clone(dtype=jnp.dtype(dtype)),
            reader=self.reader and self.reader.clone(dtype=jnp.dtype(dtype)),
            sketch=self.sketch and self.sketch.clone(dtype=jnp.dtype(dtype)),
        )

    def init(self, key: jax.Array, *, networks: tuple[str, ...] = NETWORKS) -> Variables:
        """Fresh variables of those networks that the model has; jit this."""
        frames = jnp.zeros((1, 3, *self.image_size, 3))
        image, level = frames[:, 0], jnp.ones((1,))
        variables: Variables = {"condition": self.condition.init(key, frames)}
        _, features = self._estimate(variables, frames)
        if self.reader is not None:
            variables["reader"] = self.reader.init(key, features)
        if self.sketch is not None and "sketch" in networks:
            slots = self.read(variables, features)
            variables["sketch"] = self.sketch.init(key, slots, image)
        if "denoiser" in networks:
            guide = self.guide(variables, image, features, frames)
            variables["denoiser"] = self.denoiser.init(key, guide, image, level)
        return variables

    def psi(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> jax.Array:
        """The first estimate [B, H, W, 3] from frames [B, N, H, W, 3], mask [B, N]."""
        return self._estimate(variables, frames, mask)[0]

    def estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Estimate:
        """All that is known of the plates before the diffusion."""
        psi, features = self._estimate(variables, frames, mask)
        slots = None
        if self.reader is not None:
            slots = self.read(variables, features, self.temperature)
        return Estimate(psi, slots, self.guide(variables, psi, features, frames, mask))

    def guide(
        self,
        variables: Variables,
        psi: jax.Array,
        features: Any,
        frames: jax.Array,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """What the denoiser is conditioned on; see `Estimate.guide`.

        Args:
          variables: without those of a sketch (while only psi is trained) there is none in it.
          psi: [B, H, W, 3].
          features: [B, h, w, C], the condition network's.
          frames: [B, N, H, W, 3].
          mask: [B, N] bool; None means that all frames are real.

        Returns:
          [B, H, W, 3, 6 or 9].
        """
        parts: list[Any] = [psi]
        if self.sketch is not None and "sketch" in variables:
            # Not divided by the temperature, which is fitted after training.
            slots = self.read(variables, features)
            parts.append(self.sketch.apply(variables["sketch"], slots, psi))
        if self.guide_frame:
            real = jnp.ones(frames.shape[:2], bool) if mask is None else mask
            parts.append(masked_mean(frames, real))
        return jnp.concatenate(parts, axis=-1) if len(parts) > 1 else psi

    def guide_channels(self, variables: Variables) -> int:
        """Channels of the guide: psi's three, those of the sketch, those of the mean frame."""
        sketched = self.sketch is not None and "sketch" in variables
        return 3 * (1 + sketched + self.guide_frame)

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

    def _estimate(
        self, variables: Variables, frames: jax.Array, mask: jax.Array | None = None
    ) -> Any:
        return self.condition.apply(variables["condition"], frames, mask, method="estimate")

    def predict_noise(
        self, variables: Variables, guide: jax.Array, x_t: jax.Array, noise_level: jax.Array
    ) -> jax.Array:
        """The noise in x_t [B, H, W, 3] at noise_level [B], given the guide [B, H, W, C]."""
        output: Any = self.denoiser.apply(variables["denoiser"], guide, x_t, noise_level)
        return to_noise(self.prediction, output, x_t, noise_level)

    def predict_x0(
        self, variables: Variables, guide: jax.Array, x_t: jax.Array, noise_level: jax.Array
    ) -> jax.Array:
        """The scaled residual in x_t, clipped as `clip` says: [B, H, W, 3]."""
        output: Any = self.denoiser.apply(variables["denoiser"], guide, x_t, noise_level)
        return self.clipped(to_x0(self.prediction, output, x_t, noise_level), psi_of(guide))

    def x0_denoiser(
        self, variables: Variables, guide: jax.Array
    ) -> tuple[Callable[..., jax.Array], Callable[[jax.Array], Any]]:
        """`predict_x0` for many steps: (`denoise_fn`, `prepare`) of `diffusion.samplers.sample`.

        What does not depend on x_t is computed here and in `prepare`, so once for all steps.
        """
        params = variables["denoiser"]["params"]
        hoisted = hoist(self.denoiser, params, guide)

        def denoise(x_t: jax.Array, level: jax.Array, biases: dict[str, jax.Array]) -> jax.Array:
            output = apply_hoisted(self.denoiser, hoisted, x_t, biases)
            return self.clipped(to_x0(self.prediction, output, x_t, level), psi_of(guide))

        return denoise, functools.partial(level_biases, self.denoiser, params)

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


def psi_of(guide: jax.Array) -> jax.Array:
    """psi [B, H, W, 3], the first channels of a guide [B, H, W, C]."""
    return guide[..., :3]


def sketch_of(guide: jax.Array) -> jax.Array:
    """The sketch of the scaled residual [B, H, W, 3], behind psi in a guide with one."""
    return guide[..., 3:6]


def build_model(config: Mapping[str, Any]) -> LPDiff:
    """Builds the model that a configuration's `model` section describes.

    Args:
      config: `image_size`, `prediction`, `residual_scale`, `clip`, `dtype`, and the sections
        `condition`, `denoiser` (fields of the modules) and `schedule` (arguments of
        `make_schedule`, or `betas`, a list); `reader` too where there is a reading head: its
        `charset`, `temperature`, `slope` (1 if not said), `readable` and the module's fields;
        `sketch`, the fields of its module; and `guide_frame`.

    Raises:
      UserError: a field that is missing, unknown or out of range.
    """
    try:
        dtype = jnp.dtype(config["dtype"])
        return LPDiff(
            image_size=tuple(config["image_size"]),
            condition=ConditionNetwork(**_frozen(config["condition"]), dtype=dtype),
            denoiser=UNet(**_frozen(config["denoiser"]), dtype=dtype),
            schedule=build_schedule(config["schedule"]),
            prediction=config["prediction"],
            residual_scale=config["residual_scale"],
            clip=config["clip"],
            **_build_reader(config.get("reader"), dtype),
            sketch=_build_sketch(config.get("sketch"), dtype),
            guide_frame=config.get("guide_frame", False),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"the configuration's section `model` does not fit: {error}") from error


def _build_reader(config: Mapping[str, Any] | None, dtype: Any) -> dict[str, Any]:
    """The fields of `LPDiff` that the section `reader` describes; no slots mean no reading head."""
    if not config or not config["slots"]:
        return {}
    use = {name: config[name] for name in ("charset", "temperature", "readable")}
    use["slope"] = config.get("slope", 1.0)
    fields = {name: value for name, value in config.items() if name not in use}
    charset = use["charset"]
    if len(set(charset)) != len(charset) or not charset:
        raise ValueError("reader.charset is empty or names a character twice")
    check_choice("reader.alignment", fields.get("alignment", "slots"), ALIGNMENTS)
    head = ReadingHead(classes=len(charset) + 1, dtype=dtype, **fields)
    return {"reader": head, **use}


def _build_sketch(config: Mapping[str, Any] | None, dtype: Any) -> Sketch | None:
    """The sketch that the section describes; no layers mean none."""
    if not config or not config["layers"]:
        return None
    if config["layers"] < 0 or config["features"] % config["heads"]:
        raise ValueError("sketch.layers is at least 0, sketch.features a multiple of sketch.heads")
    return Sketch(**_frozen(config), dtype=dtype)


def build_schedule(config: Mapping[str, Any]) -> NoiseSchedule:
    """A schedule from `betas` themselves, or from the arguments of `make_schedule`."""
    if config.get("betas") is not None:
        return NoiseSchedule(np.asarray(config["betas"], np.float64))
    return make_schedule(**{name: value for name, value in config.items() if name != "betas"})


def _frozen(section: Mapping[str, Any]) -> dict[str, Any]:
    """Module fields must be hashable: lists, as JSON gives them, become tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in section.items()
    }
