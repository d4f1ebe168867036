"""Why the published recipe fails and ours does not: one choice at a time, at equal steps.

    lpdiff synthesize runs/set --groups 2000 --val-groups 64 --seed 0
    python -m benchmarks.studies.recipe --data runs/set --workdir runs/recipe --steps 300

Every variant trains the same networks on the same examples in the same order: the whole recipe, and
the whole recipe with one published choice put back. psi and diffusion have `--steps` each; a
variant without a psi stage gets both for its one stage. Variants that do not touch psi go on from
the same trained psi. Prints PSNR, SSIM and NED (without the province, where the reader is there)
of psi and of the restored plate on the validation split, and writes them as JSON.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks.studies import small
from configs import compact
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.run import evaluate_run
from lpdiff_jax.training.loop import train

# Fields that differ from the whole recipe's.
OURS = "our recipe"
VARIANTS: dict[str, dict[str, Any]] = {
    OURS: {},
    "psi without a loss of its own": {
        "stages": ("diffusion",),
        "diffusion.condition": "unsupervised",
    },
    "one noise level a batch": {"diffusion.levels": "shared"},
    "lr 5e-3, constant, no clipping": {
        f"{stage}.{name}": value
        for stage in ("psi", "diffusion")
        for name, value in (
            ("learning_rate", 5e-3),
            ("decay", "none"),
            ("warmup_steps", 0),
            ("clip_norm", 0.0),
        )
    },
    "lr 1e-4": {"psi.learning_rate": 1e-4, "diffusion.learning_rate": 1e-4},
    "residual in the image's unit": {"model.residual_scale": 1.0},
    "residual in the image's unit, itself clipped": {
        "model.residual_scale": 1.0,
        "model.clip": "residual",
    },
    "linear betas, zero terminal SNR": {"model.schedule.name": "linear"},
    "linear betas as published, some signal left at the end": {
        "model.schedule.name": "linear",
        "model.schedule.zero_terminal_snr": False,
    },
    "predicts the noise, not v": {"model.prediction": "noise"},
}
FIGURES = ("psnr", "ssim", "ned_without_province")
SIZES = {"small": small, "compact": compact}


def main() -> None:
    """Trains and judges every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MDLP tree or shards")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", choices=VARIANTS, action="append")
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in args.only or VARIANTS:
        rows[name] = _measure(name, args)
        print(_line(name, rows[name]), flush=True)
        (args.workdir / "recipe.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join([_HEAD, *(_line(name, row) for name, row in rows.items())]))


def configure(name: str, args: argparse.Namespace) -> ConfigDict:
    """The configuration of a variant."""
    config = SIZES[args.size].get_config()
    config.data.root = args.data
    config.model.sketch.layers = 0
    config.stages = ("psi", "diffusion")
    for stage in (config.psi, config.diffusion):
        stage.update(
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=1e-3,
            warmup_steps=args.steps // 10,
            ema_decay=0.98,
        )
    config.sheet_plates = 0
    changes = VARIANTS[name]
    config.update_from_flattened_dict(changes)
    if "psi" not in config.stages:
        config.diffusion.steps = 2 * args.steps
    elif name != OURS and not any(field.startswith("psi.") for field in changes):
        config.stages = ("diffusion",)
        config.init = str(directory(args, OURS) / "checkpoints" / "psi" / str(args.steps))
    return config


def directory(args: argparse.Namespace, name: str) -> Path:
    """A variant's work directory."""
    return args.workdir / "".join(c if c.isalnum() else "-" for c in name)


def _measure(name: str, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    config = configure(name, args)
    workdir = directory(args, name)
    started = time.perf_counter()
    try:
        train(config, workdir)
        rows = evaluate_run(config, workdir)["rows"]
    except UserError as error:  # a recipe that diverges is a result, too
        return {"failed": {"error": str(error)}}  # type: ignore[dict-item]
    found = {
        row: {
            key: rows[row]["figures"][key]["mean"] for key in FIGURES if key in rows[row]["figures"]
        }
        for row in ("psi", "restored")
    }
    return found | {"time": {"seconds": time.perf_counter() - started}}


_HEAD = (
    "| recipe | psi PSNR | SSIM | NED | restored PSNR | SSIM | NED |\n|---|---|---|---|---|---|---|"
)


def _line(name: str, row: dict[str, dict[str, float]]) -> str:
    if "failed" in row:
        return f"| {name} | {row['failed']['error']} | | | | | |"
    cells = [
        f"{row[part][key]:.3f}" if key in row[part] else ""
        for part in ("psi", "restored")
        for key in FIGURES
    ]
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
