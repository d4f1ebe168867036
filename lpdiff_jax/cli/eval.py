"""Evaluates a trained model: image metrics and reading, for every row of the table.

lpdiff eval --config compact --workdir runs/compact [--data [NAME=]ROOT]... [--split val]
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from data_pipeline.files import local_path
from lpdiff_jax.cli import scripts

HELP = "evaluate a trained model: image metrics and reading, with intervals, as a report"


def main(argv: Sequence[str]) -> None:
    """Parses the flags and evaluates; exits as `scripts.run` says."""
    scripts.define_flags()
    scripts.define_process_flags()
    _define_flags()
    scripts.run(evaluate_and_print, argv)


# Flags that name one file or folder; --data names several, which the evaluation looks for.
_PLACES = ("model", "output", "reader", "charset", "weights_dir")


def _define_flags() -> None:
    flags.DEFINE_multi_string(
        "data", [], "[NAME=]ROOT: MDLP tree or shards; repeatable; default: the run's own."
    )
    flags.DEFINE_string(
        "model", None, "A model directory, a ..._gen.pth, or none (no model); default: WORKDIR."
    )
    flags.DEFINE_string("split", "val", "The split that is judged.")
    flags.DEFINE_string("output", None, "Where the report goes; default: WORKDIR/eval.")
    flags.DEFINE_integer(
        "limit", None, "Judge this number of plates; default: config.eval.limit (0: all)."
    )
    flags.DEFINE_integer("samples", None, "Restored samples per plate, to be voted on.")
    flags.DEFINE_integer("steps", None, "Steps of the sampler; default: the run's own.")
    flags.DEFINE_multi_integer("sweep", [], "A number of frames to compare; repeatable.")
    flags.DEFINE_multi_string(
        "compare", [], "NAME=DIR: a folder of another method's plates, DIR/<group>.png; repeatable."
    )
    flags.DEFINE_list(
        "judges", ["reader", "lpips-alex", "fid"], "The judges: reader, lpips-alex, lpips-vgg, fid."
    )
    flags.DEFINE_string("reader", None, "Your own recogniser in ONNX, with --charset.")
    flags.DEFINE_string(
        "charset", None, "The charset of --reader: a text file, one class per line."
    )
    flags.DEFINE_bool("masked", True, "Let the reader choose only among plate characters.")
    flags.DEFINE_string("weights_dir", None, "Where `lpdiff fetch-weights` put its files.")


def evaluate_and_print(config: ConfigDict, workdir: Path) -> None:
    """Evaluates and prints the table."""
    scripts.join_processes()
    from lpdiff_jax.evaluation.judges import choose_judges
    from lpdiff_jax.evaluation.other_methods import Folder
    from lpdiff_jax.evaluation.run import evaluate_run, evaluate_sets, is_named, parse_sets
    from lpdiff_jax.parallel.platform import require_platform

    require_platform()

    given = flags.FLAGS.flag_values_dict()
    places = {name: str(local_path(given[name])) for name in _PLACES if given[name] is not None}
    given |= places
    chosen = {name: given[name] for name in ("limit", "samples", "steps")}
    common = {
        "model": given["model"],
        "split": given["split"],
        "output": given["output"],
        "judges": choose_judges(
            given["judges"],
            given["weights_dir"],
            given["reader"],
            given["charset"],
            given["masked"],
        ),
        "together": True,
        "sweep": tuple(given["sweep"]),
        "compare": tuple(map(Folder.parse, given["compare"])),
        **{name: value for name, value in chosen.items() if value is not None},
    }
    sets = given["data"]
    if len(sets) > 1 or is_named(sets):
        evaluate_sets(config, workdir, parse_sets(sets), **common)
    else:
        evaluate_run(config, workdir, data=sets[0] if sets else None, **common)
