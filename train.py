"""Trains LP-Diff: `python train.py --config configs/X.py --workdir DIR [--config.a.b=c]`.

Resumes by itself when DIR holds a checkpoint, and ends with the evaluation. Several processes share
a run by --coordinator, --process-id and --process-count, or by themselves where a cluster tells.
"""

from pathlib import Path

from ml_collections import ConfigDict

from lpdiff_jax import entry


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates."""
    entry.join_processes()
    from lpdiff_jax.evaluation.run import evaluate_run
    from lpdiff_jax.training.loop import train
    from lpdiff_jax.training.parallel import is_main, use_cores

    sections = [config[name] for name in config.stages if name in config]
    use_cores(section.batch_size // max(section.accumulate, 1) for section in sections)
    train(config, workdir)
    if is_main():
        evaluate_run(config, workdir)


if __name__ == "__main__":
    entry.define_flags()
    entry.define_process_flags()
    entry.run(main)
