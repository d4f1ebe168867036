"""What can be known of a GPU's programs without one: they lower for CUDA; what they consist of.

    python -m benchmarks.gpu.lowering --config compact --dtype bfloat16 [--programs denoiser]

For each program: StableHLO operations that matter by number, products whose operands are not in the
precision that was asked for, and bytes of transposes. Nothing is compiled.
"""

import argparse
import importlib
import math
import re
from collections import Counter

import jax

from lpdiff_jax.ahead import programs
from lpdiff_jax.parallel.devices import Parallel

_COUNTED = ("convolution", "dot_general", "transpose", "sort", "while", "custom_call", "scatter")
_BYTES = {"f32": 4, "bf16": 2, "i32": 4, "ui32": 4, "i1": 1, "ui8": 1}


def main() -> None:
    """Prints a line for each program of a configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="compact")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--programs", nargs="*", default=(), help="some of them alone")
    args = parser.parse_args()
    config = importlib.import_module(f"configs.{args.config}").get_config()
    config.model.dtype = args.dtype
    print(f"| program | {' | '.join(_COUNTED)} | products in another precision | transposed MB |")
    print(f"|---|{'---|' * len(_COUNTED)}---|---|")
    for name in programs.names_of(config, args.programs):
        program = programs.program(name, config, Parallel("jit", jax.devices()[:1]), args.batch)
        text = program.lower(("cuda",)).as_text()
        counts, other, moved = study(text, {"bfloat16": "bf16", "float32": "f32"}[args.dtype])
        cells = " | ".join(str(counts[kind]) for kind in _COUNTED)
        print(f"| {name} | {cells} | {other} | {moved / 1e6:.1f} |", flush=True)


def study(text: str, wanted: str) -> tuple[Counter, int, int]:
    """Operations by kind; products of another precision than wanted; bytes of transposes."""
    counts: Counter = Counter()
    other = moved = 0
    for line in text.splitlines():
        found = re.search(r"stablehlo\.(\w+)", line)
        if not found:
            continue
        counts[found[1]] += 1
        if found[1] in ("convolution", "dot_general"):
            operands = re.search(r": \(tensor<([^>]*)>, tensor<([^>]*)>\)", line)
            other += bool(operands) and any(x.split("x")[-1] != wanted for x in operands.groups())
        if found[1] == "transpose":
            *sides, kind = re.findall(r"tensor<([^>]*)>", line)[-1].split("x")
            moved += math.prod(map(int, sides)) * _BYTES.get(kind, 4)
    return counts, other, moved


if __name__ == "__main__":
    main()
