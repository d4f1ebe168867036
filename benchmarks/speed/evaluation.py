"""Real plates made into groups for an evaluation, and how fast an evaluation is.

    python benchmarks/speed/evaluation.py degrade PLATES OUT [--preset real-like] [--limit N]
    python benchmarks/speed/evaluation.py speed DATA [--groups 100]

`degrade` photographs pictures of real plates (PLATES/*.jpg, PLATES/labels.json) with the synthetic
camera from afar, three times each; the picture itself is the ground truth. `speed` judges DATA
without a model, and reports wall-clock and processor time per group. On a machine that does other
work too, the latter over the number of cores is the time that it would take alone.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.images import read_image
from data_pipeline.sources import open_source
from data_pipeline.synthetic.camera import draw
from data_pipeline.synthetic.degradation import take
from data_pipeline.synthetic.presets import PRESETS
from lpdiff_jax.evaluation.evaluate import Options, evaluate
from lpdiff_jax.evaluation.judges import READER, load_judges
from lpdiff_jax.evaluation.report.tables import format_table
from lpdiff_jax.restoring.sheets import write_image

# A blue plate's size in millimetres, (H, W): what the camera takes one pixel for.
_PLATE = (140, 440)


def degrade(plates: Path, out: Path, preset: str, limit: int) -> None:
    """Writes MDLP's layout below `out`/val, with labels.json; seeded by the plates' order."""
    labels = json.loads((plates / "labels.json").read_text(encoding="utf-8"))
    names = sorted(labels)[: limit or len(labels)]
    for number, name in enumerate(names):
        picture = read_image(next(plates.glob(f"{name}.*")))
        frames = far_frames(picture, preset, np.random.default_rng([0, number]))
        folder = out / "val/inputs" / name
        folder.mkdir(parents=True)
        for k, frame in enumerate(frames):
            write_image(folder / f"img_{k}.png", frame)
        target = out / "val/gt" / name / f"img_{len(frames)}.png"
        target.parent.mkdir(parents=True)
        write_image(target, picture)
    kept = {name: labels[name] for name in names}
    (out / "labels.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1))


def far_frames(picture: np.ndarray, preset: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Three far views of a picture of a plate, uint8 RGB [h, w, 3]."""
    height, width = _PLATE
    plate = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    opaque = np.full((height, width, 1), 255, np.uint8)
    # The picture has bolts of its own.
    model = draw(PRESETS[preset], rng)
    return take(np.concatenate([plate, opaque], axis=2), (), model, 3, rng).frames


def speed(data: Path, groups: int) -> None:
    """Prints the table and what it took."""
    source = open_source(data, "val")
    judges = load_judges((READER,))
    with tempfile.TemporaryDirectory() as out:
        # Once for compilation and the first touch of the weights.
        evaluate(None, source, out, judges=judges, options=Options(limit=16, max_frames=3))
        wall, processor = time.perf_counter(), time.process_time()
        options = Options(limit=groups, max_frames=3)
        report = evaluate(None, source, out, judges=judges, options=options)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    count = report["plates"]
    print(format_table(report))
    print(f"{count} groups: {1e3 * wall / count:.0f} ms per group on the wall clock, "
          f"{1e3 * processor / count:.0f} ms of processor time")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    degrading = commands.add_parser("degrade")
    degrading.add_argument("plates", type=Path)
    degrading.add_argument("out", type=Path)
    degrading.add_argument("--preset", default="real-like", choices=sorted(PRESETS))
    degrading.add_argument("--limit", type=int, default=0)
    timing = commands.add_parser("speed")
    timing.add_argument("data", type=Path)
    timing.add_argument("--groups", type=int, default=100)
    args = parser.parse_args()
    if args.command == "degrade":
        degrade(args.plates, args.out, args.preset, args.limit)
    else:
        speed(args.data, args.groups)


if __name__ == "__main__":
    main()
