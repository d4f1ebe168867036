r"""The denoiser's training step beside PyTorch's: time, compile time, peak memory.

    python -m benchmarks.speed.train_step --config compact --torch-python PATH/bin/python \
        --batch 1 4 16 --dtype float32 bfloat16 --json out.json

Each side runs in a process of its own and takes steps by turns, so that whatever else the machine
does hurts both alike. A step is a forward pass, a backward pass and an AdamW update on random
numbers; bfloat16 is bfloat16 compute with float32 parameters (`torch.autocast`). CPU seconds say
how much was computed where others share the machine. Ratios are PyTorch's median over ours: above
1 ours is faster.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

FIELDS = ("features", "multipliers", "blocks", "norm_groups", "nominal_resolution",
          "attention_resolutions", "patch")  # fmt: skip
HERE = Path(__file__).parent


class Worker:
    """A process that takes a training step for every line it is sent."""

    def __init__(
        self, python: str, script: str, settings: dict, environment: dict[str, str] | None = None
    ):
        self._process = subprocess.Popen(
            [python, str(HERE / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )
        self.about = self.ask(settings)

    def ask(self, request: dict) -> dict:
        """Sends a line, returns the line that answers it."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def compare(pythons: dict[str, str], settings: dict, turns: int) -> dict:
    """One batch size and precision: medians over the turns, of both sides."""
    workers = {
        name: Worker(python, f"{name}_train_worker.py", settings)
        for name, python in pythons.items()
    }
    answers: dict[str, list[dict]] = {name: [] for name in workers}
    for _ in range(turns + 1):
        for name, worker in workers.items():
            answers[name].append(worker.ask({}))
    row = {"batch": settings["batch"], "dtype": settings["dtype"]}
    for name, worker in workers.items():
        row[name] = worker.about | {"peak_gb": answers[name][-1]["peak_gb"]}
        for unit in ("seconds", "cpu_seconds"):
            # The first step still warms up.
            row[name][unit] = statistics.median(answer[unit] for answer in answers[name][1:])
        worker.close()
    if "torch" in row:
        row["ratio"] = row["torch"]["seconds"] / row["jax"]["seconds"]
        row["cpu_ratio"] = row["torch"]["cpu_seconds"] / row["jax"]["cpu_seconds"]
    return row


def denoiser_settings(name: str) -> dict:
    """The denoiser's fields and the image size of a configuration."""
    model = importlib.import_module(f"configs.{name}").get_config().model
    fields = model.denoiser.to_dict()
    return {
        "denoiser": {name: fields[name] for name in FIELDS},
        "image_size": tuple(model.image_size),
    }


def markdown(row: dict) -> str:
    """A row of a table."""
    sides = [row[name] for name in ("jax", "torch") if name in row]
    cells = [row["batch"], row["dtype"]]
    cells += [f"{side['seconds']:.2f} ({side['cpu_seconds']:.2f})" for side in sides]
    cells += [f"{row[k]:.2f}" for k in ("ratio", "cpu_ratio") if k in row]
    cells += [f"{row['jax']['compile_seconds']:.0f}"]
    cells += [f"{side['peak_gb']:.1f}" for side in sides]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Measures every batch size in every precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="compact")
    parser.add_argument("--torch-python", help="an interpreter with torch; without it ours alone")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    pythons = {"jax": sys.executable}
    if args.torch_python:
        pythons["torch"] = args.torch_python
    settings = denoiser_settings(args.config)
    rows = []
    print("batch | dtype | s a step (CPU s): jax | torch | ratio | CPU ratio | compile s | GB")
    for dtype in args.dtype:
        for batch in args.batch:
            rows.append(compare(pythons, settings | {"batch": batch, "dtype": dtype}, args.turns))
            print(markdown(rows[-1]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
