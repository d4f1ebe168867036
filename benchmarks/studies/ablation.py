"""Which networks read best? One change at a time, at equal arithmetic in training.

    lpdiff synthesize runs/set --groups 8000 --val-groups 200 --seed 0
    python -m benchmarks.studies.ablation --data runs/set --workdir runs/ablation --steps 600

The base is `benchmarks/studies/small.py`, `--steps` in each of its three stages. A variant of
psi trains its stage psi for as many floating-point operations as the base's; a variant of what
follows goes on from the base's psi and sketch, its diffusion at the base's arithmetic.
Operations are counted on the lowered step. Same examples, same order, as far as the steps go. What
is done already is not done again, so a run that was stopped goes on. Prints a table, and writes it
as JSON. To begin with less of the trained noise needs no training of its own:
`benchmarks/studies/steps.py --start`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks.studies import small
from benchmarks.studies.recipe import directory
from lpdiff_jax.evaluation.rows import PSI, READING_HEAD, RESTORED
from lpdiff_jax.evaluation.run import evaluate_run
from lpdiff_jax.methods.lpdiff.model import build_model
from lpdiff_jax.methods.lpdiff.stages import make_stage
from lpdiff_jax.parallel.devices import use_cores
from lpdiff_jax.training.flops import flops_per_example
from lpdiff_jax.training.loop import train

BASE, PSI_ALONE = "base", "denoiser sees psi alone"
PSI_VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {},
    "psi half as wide": {"model.condition.features": (16, 32, 48)},
    "psi half again as wide": {"model.condition.features": (48, 96, 144)},
    "psi with two blocks a stage": {"model.condition.blocks": 2},
    "psi with a block a frame": {"model.condition.frame_blocks": 1},
    "psi at full resolution": {
        "model.condition.patch": 1,
        "model.condition.features": (16, 32, 64, 96),
        "model.condition.strides": (1, 2, 2, 2),
    },
    "no reading head": {"model.reader.slots": 0, "model.sketch.layers": 0},
    "reading head, five times the weight": {"psi.reading_weight": 1.0},
    "psi half as wide, reading head by CTC": {
        "model.condition.features": (16, 32, 48),
        "model.reader.alignment": "ctc",
    },
}
DIFFUSION_VARIANTS: dict[str, dict[str, Any]] = {
    PSI_ALONE: {"model.sketch.layers": 0},
    "denoiser sees the mean frame, too": {"model.guide_frame": True},
    "predicts x0": {"model.prediction": "x0"},
    "predicts the noise, published end of the schedule": {
        "model.prediction": "noise",
        "model.schedule.name": "linear",
        "model.schedule.zero_terminal_snr": False,
    },
    "min-SNR weighting": {"diffusion.weighting": "min_snr"},
    "half the noise around psi": {"model.residual_scale": 0.15},
    "a quarter of the noise around psi": {"model.residual_scale": 0.075},
    "denoiser at full resolution": {
        "model.denoiser.patch": 1,
        "model.denoiser.features": 16,
        "model.denoiser.multipliers": (1, 2, 4, 6),
        "model.denoiser.attention_resolutions": (16,),
    },
}
VARIANTS = PSI_VARIANTS | DIFFUSION_VARIANTS
FIGURES = ((PSI, "psnr"), (PSI, "ned_without_province"), (READING_HEAD, "ned_without_province"),
           (READING_HEAD, "acc_without_province"), (RESTORED, "psnr"),
           (RESTORED, "ned_without_province"), (RESTORED, "acc_without_province"))  # fmt: skip


def main() -> None:
    """Trains and judges every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MDLP tree or shards")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--only", choices=VARIANTS, action="append")
    args = parser.parse_args()
    use_cores([args.batch_size])
    args.workdir.mkdir(parents=True, exist_ok=True)
    record = args.workdir / "ablation.json"
    rows = json.loads(record.read_text()) if record.exists() else {}
    for name in args.only or VARIANTS:
        if name not in rows:
            rows[name] = measure(name, args)
            record.write_text(json.dumps(rows, indent=1) + "\n")
    print(as_table(rows))


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Trains a variant; its cost and its figures, by row and name."""
    config = configure(name, args)
    workdir = directory(args, name)
    train(config, workdir)
    rows = evaluate_run(config, workdir)["rows"]
    stage = config.stages[-1]
    row: dict[str, Any] = {
        "mflop": mflop(config, "psi" if name in PSI_VARIANTS else stage),
        "steps": config[stage].steps,
    }
    for part, figure in FIGURES:
        if part in rows and figure in rows[part]["figures"]:
            row[f"{part}, {figure}"] = rows[part]["figures"][figure]["mean"]
    return row


def configure(name: str, args: argparse.Namespace) -> ConfigDict:
    """The configuration of a variant, with its steps at equal arithmetic."""
    config = base(args)
    if name == BASE:
        return config
    stage = "psi" if name in PSI_VARIANTS else "diffusion"
    budget = args.steps * mflop(config, stage)
    if name == PSI_ALONE:  # has the sketch's share for its diffusion
        budget += args.steps * mflop(config, "sketch")
    config.update_from_flattened_dict(VARIANTS[name])
    config.stages = (stage,)
    if stage == "diffusion":
        before = "psi" if name == PSI_ALONE else "sketch"
        config.init = str(directory(args, BASE) / "checkpoints" / before / str(args.steps))
    config[stage].steps = round(budget / mflop(config, stage))
    return config


def base(args: argparse.Namespace) -> ConfigDict:
    """What every variant changes one thing of."""
    config = small.get_config()
    config.data.root = args.data
    for stage in (config.psi, config.sketch, config.diffusion):
        stage.update(steps=args.steps, batch_size=args.batch_size, warmup_steps=args.steps // 10)
    config.eval.limit = 0
    return config


def mflop(config: ConfigDict, stage: str) -> float:
    """Floating-point operations of a training step on one example, in 1e6."""
    model = build_model(config.model)
    built = make_stage(stage, model, config)
    return flops_per_example(model, built, config[stage], config.data.num_frames) / 1e6


def as_table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown; a figure that a variant does not have stays empty."""
    columns = ["mflop", "steps", *(f"{part}, {figure}" for part, figure in FIGURES)]
    lines = ["| variant | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[key]:.4g}" if key in row else "" for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
