"""Evaluates a trained model: image metrics and reading, for every row of the table.

python eval.py --config configs/compact.py --workdir runs/compact [--data ROOT] [--split val]
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from lpdiff_jax import entry

entry.define_flags()
_DATA = flags.DEFINE_string("data", None, "MDLP tree or shards; default: the run's own.")
_SPLIT = flags.DEFINE_string("split", "val", "Split that is judged.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the report goes; default: WORKDIR/eval.")
_LIMIT = flags.DEFINE_integer("limit", None, "Judge the first so many plates only.")
_SAMPLES = flags.DEFINE_integer("samples", None, "Restored samples a plate, to be voted on.")
_STEPS = flags.DEFINE_integer("steps", None, "Steps of the sampler; default: the run's own.")
_WEIGHTS = flags.DEFINE_string("weights_dir", None, "Where `lpdiff fetch-weights` put its files.")


def main(config: ConfigDict, workdir: Path) -> None:
    """Evaluates and prints the table."""
    from data_pipeline.sources import open_source
    from lpdiff_jax.evaluation.evaluate import evaluate
    from lpdiff_jax.evaluation.reading import find_reader
    from lpdiff_jax.evaluation.report import format_table
    from lpdiff_jax.restorer import Restorer

    output = Path(_OUTPUT.value or workdir / "eval")
    report = evaluate(
        Restorer.load(workdir),
        open_source(_DATA.value or config.data.root or workdir / "data", _SPLIT.value),
        output,
        reader=find_reader(_WEIGHTS.value and Path(_WEIGHTS.value)),
        samples=_SAMPLES.value or config.eval.samples,
        steps=_STEPS.value,
        batch_size=config.eval.batch_size,
        max_frames=config.data.num_frames,
        limit=_LIMIT.value,
    )
    print(format_table(report))
    print(f"report and pictures: {output}")


if __name__ == "__main__":
    entry.run(main)
