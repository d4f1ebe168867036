r"""A training step on the CPU with each allocator, by turns in one run; `lpdiff_jax.allocator`.

    python -m benchmarks.speed.allocator --config compact --batch 4 --turns 7

Every allocator has a process of its own, and all step by turns, so that whatever else the machine
does hurts all alike. Printed are medians, and each one's speed as a multiple of glibc's.
"""

import argparse
import os
import statistics
import sys

from benchmarks.speed.train_step import Worker, denoiser_settings
from lpdiff_jax import allocator


def main() -> None:
    """Measures one network and batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="compact")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    settings = denoiser_settings(args.config) | {"batch": args.batch, "dtype": args.dtype}
    workers = {}
    for name in ("off", "large-pages", "tcmalloc"):
        change = allocator.setting(os.environ | {allocator.VARIABLE: name})
        if change or name == "off":
            workers[name] = Worker(sys.executable, "jax_train_worker.py", settings, change)
    answers: dict[str, list[dict]] = {name: [] for name in workers}
    for _ in range(args.turns + 1):
        for name, worker in workers.items():
            answers[name].append(worker.ask({}))
    middle = lambda name, unit: statistics.median(a[unit] for a in answers[name][1:])  # noqa: E731
    print("| allocator | s a step | CPU s | times as fast | by CPU time | peak GB |")
    print("|---|---|---|---|---|---|")
    for name, worker in workers.items():
        seconds, cpu = middle(name, "seconds"), middle(name, "cpu_seconds")
        faster = middle("off", "seconds") / seconds, middle("off", "cpu_seconds") / cpu
        peak = answers[name][-1]["peak_gb"]
        cells = f"{seconds:.3f} | {cpu:.3f} | {faster[0]:.2f} | {faster[1]:.2f} | {peak:.2f}"
        print(f"| {name} | {cells} |")
        worker.close()


if __name__ == "__main__":
    main()
