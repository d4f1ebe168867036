"""Evaluates a trained model: image metrics and reading, for every row of the table.

python eval.py --config configs/compact.py --workdir runs/compact [--data ROOT] [--split val]
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from lpdiff_jax.cli import scripts

scripts.define_flags()
scripts.define_process_flags()
_DATA = flags.DEFINE_string("data", None, "MDLP tree or shards; default: the run's own.")
_MODEL = flags.DEFINE_string(
    "model", None, "Default: WORKDIR; or a model directory, a ..._gen.pth, or none (no model)."
)
_SPLIT = flags.DEFINE_string("split", "val", "Split that is judged.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the report goes; default: WORKDIR/eval.")
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Judge the first so many plates; default: config.eval.limit (0: all)."
)
_SAMPLES = flags.DEFINE_integer("samples", None, "Restored samples a plate, to be voted on.")
_STEPS = flags.DEFINE_integer("steps", None, "Steps of the sampler; default: the run's own.")
_SWEEP = flags.DEFINE_multi_integer("sweep", [], "A number of frames to compare; repeatable.")
_COMPARE = flags.DEFINE_multi_string(
    "compare", [], "NAME=DIR: a folder of another method's plates, DIR/<group>.png; repeatable."
)
_JUDGES = flags.DEFINE_list(
    "judges", ["reader", "lpips-alex", "fid"], "Of reader, lpips-alex, lpips-vgg, fid."
)
_READER = flags.DEFINE_string("reader", None, "Your own recogniser in ONNX, with --charset.")
_CHARSET = flags.DEFINE_string("charset", None, "Its charset: a text file, a class a line.")
_MASKED = flags.DEFINE_bool("masked", True, "Let the reader choose of plate characters alone.")
_WEIGHTS = flags.DEFINE_string("weights_dir", None, "Where `lpdiff fetch-weights` put its files.")


def main(config: ConfigDict, workdir: Path) -> None:
    """Evaluates and prints the table."""
    scripts.join_processes()
    from lpdiff_jax.evaluation.judges import choose_judges
    from lpdiff_jax.evaluation.other_methods import Folder
    from lpdiff_jax.evaluation.run import evaluate_run

    chosen = {"limit": _LIMIT.value, "samples": _SAMPLES.value, "steps": _STEPS.value}
    evaluate_run(
        config,
        workdir,
        model=_MODEL.value,
        data=_DATA.value,
        split=_SPLIT.value,
        output=_OUTPUT.value,
        judges=choose_judges(
            _JUDGES.value, _WEIGHTS.value, _READER.value, _CHARSET.value, _MASKED.value
        ),
        together=True,
        sweep=tuple(_SWEEP.value),
        compare=tuple(map(Folder.parse, _COMPARE.value)),
        **{name: value for name, value in chosen.items() if value is not None},
    )


if __name__ == "__main__":
    scripts.run(main)
