"""The evaluation of a training run, as train.py ends with it and eval.py repeats it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.files import local_path, write_whole
from data_pipeline.sources import open_source
from lpdiff_jax import __version__
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.data_checks import group_problems, seen_in_training
from lpdiff_jax.evaluation.evaluate import Options, evaluate
from lpdiff_jax.evaluation.judges import READER, Judges, load_judges
from lpdiff_jax.evaluation.report.overview import format_overview, format_overview_markdown
from lpdiff_jax.evaluation.report.tables import Report, format_table
from lpdiff_jax.parallel import processes
from lpdiff_jax.restoring.provenance import digest_of
from lpdiff_jax.restoring.restorer import Restorer

NO_MODEL = "none"


def evaluate_run(
    config: ConfigDict,
    workdir: Path,
    *,
    model: str | Restorer | None = None,
    data: str | Path | None = None,
    split: str = "val",
    output: str | Path | None = None,
    judges: Judges | None = None,
    together: bool = False,
    resume: bool = False,
    **options: Any,
) -> Report:
    """Evaluates a run's newest model, writes the report and prints the table.

    Args:
      config: the run's configuration.
      workdir: the run's directory.
      model: a restorer, or what `Restorer.load` takes; "none" gives the rows without a model; None
        takes workdir.
      data: an MDLP tree or shards; None takes the run's own data.
      split: the split that is judged.
      output: where the report goes; None means `workdir/eval`.
      judges: the judges; None takes PSNR, SSIM and the reader.
      together: whether all processes have called this, see `evaluate`.
      resume: go on with an evaluation of the same that was interrupted; `judges` are None then.
      **options: fields of `evaluate.Options` that replace the configuration's.

    Raises:
      UserError: no model, or no plate that can be judged.
      DataError: the data cannot be opened.
    """
    output = local_path(output or workdir / "eval")
    trained_on = local_path(config.data.root or workdir / "data")
    root = local_path(data or trained_on)
    chosen = {"max_frames": config.data.num_frames} | config.eval.to_dict() | options
    chosen_judges = judges or load_judges((READER,))
    restorer = load_model(workdir, model)
    report = evaluate(
        restorer,
        open_source(root, split),
        output,
        judges=chosen_judges,
        identity=_identity(config, restorer, chosen_judges) if resume and restorer else None,
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


def evaluate_sets(
    config: ConfigDict,
    workdir: Path,
    sets: Mapping[str, str],
    *,
    model: str | None = None,
    output: str | Path | None = None,
    together: bool = False,
    **options: Any,
) -> dict[str, Report]:
    """Evaluates one model on several sets of plates: a report of each, and a table of all.

    The reports go to `output/NAME`, the table to `output/overview.md`.

    Args:
      config: the run's configuration.
      workdir: the run's directory.
      sets: the name of each set -> an MDLP tree or shards.
      model: as in `evaluate_run`.
      output: where the reports go; None means `workdir/eval`.
      together: as in `evaluate_run`.
      **options: as in `evaluate_run`.

    Raises:
      UserError: no model, or no plate that can be judged.
      DataError: a set cannot be opened.
    """
    for root in sets.values():
        open_source(local_path(root), options.get("split", "val"))  # before hours go into others
    output = local_path(output or workdir / "eval")
    restorer = load_model(workdir, model) or NO_MODEL
    reports = {}
    for name, root in sets.items():
        print(f"\n{name}: {root}", flush=True)
        reports[name] = evaluate_run(
            config,
            workdir,
            model=restorer,
            data=root,
            output=output / name,
            together=together,
            **options,
        )
    if not together or processes.is_main():
        write_whole(output / "overview.md", format_overview_markdown(reports))
        print(f"\nread right, without the province:\n{format_overview(reports)}")
    return reports


def load_model(workdir: Path, model: str | Restorer | None) -> Restorer | None:
    """The model that `evaluate_run` is told of; None without one."""
    if model == NO_MODEL:
        return None
    return Restorer.load(model or workdir) if model is None or isinstance(model, str) else model


def is_named(arguments: Sequence[str]) -> bool:
    """Whether the first argument is NAME=ROOT, and not a folder with '=' in its name."""
    return any("=" in argument and not local_path(argument).exists() for argument in arguments[:1])


def parse_sets(arguments: Sequence[str]) -> dict[str, str]:
    """Reads NAME=ROOT, or ROOT, which is called as its folder is.

    Raises:
      UserError: a name that cannot be a folder's, or two sets of one name.
    """
    sets: dict[str, str] = {}
    for argument in arguments:
        name, separator, root = argument.partition("=")
        if not separator:
            name, root = local_path(argument).name, argument
        if not name or "/" in name or name.startswith("."):
            raise UserError(f"--data {argument!r}: expected NAME=ROOT, and a name without '/'")
        if name in sets:
            raise UserError(f"--data {argument!r}: there are two sets called {name!r}; write NAME=")
        sets[name] = root
    return sets


def _identity(config: ConfigDict, restorer: Restorer, judges: Judges) -> str:
    """What an evaluation depends on beside its data and options."""
    parts = (__version__, digest_of(restorer), *judges.missing)
    return "\n".join((*parts, config.to_json_best_effort(sort_keys=True)))
