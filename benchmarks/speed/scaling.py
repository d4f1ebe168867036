"""What a training step costs and how it should scale, by lowering it for 8 devices; nothing runs.

    python -m benchmarks.speed.scaling --config lpdiff [--per-device 4] [--compile]

Prints, for the stage's data-parallel step: the bytes that a device holds, the operations, the
bytes that devices exchange (read from the lowered program), and the predicted share of the
ideal speed on 8, 64 and 512 chips. This is a prediction, not a measurement: it assumes a ring
all-reduce and the share of the peak that --mfu gives, once with no overlap of exchange and
computation and once with full overlap. --compile adds the compiler's count of temporary memory for
a CPU program.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import argparse
import importlib
import math
import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lpdiff_jax.methods import registry
from lpdiff_jax.parallel.devices import Parallel
from lpdiff_jax.training.flops import abstract_batch, flops_per_example
from lpdiff_jax.training.optimizer import make_optimizer
from lpdiff_jax.training.state import abstract_state
from lpdiff_jax.training.step import make_train_step


@dataclass(frozen=True)
class Chip:
    """bfloat16 FLOP/s, and bytes/s that a chip sends, as its maker states them."""

    flops: float
    link: float


CHIPS = {
    "TPU v5e (ICI 1600 Gbit/s)": Chip(197e12, 200e9),
    "TPU v5p (ICI 4800 Gbit/s)": Chip(459e12, 600e9),
    "H100 (InfiniBand 400 Gbit/s per GPU)": Chip(989e12, 50e9),
}
BYTES = {"f32": 4, "bf16": 2, "i32": 4, "ui32": 4, "i1": 1, "f64": 8}


def main() -> None:
    """Prints the study of one configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="name of a module of configs/")
    parser.add_argument("--stage", default="diffusion")
    parser.add_argument("--per-device", type=int, default=4, help="examples per device")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of the peak assumed")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    config = importlib.import_module(f"configs.{args.config}").get_config()
    config[args.stage].batch_size = args.per_device * jax.device_count()
    config.stages = (args.stage,)
    method, section = registry.build(config), config[args.stage]
    (stage,) = method.stages(config, method.networks)
    state = abstract_state(method, stage, section)
    lowered = _lower(method, stage, config, state, args.per_device)
    flops = flops_per_example(method, stage, section, config.data.num_frames)
    exchanged = exchanged_bytes(lowered.as_text())
    print(f"{args.config}, stage {args.stage}, {args.per_device} examples per device, 8 devices")
    for name, tree in (("parameters trained", state.params), ("whole state", state)):
        print(f"  {name:28} {_size(tree) / 1e6:10.1f} MB per device")
    print(f"  {'operations':28} {flops * args.per_device / 1e12:10.3f} TFLOP per device and step")
    print(f"  {'exchanged (all-reduce)':28} {exchanged / 1e6:10.1f} MB per device and step")
    if args.compile:
        memory = lowered.compile().memory_analysis()
        print(f"  {'temporary, compiled for CPU':28} {memory.temp_size_in_bytes / 1e6:10.1f} MB")
    print(_table(flops * args.per_device, exchanged, args.mfu))


def _lower(method: Any, stage: Any, config: Any, state: Any, per_device: int) -> Any:
    """The pmapped step, lowered with abstract arguments."""
    section = config[stage.name]
    step = make_train_step(
        stage,
        make_optimizer(section, stage.trained),
        seed=0,
        ema_decay=section.ema_decay,
        accumulate=section.accumulate,
    )
    batch = {
        name: jax.ShapeDtypeStruct((jax.device_count(), *x.shape), x.dtype)
        for name, x in abstract_batch(method, config.data.num_frames, per_device).items()
    }
    return Parallel("pmap").compile_train_step(step).lower(state, batch)


def exchanged_bytes(program: str) -> int:
    """The bytes of all operands of the all-reduces in a StableHLO program."""
    total = 0
    # The operands' types follow the reduction's body: `}) : (tensor<..>, ...) -> ...`.
    for match in re.finditer(r'"stablehlo\.all_reduce".*?\}\) : \((.*?)\) ->', program, re.DOTALL):
        for shape in re.findall(r"tensor<([^>]*)>", match[1]):
            *sides, kind = shape.split("x")
            total += math.prod(map(int, sides)) * BYTES[kind]
    return total


def _size(tree: Any) -> int:
    return sum(x.size * jnp.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def _table(flops: float, exchanged: float, mfu: float) -> str:
    """Predicted efficiency by chip and number of chips."""
    lines = [
        f"| chip, at {mfu:.0%} of its peak | compute, ms | exchange at 512, ms "
        "| 8 chips | 64 chips | 512 chips |",
        "|---|---|---|---|---|---|",
    ]
    for name, chip in CHIPS.items():
        compute = flops / (chip.flops * mfu)
        cells = []
        for count in (8, 64, 512):
            exchange = 2 * (count - 1) / count * exchanged / chip.link
            apart, together = compute / (compute + exchange), compute / max(compute, exchange)
            cells.append(f"{apart:.0%} to {together:.0%}")
        lines.append(
            f"| {name} | {compute * 1e3:.1f} | {exchange * 1e3:.2f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
