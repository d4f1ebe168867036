"""Which choice matters? One change at a time, trained and judged alike.

    lpdiff synthesize runs/set --groups 2000 --val-groups 64 --seed 0
    python -m benchmarks.studies.study recipe --data runs/set --workdir runs/recipe --steps 300

The tables (`benchmarks/studies/variants.py`): `recipe`, the published choices of training;
`condition`, the published shape of psi; `ablation`, the networks at equal arithmetic, counted on
the lowered step; `reading`, what helps the head to read real plates, likewise. Every variant sees
the same examples in the same order, as far as its steps go, and has the same seed. What is done
already is not done again, so a study that was stopped goes on. A variant that diverges is a result,
too. WORKDIR gets a run for each variant and a JSON file of the table, which is printed at the end.
Edit distances need the reader (`lpdiff fetch-weights reader`).
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks.studies import small
from benchmarks.studies.variants import STUDIES, Study, Variant
from configs import compact
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.run import evaluate_run
from lpdiff_jax.methods import registry
from lpdiff_jax.parallel.devices import use_cores
from lpdiff_jax.training.flops import flops_per_example
from lpdiff_jax.training.loop import train

SIZES = {"small": small, "compact": compact}
# What a row depends on: another value needs another work directory.
SETTINGS = ("study", "size", "data", "steps", "batch_size", "seed")


def main() -> None:
    """Trains and judges every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", required=True, help="MDLP tree or shards, with labels")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small", help="the base's networks")
    parser.add_argument("--steps", type=int, default=300, help="steps of each stage of the base")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="a variant; may be repeated")
    args = parser.parse_args()
    study = STUDIES[args.study]
    if unknown := set(args.only or ()) - set(study.variants):
        parser.error(f"--only {', '.join(unknown)}: of {', '.join(study.variants)}")
    use_cores([args.batch_size])
    args.workdir.mkdir(parents=True, exist_ok=True)
    try:
        print(as_table(study, run(study, args)))
    except UserError as error:
        parser.error(str(error))


def run(study: Study, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measures what is not measured yet; the rows by variant, in the study's order."""
    record = args.workdir / f"{args.study}.json"
    settings = {name: getattr(args, name) for name in SETTINGS}
    rows = _recorded(record, settings)
    for name in _wanted(study, args.only):
        if name not in rows:
            rows[name] = measure(study, name, args)
            text = json.dumps({"settings": settings, "rows": rows}, indent=1)
            record.write_text(text + "\n")
    return {name: rows[name] for name in study.variants if name in rows}


def _recorded(record: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows that are done; raises UserError where they were measured with other settings."""
    if not record.exists():
        return {}
    found = json.loads(record.read_text())
    if found["settings"] != settings:
        raise UserError(
            f"{record}: measured with {found['settings']}; give the same, or another --workdir"
        )
    return found["rows"]


def _wanted(study: Study, only: list[str] | None) -> list[str]:
    """The variants that are asked for, in order, with the base where one of them follows it."""
    base = next(iter(study.variants))
    wanted = {*(only or study.variants)}
    if any(study.variants[name].after for name in wanted):
        wanted.add(base)
    return [name for name in study.variants if name in wanted]


def measure(study: Study, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Trains a variant; its costs, and its figures by row and name."""
    config = configure(study, name, args)
    workdir = directory(args, name)
    row: dict[str, Any] = {
        "parameters": parameters(config),
        "mflop": {stage: round(mflop(config, stage)) for stage in config.stages},
        "steps": {stage: config[stage].steps for stage in config.stages},
    }
    row |= train_or_diverge(config, workdir)
    if "failed" in row:
        return row
    rows = evaluate_run(config, workdir)["rows"]
    for part, figure in study.figures:
        if part in rows and figure in rows[part]["figures"]:
            row[f"{part}, {figure}"] = rows[part]["figures"][figure]["mean"]
    return row


def train_or_diverge(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains; the `seconds` that it took, and how it `failed` where numbers were not finite."""
    started, facts = time.perf_counter(), {}
    try:
        train(config, workdir)
    except UserError as error:
        if not list(workdir.glob("not-finite-*.json")):
            raise
        facts["failed"] = str(error)
    return facts | {"seconds": time.perf_counter() - started}


def configure(study: Study, name: str, args: argparse.Namespace) -> ConfigDict:
    """The configuration of a variant."""
    base, variant = make_base(study, args), study.variants[name]
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(dict(variant.changes))
    config.stages = variant.stages or study.stages
    if variant.stages:
        last = config.stages[-1]
        config[last].steps = steps_of(study, variant, base, config, last, args.steps)
    if variant.after:
        trained = directory(args, next(iter(study.variants))) / "checkpoints" / variant.after
        config.init = str(trained / str(args.steps))
    return config


def make_base(study: Study, args: argparse.Namespace) -> ConfigDict:
    """What every variant of a study changes one thing of."""
    config = SIZES[args.size].get_config()
    config.seed = args.seed
    config.data.root = args.data
    config.sheet_plates = 0
    for stage in study.stages:
        config[stage].update(
            steps=args.steps,
            batch_size=args.batch_size,
            warmup_steps=int(args.steps * study.warmup),
        )
    config.update_from_flattened_dict(dict(study.base))
    config.stages = study.stages
    return config


def steps_of(
    study: Study, variant: Variant, base: ConfigDict, config: ConfigDict, stage: str, steps: int
) -> int:
    """The steps that cost as much as the base's, in steps or in arithmetic."""
    paid = (stage, *variant.adds)
    if study.equal == "steps":
        return steps * len(paid)
    return round(steps * sum(mflop(base, name) for name in paid) / mflop(config, stage))


def directory(args: argparse.Namespace, name: str) -> Path:
    """A variant's work directory."""
    return args.workdir / "".join(c if c.isalnum() else "-" for c in name)


def parameters(config: ConfigDict) -> int:
    """The parameters of psi's network."""
    method = registry.build(config)
    shapes = jax.eval_shape(lambda key: method.init(key, ("condition",)), jax.random.key(0))
    return sum(x.size for x in jax.tree.leaves(shapes["condition"]["params"]))


def mflop(config: ConfigDict, name: str) -> float:
    """Floating-point operations of a stage's training step on one example, in 1e6."""
    method = registry.build(config)
    alone = config.copy_and_resolve_references()
    alone.stages = (name,)
    (stage,) = method.stages(alone, method.networks)
    return flops_per_example(method, stage, config[name], config.data.num_frames) / 1e6


def as_table(study: Study, rows: dict[str, dict[str, Any]]) -> str:
    """Markdown; a figure that a variant does not have stays empty."""
    columns = [*study.costs, *(f"{part}, {figure}" for part, figure in study.figures)]
    lines = ["| variant | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [_cell(row.get(column, "")) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    failed = [f"{name}: {row['failed']}" for name, row in rows.items() if "failed" in row]
    return "\n".join(lines + failed)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " / ".join(map(str, value.values()))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
