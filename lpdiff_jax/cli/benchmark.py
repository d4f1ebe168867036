"""`lpdiff benchmark`: speed on this machine, with the physical limit beside it."""

import argparse

from lpdiff_jax.cli import arguments

HELP = "measure how fast plates are restored on this machine, and how fast they could be"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--model",
        type=arguments.path,
        help="a model, or a configuration file for an untrained one (default: the packaged model)",
    )
    count = arguments.whole(1, 100_000)
    parser.add_argument(
        "--batch", type=count, nargs="+", default=[1, 8, 32], help="plates at a time"
    )
    parser.add_argument(
        "--steps", type=count, nargs="+", help="denoiser calls (default: the model's)"
    )
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: the model's)")
    parser.add_argument(
        "--repeats", type=count, default=20, help="calls per measurement (default 20)"
    )
    parser.add_argument("--profile", action="store_true", help="also say where the time goes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> None:
    """Measures every batch size at every number of steps."""
    import dataclasses
    import json

    import numpy as np

    from lpdiff_jax import benchmark
    from lpdiff_jax.compilation import enable_compilation_cache

    enable_compilation_cache()
    restorer = benchmark.load(args.model, args.dtype)
    machine = benchmark.measure_machine((np.dtype(restorer.method.dtype).name,))
    rows = [
        benchmark.measure(restorer, machine, batch, steps, args.repeats)
        for steps in args.steps or [None]
        for batch in args.batch
    ]
    shares = benchmark.profile(restorer, args.batch[0], rows[0].steps) if args.profile else []
    if args.json:
        result = {"machine": dataclasses.asdict(machine), "profile": shares}
        print(json.dumps(result | {"rows": [dataclasses.asdict(row) for row in rows]}))
    else:
        print(benchmark.as_text(machine, rows, shares))
