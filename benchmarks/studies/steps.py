r"""How many steps does a restoration need? Quality and time by steps, sampler, spacing and start.

    python benchmarks/studies/steps.py --model runs/compact --data data/mdlp --output out/steps

Every setting restores the same plates with the same seeds (one per plate) from one psi of a model
with a diffusion. A setting is measured once: what `OUT/steps.json` holds already is not done again,
so a run that was stopped goes on. OUT also gets `steps.md`, a table, and `steps.svg`, the edit
similarity by steps. The time of a row is the sampler's alone, in milliseconds per plate, the median
over the batches.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path

import jax
import numpy as np

from data_pipeline.pipeline import decode_text, eval_batches
from data_pipeline.sources import open_source
from lpdiff_jax.compilation import enable_compilation_cache
from lpdiff_jax.diffusion.samplers import NAMES, Sampler
from lpdiff_jax.diffusion.schedule import SPACINGS
from lpdiff_jax.evaluation.judges import LPIPS_ALEX, READER, Judges, load_judges
from lpdiff_jax.evaluation.report.charts import line_chart, standalone
from lpdiff_jax.evaluation.report.summary import score_reading
from lpdiff_jax.images import to_float, to_uint8
from lpdiff_jax.restoring.restorer import Restorer

READ, NED = "acc_without_province", "ned_without_province"
STEPS = (1, 2, 4, 8, 10, 20, 50, 100, 1000)


def settings(args: argparse.Namespace, trained: int) -> list[Sampler]:
    """The grid; where a setting visits every trained level, all spacings are the same."""
    grid = []
    for steps, name, spacing, start in itertools.product(
        args.steps, args.sampler, args.spacing, args.start
    ):
        available = max(round(trained * start), 1)
        if steps <= available and (steps < available or spacing == args.spacing[0]):
            grid.append(Sampler(name, steps, spacing=spacing, start=start))
    return sorted(grid, key=lambda sampler: sampler.steps)


def load_plates(restorer: Restorer, args: argparse.Namespace) -> list[dict]:
    """Batches with what is known of the plates, their ground truth and texts."""
    source = open_source(args.data, args.split)
    batches = eval_batches(
        source, image_size=restorer.image_size, max_frames=args.max_frames, batch_size=args.batch
    )
    loaded = []
    for batch in itertools.islice(batches, math.ceil(args.plates / args.batch)):
        estimate = restorer.estimate(to_float(batch["frames"]), batch["frame_mask"])
        loaded.append(
            {
                "estimate": estimate,
                "target": batch["target"],
                "valid": batch["valid"],
                "seed": batch["index"] % 2**32,
                "texts": [decode_text(codes) for codes in batch["text"]],
            }
        )
    return loaded


def measure(restorer: Restorer, plates: list[dict], judges: Judges, sampler: Sampler) -> dict:
    """One line of the table."""
    images, seconds = [], []
    for batch in plates:
        restore = lambda b=batch: restorer.draw(b["estimate"], sampler=sampler, seed=b["seed"])  # noqa: E731
        if not seconds:
            jax.block_until_ready(restore())  # compiles
        start = time.perf_counter()
        restored = jax.block_until_ready(restore())
        seconds.append((time.perf_counter() - start) / len(batch["target"]))
        images.append(np.asarray(to_uint8(restored[:, 0])))
    row = {"ms": 1e3 * float(np.median(seconds))}
    return row | judge(images, plates, judges)


def judge(images: list[np.ndarray], plates: list[dict], judges: Judges) -> dict:
    """Means over the plates: every figure, and of those with a text how well they are read."""
    scores: dict[str, list[float]] = {}
    for restored, batch in zip(images, plates, strict=True):
        for name, figure in judges.figures.items():
            scores.setdefault(name, []).extend(figure(restored, batch["target"])[batch["valid"]])
        if judges.reader is None:
            continue
        readings = judges.reader.read(restored)
        for reading, text, valid in zip(readings, batch["texts"], batch["valid"], strict=True):
            if valid and text:
                for name, score in score_reading(reading.text, text).items():
                    scores.setdefault(name, []).append(score)
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    return means | {"plates": sum(int(batch["valid"].sum()) for batch in plates)}


def as_table(rows: list[dict]) -> str:
    """Markdown; `setting` fields first."""
    columns = [name for name in rows[0] if name != "plates"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [row.get(name, "") for name in columns]
        lines.append(
            "| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |"
        )
    return "\n".join(lines) + "\n"


def cheapest(rows: list[dict]) -> str:
    """The cheapest setting whose reading rate is within 1 % of the most steps' best."""
    if READ not in rows[0]:
        return "no reader or no texts: no default can be chosen"
    most = max(row["steps"] for row in rows)
    best = max(row[READ] for row in rows if row["steps"] == most)
    good = [row for row in rows if row[READ] >= best - 0.01]
    choice = min(good, key=lambda row: row["ms"])
    return f"{most} steps read {best:.3f}; the cheapest within 0.01 of it: {choice}"


def draw(rows: list[dict]) -> str:
    """The edit similarity by steps, a line for each sampler on its best spacing and start."""
    lines = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        by_steps = {
            steps: max(1 - row[NED] for row in own if row["steps"] == steps)
            for steps in sorted({row["steps"] for row in own})
        }
        lines[name] = [(math.log10(s), value, rows[0]["plates"]) for s, value in by_steps.items()]
    return standalone(line_chart("1 - NED by steps", "log10(steps)", lines, (0.0, 3.0)))


def main() -> None:
    """Measures the grid, one setting after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="MDLP tree or shards")
    parser.add_argument("--split", default="val")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plates", type=int, default=200)
    parser.add_argument("--max-frames", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--sampler", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--spacing", nargs="+", default=SPACINGS, choices=SPACINGS)
    parser.add_argument("--start", type=float, nargs="+", default=[1.0])
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"))
    args = parser.parse_args()
    enable_compilation_cache()
    args.output.mkdir(parents=True, exist_ok=True)
    record = args.output / "steps.json"
    rows = json.loads(record.read_text()) if record.exists() else []
    restorer = Restorer.load(args.model, dtype=args.dtype)
    judges = load_judges((READER, LPIPS_ALEX))
    for note in judges.missing:
        print(note)
    plates = load_plates(restorer, args)
    fields = ("name", "steps", "spacing", "start")
    done = {tuple(row[field] for field in fields) for row in rows}
    for sampler in settings(args, restorer.method.schedule.steps):
        setting = {field: getattr(sampler, field) for field in fields}
        if tuple(setting.values()) in done:
            continue
        rows.append(setting | measure(restorer, plates, judges, sampler))
        record.write_text(json.dumps(rows, indent=1) + "\n")
        print(rows[-1], flush=True)
    (args.output / "steps.md").write_text(as_table(rows))
    if NED in rows[0]:
        (args.output / "steps.svg").write_text(draw(rows))
    print(cheapest(rows))


if __name__ == "__main__":
    main()
