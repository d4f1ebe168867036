"""The evaluation of a training run, as train.py ends with it and eval.py repeats it."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.sources import open_source
from lpdiff_jax.evaluation.evaluate import evaluate
from lpdiff_jax.evaluation.reading import find_reader
from lpdiff_jax.evaluation.report import Report, format_table
from lpdiff_jax.restorer import Restorer


def evaluate_run(
    config: ConfigDict,
    workdir: Path,
    *,
    data: str | Path | None = None,
    split: str = "val",
    output: Path | None = None,
    weights_dir: Path | None = None,
    **options: Any,
) -> Report:
    """Evaluates a run's newest model, writes the report and prints the table.

    Args:
      config: the run's configuration.
      workdir: its directory.
      data: MDLP tree or shards; default: the run's own.
      split: the split that is judged.
      output: where the report goes; default: `workdir/eval`.
      weights_dir: where `lpdiff fetch-weights` put its files; default: the user's cache.
      **options: arguments of `evaluate` that replace the configuration's.

    Raises:
      UserError: no model, or no plate that can be judged.
      DataError: the data cannot be opened.
    """
    output = output or workdir / "eval"
    report = evaluate(
        Restorer.load(workdir),
        open_source(data or config.data.root or workdir / "data", split),
        output,
        reader=find_reader(weights_dir),
        max_frames=config.data.num_frames,
        **config.eval.to_dict() | options,
    )
    print(format_table(report))
    print(f"report and pictures: {output}")
    return report
