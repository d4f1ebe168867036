"""What opening a work directory takes: seconds, and bytes read, beside what its checkpoint holds.

    python -m benchmarks.speed.loading compact lpdiff

Each configuration's last stage is saved once, untrained, by the training's own code (in a temporary
folder: `lpdiff` writes 1.5 GB), and then opened by `Restorer.load` in a fresh process.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from lpdiff_jax.methods import registry
from lpdiff_jax.storage.checkpoint import Checkpointer, Record, stage_directory
from lpdiff_jax.storage.config import FILE_NAME, save_config
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.state import create_state, init_variables, to_items, with_helpers

LOAD = """
import sys, time
from lpdiff_jax import Restorer
read = lambda: int(open("/proc/self/io").readline().split()[1])
import jax, lpdiff_jax.restoring.restorer, lpdiff_jax.storage.checkpoint
jax.devices()
before, start = read(), time.perf_counter()
Restorer.load(sys.argv[1])
print(time.perf_counter() - start, read() - before)
"""


def save_untrained(name: str, workdir: Path) -> None:
    """A work directory whose last stage has a checkpoint at step 0."""
    config = importlib.import_module(f"configs.{name}").get_config()
    method = registry.build(config)
    stage = method.stages(config, method.networks)[-1]
    variables = with_helpers(stage, init_variables(method, 0, stage.networks), jax.random.key(0))
    optimizer = make_optimizer(config[stage.name], stage.trained)
    state = jax.tree.map(_noise, create_state(variables, stage.trained, optimizer))
    items = to_items(state, method.networks)
    workdir.mkdir()
    save_config(config, workdir / FILE_NAME)
    checkpointer = Checkpointer(stage_directory(workdir, stage.name), keep=2)
    record = Record(config.to_dict(), tuple(items["networks"]), {}, 1, None)
    checkpointer.save(1, items["networks"], items["training"], record)
    checkpointer.close()


def _noise(array: jax.Array) -> np.ndarray:
    """Values that cannot be compressed, as trained ones cannot; fresh states are mostly zeros."""
    if not np.issubdtype(array.dtype, np.floating):
        return np.asarray(array)
    return np.random.default_rng(array.size).standard_normal(array.shape, np.float32)


def load(workdir: Path) -> tuple[float, int]:
    """Seconds of `Restorer.load`, imports apart, and the bytes that the process read in it."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(workdir)], capture_output=True, text=True, check=True
    )
    seconds, size = done.stdout.split()
    return float(seconds), int(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configurations", nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print("configuration  checkpoint MB  read MB  seconds (least of all)")
    for name in args.configurations:
        with tempfile.TemporaryDirectory() as folder:
            workdir = Path(folder) / name
            save_untrained(name, workdir)
            size = sum(p.stat().st_size for p in workdir.rglob("*") if p.is_file())
            found = [load(workdir) for _ in range(args.repeats)]
            print(
                f"{name:13}  {size / 1e6:13.1f}  {found[0][1] / 1e6:7.1f}  "
                f"{min(seconds for seconds, _ in found):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
