"""Trains LP-Diff: `python train.py --config configs/X.py --workdir DIR [--config.a.b=c]`.

Resumes by itself when DIR holds a checkpoint, and ends with the evaluation. Several processes share
a run by --coordinator, --process-id and --process-count, or by themselves where a cluster tells.
"""

from pathlib import Path

from ml_collections import ConfigDict

from lpdiff_jax.cli import scripts


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates."""
    scripts.join_processes()
    from lpdiff_jax.evaluation.run import evaluate_run
    from lpdiff_jax.parallel.devices import use_cores
    from lpdiff_jax.parallel.processes import is_main
    from lpdiff_jax.training.loop import train

    sections = [config[name] for name in config.stages if name in config]
    use_cores(section.batch_size // max(section.accumulate, 1) for section in sections)
    train(config, workdir)
    if is_main():
        evaluate_run(config, workdir)


if __name__ == "__main__":
    scripts.define_flags()
    scripts.define_process_flags()
    scripts.run(main)
