"""Trains a method: `lpdiff train --config compact --workdir DIR [--config.a.b=c]`.

The configuration is a file, or the name of one that comes with the package. It resumes by itself
when DIR holds a checkpoint, and ends with the evaluation. Several processes share a run by
--coordinator, --process-id and --process-count, or by themselves where a cluster tells.
"""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from lpdiff_jax.cli import scripts

HELP = "train a method by a configuration; resumes, and ends with the evaluation"


def main(argv: Sequence[str]) -> None:
    """Parses the flags, trains and evaluates; exits as `scripts.run` says."""
    scripts.define_flags()
    scripts.define_process_flags()
    scripts.run(train_and_evaluate, argv)


def train_and_evaluate(config: ConfigDict, workdir: Path) -> None:
    """Trains, then evaluates, in all processes."""
    scripts.join_processes()
    from lpdiff_jax.evaluation.run import evaluate_run
    from lpdiff_jax.parallel.devices import use_cores
    from lpdiff_jax.parallel.platform import require_platform
    from lpdiff_jax.training.loop import train

    sections = [config[name] for name in config.stages if name in config]
    use_cores(section.batch_size // max(section.accumulate, 1) for section in sections)
    require_platform()  # which starts the backend: the number of devices is settled now
    train(config, workdir)
    evaluate_run(config, workdir, together=True, resume=True)
