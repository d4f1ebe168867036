"""psi by shape: the published condition network against the mended one, at equal steps.

    lpdiff synthesize runs/set --groups 8000 --val-groups 200 --seed 0 --workers 2
    python -m benchmarks.studies.condition --data runs/set --workdir runs/condition --steps 2000

Each variant is trained alone (stage psi, same data, same order, same recipe) and judged on the
validation split: PSNR, SSIM and, where the reader's weights are, reading. Prints a table.
"""

import argparse
import json
import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from benchmarks.studies import small
from configs import compact
from lpdiff_jax.evaluation.run import evaluate_run
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.models.condition import RELEASED
from lpdiff_jax.training.loop import train

SIZES = {"compact": compact, "small": small}
# Fields of the condition network that differ from the configuration's.
VARIANTS = {
    "published": RELEASED,
    "published, GroupNorm": RELEASED | {"norm": "group", "frame_batching": "batched"},
    "mended, no skips": {"skips": "none"},
    "mended": {},
}
FIGURES = ("psnr", "ssim", "ned_without_province", "acc_without_province")


def main() -> None:
    """Trains and judges every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="compact", help="of the mended psi")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--data", required=True, help="MDLP tree or shards")
    parser.add_argument("--only", choices=VARIANTS, action="append")
    args = parser.parse_args()
    rows = {name: _measure(name, args) for name in args.only or VARIANTS}
    print(json.dumps(rows, indent=1))
    print(_table(rows))


def _measure(name: str, args: argparse.Namespace) -> dict[str, float]:
    config = _config(VARIANTS[name], args)
    workdir = args.workdir / name.replace(" ", "-").replace(",", "")
    parameters = _count(config)
    started = time.perf_counter()
    train(config, workdir)
    seconds = time.perf_counter() - started
    figures = evaluate_run(config, workdir)["rows"]["psi"]["figures"]
    return {"parameters": parameters, "seconds": seconds} | {
        key: figures[key]["mean"] for key in FIGURES if key in figures
    }


def _config(fields: dict, args: argparse.Namespace) -> ConfigDict:
    config = SIZES[args.size].get_config()
    config.model.condition.update(fields)
    config.stages = ("psi",)
    config.data.root = args.data
    config.psi.update(
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=1e-3,
        warmup_steps=args.steps // 20,
        ema_decay=0.99,
    )
    config.eval.limit = 0
    return config


def _count(config: ConfigDict) -> int:
    model = build_model(config.model)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(shapes["condition"]["params"]))


def _table(rows: dict[str, dict[str, float]]) -> str:
    lines = [
        "| psi | parameters | " + " | ".join(FIGURES) + " |",
        "|---" * (2 + len(FIGURES)) + "|",
    ]
    for name, row in rows.items():
        cells = (f"{row[key]:.3f}" if key in row else "-" for key in FIGURES)
        lines.append(f"| {name} | {row['parameters']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
