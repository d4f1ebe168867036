"""Trains LP-Diff: `python train.py --config configs/X.py --workdir DIR [--config.a.b=c]`.

Resumes by itself when DIR holds a checkpoint, and ends with the evaluation.
"""

from pathlib import Path

from ml_collections import ConfigDict

from lpdiff_jax import entry


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates."""
    from lpdiff_jax.evaluation.run import evaluate_run
    from lpdiff_jax.training.loop import train

    train(config, workdir)
    evaluate_run(config, workdir)


if __name__ == "__main__":
    entry.define_flags()
    entry.run(main)
