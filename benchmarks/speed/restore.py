r"""How fast plates are restored: this machine's limits, this program, and PyTorch beside it.

    python benchmarks/speed/restore.py --model configs/compact.py --batch 1 8 32 \
        --torch-python PATH/bin/python --json out.json

`--model` is a trained LP-Diff, or a configuration, whose untrained model is as fast. With
`--torch-python`, an interpreter that has torch, the same denoiser call and the same sampling from
psi run there too, eager and through `torch.compile`. They take turns with ours, so that other work
on the machine slows all of them alike; ratios are medians over the turns.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import time
from pathlib import Path

import jax
import numpy as np

from lpdiff_jax import benchmark
from lpdiff_jax.restoring.restorer import Restorer


class TorchWorker:
    """torch_worker.py, in its own interpreter."""

    def __init__(self, python: str, restorer: Restorer, steps: int, compiled: bool):
        unet = restorer.method.denoiser
        fields = {f.name: getattr(unet, f.name) for f in dataclasses.fields(unet) if f.init}
        wanted = ("features", "multipliers", "blocks", "norm_groups", "nominal_resolution",
                  "attention_resolutions", "patch")  # fmt: skip
        how = restorer.method.choose(restorer.defaults, steps=steps)
        visited = how.visited(restorer.method.schedule)
        script = Path(__file__).with_name("torch_worker.py")
        self._process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._ask(
            {
                "denoiser": {name: fields[name] for name in wanted},
                "image_size": restorer.image_size,
                "levels": visited.noise_levels[::-1].tolist(),
                "compile": compiled,
                "dtype": str(unet.dtype),
            }
        )

    def seconds(self, work: str, batch: int) -> float:
        """Does the work once."""
        return self._ask({"work": work, "batch": batch})["seconds"]

    def close(self) -> None:
        """Ends the interpreter."""
        self._process.communicate()

    def _ask(self, request: dict) -> dict:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def our_work(restorer: Restorer, batch: int, steps: int) -> dict:
    """Functions that do each kind of work once."""
    frames = np.zeros((batch, benchmark.FRAMES, *restorer.image_size, 3), np.float32)
    estimate = restorer.estimate(frames)
    x_t, level = frames[:, 0], np.full(batch, 0.7, np.float32)
    return {
        "call": lambda: jax.block_until_ready(restorer.denoise(estimate, x_t, level)),
        "sample": lambda: jax.block_until_ready(restorer.draw(estimate, steps=steps)),
    }


def compare(restorer: Restorer, workers: dict, batch: int, steps: int, turns: int) -> list[dict]:
    """Times each kind of work by turns; the first turn (compilation) does not count."""
    rows = []
    for work, ours in our_work(restorer, batch, steps).items():
        taken: dict[str, list[float]] = {name: [] for name in ("jax", *workers)}
        for _ in range(turns + 1):
            start = time.perf_counter()
            ours()
            taken["jax"].append(time.perf_counter() - start)
            for name, worker in workers.items():
                taken[name].append(worker.seconds(work, batch))
        row = {"work": work, "batch": batch, "steps": steps if work == "sample" else 1}
        for name, seconds in taken.items():
            row[f"{name}_ms"] = 1e3 * float(np.median(seconds[1:]))
            if name != "jax":
                ratios = np.divide(seconds[1:], taken["jax"][1:])
                row[f"{name}_over_jax"] = float(np.median(ratios))
        rows.append(row)
        print(
            "  ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
    return rows


def main() -> None:
    """Measures and prints; with --json also writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a model, or a configuration")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, nargs="+", help="default: the model's")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--torch-python", help="an interpreter that has torch")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    restorer = benchmark.load(args.model, args.dtype)
    machine = benchmark.measure_machine(("float32", np.dtype(restorer.method.dtype).name))
    result: dict = {
        "model": args.model,
        "machine": dataclasses.asdict(machine),
        "jax": jax.__version__,
    }
    print(result["machine"])
    result["rows"], result["beside_torch"] = [], []
    default = benchmark.step_count(restorer.method.choose(restorer.defaults))
    for steps in args.steps or [default]:
        workers = {}
        if args.torch_python:
            workers = {
                name: TorchWorker(args.torch_python, restorer, steps, name == "torch_compile")
                for name in ("torch_eager", "torch_compile")
            }
        for batch in args.batch:
            row = benchmark.measure(restorer, machine, batch, steps, args.turns)
            result["rows"].append(dataclasses.asdict(row))
            print(row)
            if workers:
                result["beside_torch"] += compare(restorer, workers, batch, steps, args.turns)
        for worker in workers.values():
            worker.close()
    # Kilobytes on Linux.
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    result["profile"] = benchmark.profile(restorer, args.batch[0], (args.steps or [None])[0])
    print("time by operation:", ", ".join(f"{n} {s:.1%}" for n, s in result["profile"][:8]))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
