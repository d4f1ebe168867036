"""Trains a configuration once for each value of one field, one after the other, for comparison.

    python benchmarks/studies/sweep.py --config configs/quickstart.py --workdir runs/sweep \
        --field psi.learning_rate --values 3e-4 1e-3 3e-3 -- --config.tracker=wandb

What follows `--` goes to every training. A run that is there is gone on with, or is done already.
TensorBoard (`--logdir runs/sweep`) or W&B lays the curves side by side.
"""

import argparse
import subprocess
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("config", "workdir", "field"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--values", nargs="+", required=True)
    parser.add_argument("rest", nargs="*", help="after --: for every training")
    args = parser.parse_args()
    for value in args.values:
        run = ["--config", args.config, "--workdir", f"{args.workdir}/{args.field}={value}"]
        train = [sys.executable, "-m", "lpdiff_jax", "train", *run]
        subprocess.run([*train, f"--config.{args.field}={value}", *args.rest], check=True)


if __name__ == "__main__":
    main()
