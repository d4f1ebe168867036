"""What the configurations of the compared systems share: their options, and the compact size."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from configs.common import get_config, get_optimisation

PAPER_SIZE, COMPACT_SIZE = (112, 224), (48, 96)


def read(text: str, allowed: Sequence[str]) -> frozenset[str]:
    """The options in a configuration's argument, which commas part.

    Raises:
      ValueError: an option that this system does not have.
    """
    options = frozenset(text.replace(" ", "").split(",")) - {""}
    if unknown := options - set(allowed):
        raise ValueError(
            f"{', '.join(sorted(unknown))}: no such option; allowed: {', '.join(allowed)}"
        )
    return options


def base(method: str, stages: tuple[str, ...], compact: bool) -> ConfigDict:
    """The fields that all of these systems have; `model` is for them to fill."""
    config = get_config()
    config.method = method
    config.stages = stages
    config.model = ConfigDict(
        {
            # Height and width; every image is resized to it.
            "image_size": COMPACT_SIZE if compact else PAPER_SIZE,
            # Precision of the computation; parameters, norms and losses are float32.
            "dtype": "float32",
            # What a system for single images sees: the 'nearest' frame, the 'mean', or several
            # frames 'stacked' in channels, the nearest one last.
            "frames": "nearest",
            # Frames that are stacked: the nearest ones.
            "count": 3,
        }
    )
    config.eval.batch_size = 32 if compact else 16
    return config


def published(**fields: object) -> ConfigDict:
    """A stage optimised by plain Adam: no decay of weights, no clipping, no warm-up."""
    stage = get_optimisation()
    stage.update(weight_decay=0.0, clip_norm=0.0, warmup_steps=0, decay="none")
    with stage.unlocked():
        stage.update(fields)
    return stage


def compact_stage(stage: ConfigDict, steps: int) -> None:
    """Changes a stage to what all systems have at compact size: one recipe, its number of steps."""
    with stage.unlocked():
        stage.update(
            steps=steps,
            batch_size=32,
            learning_rate=3e-4,
            warmup_steps=500,
            decay="cosine",
            weight_decay=1e-4,
            clip_norm=1.0,
            ema_decay=0.999,
        )
        stage.final_learning_rate = 0.0
