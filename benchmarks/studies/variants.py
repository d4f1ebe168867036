"""What `benchmarks/studies/study.py` compares: four tables of variants."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lpdiff_jax.evaluation.rows import READING_HEAD, RESTORED
from lpdiff_jax.models.condition import RELEASED

PSI = "psi"
NED, ACC = "ned_without_province", "acc_without_province"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One line of a table.

    Attributes:
      changes: the fields that differ from the base's configuration.
      stages: the stages that it trains; empty means all of the study's.
      after: the stage of the base whose networks it begins with; empty means fresh networks.
      adds: the stages whose training its last stage gets in addition.
    """

    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[str, ...] = ()
    after: str = ""
    adds: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """A table: variants that differ from the first of them, the base, in one thing each.

    Attributes:
      stages: the stages that the base trains.
      base: the fields of all variants, beside those of the networks' configuration.
      warmup: the warm-up of each stage, as a share of its steps.
      variants: the variants by name; the first is the base.
      costs: which costs are shown: 'parameters' (of psi), 'mflop' and 'steps' by stage, 'seconds'.
      figures: which figures are shown: (row, figure) of the evaluation.
      equal: what variants have in common, the 'steps' of a stage or its 'arithmetic'.
    """

    stages: tuple[str, ...]
    base: Mapping[str, Any]
    warmup: float
    variants: Mapping[str, Variant]
    costs: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    equal: str = "steps"


def _of_stages(stages: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    return {f"{stage}.{name}": value for stage in stages for name, value in fields.items()}


def _goes_on(**changes: Any) -> Variant:
    """A variant that does not touch psi, and begins with the base's."""
    fields = {name.replace("__", "."): value for name, value in changes.items()}
    return Variant(fields, ("diffusion",), after="psi")


_TWO = ("psi", "diffusion")
# Why the published recipe fails and ours does not: one published choice put back at a time.
RECIPE = Study(
    stages=_TWO,
    base={"model.sketch.layers": 0} | _of_stages(_TWO, learning_rate=1e-3, ema_decay=0.98),
    warmup=0.1,
    variants={
        "our recipe": Variant(),
        "psi without a loss of its own": Variant(
            {"diffusion.condition": "unsupervised"}, ("diffusion",), adds=("psi",)
        ),
        "one noise level per batch": _goes_on(diffusion__levels="shared"),
        "lr 5e-3, constant, no clipping": Variant(
            _of_stages(_TWO, learning_rate=5e-3, decay="none", warmup_steps=0, clip_norm=0.0)
        ),
        "lr 1e-4": Variant(_of_stages(_TWO, learning_rate=1e-4)),
        "residual in the image's unit": _goes_on(model__residual_scale=1.0),
        "residual in the image's unit, itself clipped": _goes_on(
            model__residual_scale=1.0, model__clip="residual"
        ),
        "linear betas, zero terminal SNR": _goes_on(model__schedule__name="linear"),
        "linear betas as published, some signal left at the end": _goes_on(
            model__schedule__name="linear", model__schedule__zero_terminal_snr=False
        ),
        "predicts the noise, not v": _goes_on(model__prediction="noise"),
    },
    costs=("steps",),
    figures=tuple((row, name) for row in (PSI, RESTORED) for name in ("psnr", "ssim", NED)),
)


def _condition(**fields: Any) -> Variant:
    return Variant({f"model.condition.{name}": value for name, value in fields.items()})


# psi by shape: the published condition network against the mended one.
CONDITION = Study(
    stages=("psi",),
    # By jit, so that BatchNorm sees the whole batch whatever the number of devices.
    base={"parallel": "jit", "eval.limit": 0}
    | _of_stages(("psi",), learning_rate=1e-3, ema_decay=0.99),
    warmup=0.05,
    variants={
        "mended": Variant(),
        "mended, no skips": _condition(skips="none"),
        "published": _condition(**RELEASED),
        "published, GroupNorm": _condition(
            **RELEASED | {"norm": "group", "frame_batching": "batched"}
        ),
    },
    costs=("parameters", "seconds"),
    figures=tuple((PSI, name) for name in ("psnr", "ssim", NED, ACC)),
)


def _psi(changes: Mapping[str, Any]) -> Variant:
    return Variant(changes, ("psi",))


def _diffusion(changes: Mapping[str, Any]) -> Variant:
    return Variant(changes, ("diffusion",), after="sketch")


_NARROW = {"model.condition.features": (16, 32, 48)}
# Which networks read best: one change at a time, at equal arithmetic in training.
ABLATION = Study(
    stages=("psi", "sketch", "diffusion"),
    base={"eval.limit": 0},
    warmup=0.1,
    variants={
        "base": Variant(),
        "psi half as wide": _psi(_NARROW),
        "psi half again as wide": _psi({"model.condition.features": (48, 96, 144)}),
        "psi with two blocks per stage": _psi({"model.condition.blocks": 2}),
        "psi with a block per frame": _psi({"model.condition.frame_blocks": 1}),
        "psi at full resolution": _psi(
            {
                "model.condition.patch": 1,
                "model.condition.features": (16, 32, 64, 96),
                "model.condition.strides": (1, 2, 2, 2),
            }
        ),
        "no reading head": _psi({"model.reader.slots": 0, "model.sketch.layers": 0}),
        "reading head, five times the weight": _psi({"psi.reading_weight": 1.0}),
        "psi half as wide, reading head by CTC": _psi(
            {**_NARROW, "model.reader.alignment": "ctc"}
        ),
        "denoiser sees psi alone": Variant(
            {"model.sketch.layers": 0}, ("diffusion",), after="psi", adds=("sketch",)
        ),
        "denoiser sees the mean frame, too": _diffusion({"model.guide_frame": True}),
        "predicts x0": _diffusion({"model.prediction": "x0"}),
        "predicts the noise, published end of the schedule": _diffusion(
            {
                "model.prediction": "noise",
                "model.schedule.name": "linear",
                "model.schedule.zero_terminal_snr": False,
            }
        ),
        "min-SNR weighting": _diffusion({"diffusion.weighting": "min_snr"}),
        "half the noise around psi": _diffusion({"model.residual_scale": 0.15}),
        "a quarter of the noise around psi": _diffusion({"model.residual_scale": 0.075}),
        "denoiser at full resolution": _diffusion(
            {
                "model.denoiser.patch": 1,
                "model.denoiser.features": 16,
                "model.denoiser.multipliers": (1, 2, 4, 6),
                "model.denoiser.attention_resolutions": (16,),
            }
        ),
    },
    costs=("mflop", "steps"),
    figures=((PSI, "psnr"), (PSI, NED), (READING_HEAD, NED), (READING_HEAD, ACC),
             (RESTORED, "psnr"), (RESTORED, NED), (RESTORED, ACC)),
    equal="arithmetic",
)  # fmt: skip

_STRAIGHT = {"model.condition.straightener": 24, "psi.place_weight": 3.0}
_FINE = {"model.condition.detail": 96}
# What helps the reading head with real plates: one change at a time, at equal arithmetic.
READING = Study(
    stages=("psi",),
    base=dict(_NARROW) | {"model.sketch.layers": 0, "psi.reading_weight": 1.0, "eval.limit": 0},
    warmup=0.05,
    variants={
        "base": Variant(),
        "finds the plate and straightens it": _psi(_STRAIGHT),
        "finer stages for the head": _psi(_FINE),
        "both": _psi(_STRAIGHT | _FINE),
        "twice the layers in the head": _psi({"model.reader.layers": 4}),
        "psi twice as wide": _psi({"model.condition.features": (32, 64, 96)}),
        "two blocks per stage": _psi({"model.condition.blocks": 2}),
        "64 x 128 pixels": _psi({"model.image_size": (64, 128)}),
        "straightened, by Muon": _psi(_STRAIGHT | {"psi.optimizer": "muon"}),
    },
    costs=("parameters", "mflop", "steps"),
    figures=((PSI, "psnr"), (READING_HEAD, NED), (READING_HEAD, ACC), (READING_HEAD, "acc")),
    equal="arithmetic",
)

STUDIES = {
    "recipe": RECIPE,
    "condition": CONDITION,
    "ablation": ABLATION,
    "reading": READING,
}
