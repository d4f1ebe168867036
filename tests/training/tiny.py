"""A configuration small enough to train in seconds, and train.py as a command."""

import os
import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict

from configs import quickstart

ROOT = Path(__file__).parents[2]

# As `--config.field=value`, so that the command line and the tests train the same thing.
TINY = {
    "data.num_frames": 2,
    "model.image_size": (8, 16),
    "model.condition.features": (8,),
    "model.condition.strides": (1,),
    "model.condition.blocks": 0,
    "model.condition.norm_groups": 2,
    "model.condition.heads": 2,
    "model.reader.features": 8,
    "model.reader.heads": 2,
    "model.sketch.layers": 0,
    "model.sketch.features": 8,
    "model.sketch.heads": 2,
    "model.denoiser.features": 8,
    "model.denoiser.multipliers": (1,),
    "model.denoiser.norm_groups": 2,
    "model.denoiser.attention_resolutions": (),
    "model.schedule.steps": 50,
    "stages": ("psi", "diffusion"),
    "psi.steps": 6,
    "psi.batch_size": 8,
    "sketch.steps": 6,
    "sketch.batch_size": 8,
    "diffusion.steps": 6,
    "diffusion.batch_size": 8,
    "psi.warmup_steps": 2,
    "sketch.warmup_steps": 2,
    "diffusion.warmup_steps": 2,
    "log_every": 2,
    "checkpoint_every": 3,
    "validate_every": 3,
    "eval.limit": 2,
    "eval.batch_size": 2,
    "sampler.steps": 2,
    "sheet_plates": 2,
    "validation_batches": 2,
}


def tiny_config(root: Path | str = "", **overrides) -> ConfigDict:
    """The quickstart's configuration at 8 x 16, a few steps a stage; `a.b=c` by dict unpacking."""
    config = quickstart.get_config()
    with config.unlocked():
        config.update_from_flattened_dict(TINY | {"data.root": str(root)} | overrides)
    return config


def command(workdir: Path, root: Path | str, *flags: str, **overrides) -> list[str]:
    """The command line that trains the tiny configuration."""
    fields = TINY | {"data.root": str(root)} | overrides
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    return [
        sys.executable,
        str(ROOT / "train.py"),
        f"--config={ROOT / 'configs/quickstart.py'}",
        f"--workdir={workdir}",
        *words,
        *flags,
    ]


def environment(devices: int = 1) -> dict[str, str]:
    """The environment of a training process with so many CPU devices."""
    return os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}


def run(words: list[str], devices: int = 1) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end from the repository's root."""
    return subprocess.run(
        words, env=environment(devices), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
