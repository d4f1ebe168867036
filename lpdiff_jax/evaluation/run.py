"""The evaluation of a training run, as train.py ends with it and eval.py repeats it."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.files import local_path
from data_pipeline.sources import open_source
from lpdiff_jax.evaluation.data_checks import group_problems, seen_in_training
from lpdiff_jax.evaluation.evaluate import Options, evaluate
from lpdiff_jax.evaluation.judges import READER, Judges, load_judges
from lpdiff_jax.evaluation.report.tables import Report, format_table
from lpdiff_jax.parallel import processes
from lpdiff_jax.restoring.restorer import Restorer

NO_MODEL = "none"


def evaluate_run(
    config: ConfigDict,
    workdir: Path,
    *,
    model: str | None = None,
    data: str | Path | None = None,
    split: str = "val",
    output: str | Path | None = None,
    judges: Judges | None = None,
    together: bool = False,
    **options: Any,
) -> Report:
    """Evaluates a run's newest model, writes the report and prints the table.

    Args:
      config: the run's configuration.
      workdir: the run's directory.
      model: what `Restorer.load` takes; "none" gives the rows without a model; None takes workdir.
      data: an MDLP tree or shards; None takes the run's own data.
      split: the split that is judged.
      output: where the report goes; None means `workdir/eval`.
      judges: the judges; None takes PSNR, SSIM and the reader.
      together: whether all processes have called this, see `evaluate`.
      **options: fields of `evaluate.Options` that replace the configuration's.

    Raises:
      UserError: no model, or no plate that can be judged.
      DataError: the data cannot be opened.
    """
    output = local_path(output or workdir / "eval")
    trained_on = local_path(config.data.root or workdir / "data")
    root = local_path(data or trained_on)
    chosen = {"max_frames": config.data.num_frames} | config.eval.to_dict() | options
    report = evaluate(
        None if model == NO_MODEL else Restorer.load(model or workdir),
        open_source(root, split),
        output,
        judges=judges or load_judges((READER,)),
        options=Options(**chosen),
        notes=seen_in_training(root, split, trained_on),
        problems=group_problems(root, split),
        together=together,
    )
    if not together or processes.is_main():
        print(format_table(report))
        if config.get("note"):
            print(f"note: {config.note}")
        print(f"report and pictures: {output}")
    return report
