r"""One restoration by each compared system, and by the same network in PyTorch, by turns.

    python -m benchmarks.speed.baselines --torch-python PATH/bin/python [--size compact] [--batch 1]

Prints a table: milliseconds of a batch on the clock and, because other work on the machine does not
count there, of the processor; medians over the turns. PyTorch's networks have as many parameters
as ours, which is checked; its chains have the same number of calls. Weights are random.
"""

import argparse
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from benchmarks.speed.train_step import Worker
from lpdiff_jax import benchmark
from lpdiff_jax.restoring.restorer import Restorer

FRAMES = 3
SYSTEMS = ("srcnn", "hat", "real_esrgan", "resdiff", "resshift")
# What PyTorch calls the modules of a method, by their fields there.
PARTS = {
    "srcnn": {"network": "srcnn"},
    "hat": {"network": "hat"},
    "real_esrgan": {"generator": "rrdb"},
    "resdiff": {"cnn": "cnn", "denoiser": "guided"},
    "resshift": {"denoiser": "swin"},
}


def start_torch(python: str, system: str, restorer: Restorer) -> Worker:
    """`torch_baselines.py` with the networks of a system, in its own interpreter."""
    networks = [
        {"name": name, **fields_of(getattr(restorer.method, part))}
        for part, name in PARTS[system].items()
    ]
    how = restorer.method.choose(restorer.defaults)
    settings = {
        "networks": networks,
        "image_size": restorer.image_size,
        "steps": benchmark.step_count(how),
    }
    return Worker(python, "torch_baselines.py", settings)


def fields_of(module: Any) -> dict[str, Any]:
    """The fields that PyTorch's module of the same network takes."""
    while hasattr(module, "network"):  # what stands around it has no arithmetic to speak of
        module = module.network
    left_out = {"parent", "name", "dtype", "out_channels", "splitter", "mask", "scale", "dropout"}
    return {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)
        if field.name not in left_out
    }


def compare(restorer: Restorer, worker: Worker, batch: int, turns: int) -> dict[str, float]:
    """Medians of the seconds of both sides; the first turn, which compiles, does not count."""
    frames = np.zeros((batch, FRAMES, *restorer.image_size, 3), np.float32)
    taken: dict[str, list[float]] = {name: [] for name in ("jax", "jax_cpu", "torch", "torch_cpu")}
    for _ in range(turns + 1):
        clock, processor = time.perf_counter(), time.process_time()
        jax.block_until_ready(restorer.restore(frames))
        taken["jax"].append(time.perf_counter() - clock)
        taken["jax_cpu"].append(time.process_time() - processor)
        answer = worker.ask({"batch": batch})
        taken["torch"].append(answer["seconds"])
        taken["torch_cpu"].append(answer["cpu"])
    return {name: float(np.median(seconds[1:])) for name, seconds in taken.items()}


def measure(system: str, args: argparse.Namespace) -> str:
    """A system's line of the table.

    Raises:
      RuntimeError: PyTorch's network is not the same.
    """
    argument = f":{args.size}" if args.size else ""
    restorer = benchmark.load(f"configs/baselines/{system}.py{argument}")
    worker = start_torch(args.torch_python, system, restorer)
    count = sum(x.size for x in jax.tree.leaves(restorer.variables))
    if worker.about["parameters"] != count:
        raise RuntimeError(f"{system}: {count} parameters, {worker.about} in PyTorch")
    found = compare(restorer, worker, args.batch, args.turns)
    worker.close()
    times = [f"{1e3 * found[name]:.0f}" for name in ("jax", "torch", "jax_cpu", "torch_cpu")]
    ratios = [f"{found[f'torch{c}'] / found[f'jax{c}']:.2f}" for c in ("", "_cpu")]
    calls = benchmark.step_count(restorer.method.choose(restorer.defaults))
    return f"| {' | '.join([system, f'{count:,}', str(calls), *times, *ratios])} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", required=True, help="an interpreter that has torch")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--size", default="compact", help="'' for the published size")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--turns", type=int, default=10)
    args = parser.parse_args()
    print("| system | parameters | calls | ours, ms | PyTorch, ms | ours, CPU ms | PyTorch, CPU ms "
          "| ratio | CPU ratio |\n|---" + "|---:" * 8 + "|")  # fmt: skip
    for system in args.systems:
        print(measure(system, args), flush=True)


if __name__ == "__main__":
    main()
