"""What `benchmarks/studies/table.py` compares: systems at compact size, and what they cost."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from configs import compact, pretrained
from configs.baselines import hat, real_esrgan, regression, resdiff, resshift, srcnn
from lpdiff_jax.methods import registry
from lpdiff_jax.training.flops import flops_per_example

Make = Callable[[], ConfigDict]
LPDIFF, UNET = "LP-Diff", "U-Net, regression"
# See one frame of a plate: the nearest.
SINGLE: Mapping[str, Make] = {
    "SRCNN": lambda: srcnn.get_config("compact"),
    "HAT": lambda: hat.get_config("compact"),
    "HAT-S": lambda: hat.get_config("small,compact"),
    "Real-ESRGAN": lambda: real_esrgan.get_config("compact"),
    "ResDiff": lambda: resdiff.get_config("compact"),
    "ResShift": lambda: resshift.get_config("compact"),
    "ResShift, 4 steps": lambda: resshift.get_config("4,compact"),
    "ResShift, latent": lambda: resshift.get_config("latent,compact"),
}


def _of_three_frames(make: Make) -> Make:
    def get() -> ConfigDict:
        config = make()
        config.model.update(frames="stacked", count=3)
        return config

    return get


SYSTEMS: dict[str, Make] = {
    **SINGLE,
    **{f"{name}, 3 frames": _of_three_frames(make) for name, make in SINGLE.items()},
    UNET: lambda: regression.get_config("compact"),
    LPDIFF: compact.get_config,
}
# The published table's, and the regression that it lacks.
DEFAULT = ("SRCNN", "HAT", "Real-ESRGAN", "ResDiff", "ResShift", UNET, LPDIFF)
# An average over more than this share of a training would hold its beginning.
_AVERAGED, _WARM_UP = 0.1, 0.1


def configure(
    name: str, *, pictures: str, validation: str, seed: int, batch_size: int, rate: float, most: int
) -> ConfigDict:
    """A system's compact configuration on the packaged model's data.

    Args:
      name: a name of `SYSTEMS`.
      pictures: as `configs.pretrained` takes it.
      validation: the data set that is validated on.
      seed: the run's seed.
      batch_size: the batch of every stage.
      rate: a factor on every learning rate.
      most: the most steps of a sampler.
    """
    config = SYSTEMS[name]()
    source = pretrained.get_config(pictures).data
    config.data.update(root=validation, sources=source.sources, augment=source.augment)
    config.seed, config.sheet_plates, config.validation_batches = seed, 0, 2
    for stage in config.stages:
        section = config[stage]
        section.batch_size, section.learning_rate = batch_size, section.learning_rate * rate
    if "sampler" in config:
        config.sampler.steps = min(config.sampler.steps, most)
    return config


def step_costs(config: ConfigDict) -> dict[str, float]:
    """TFLOP of a training step by stage: forward, backward and update of a whole batch."""
    method = registry.build(config)
    return {
        stage.name: flops_per_example(method, stage, config[stage.name], config.data.num_frames)
        * config[stage.name].batch_size
        / 1e12
        for stage in method.stages(config, ())
    }


def fit(config: ConfigDict, costs: Mapping[str, float], budget: float) -> None:
    """Changes the steps of all stages alike, so that they cost `budget` TFLOP together.

    What is counted in steps is shortened with them: the warm-up, the average, the intervals.
    """
    share = budget / training_cost(config, costs)
    for stage in config.stages:
        section = config[stage]
        section.steps = max(1, round(section.steps * share))
        section.warmup_steps = min(section.warmup_steps, int(_WARM_UP * section.steps))
        window = max(1.0, _AVERAGED * section.steps)
        section.ema_decay = min(section.ema_decay, 1 - 1 / window)
    longest = max(config[stage].steps for stage in config.stages)
    for name in ("checkpoint_every", "validate_every"):
        config[name] = min(config[name], max(1, longest // 4))
    config.log_every = min(config.log_every, config.checkpoint_every)


def training_cost(config: ConfigDict, costs: Mapping[str, float]) -> float:
    """TFLOP of the whole training."""
    return sum(costs[stage] * config[stage].steps for stage in config.stages)
