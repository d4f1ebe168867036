"""`lpdiff export`: a model as StableHLO and ONNX files that run without this package."""

import argparse
import json

from lpdiff_jax.cli import arguments

HELP = "write a model's functions, such as the whole restoration, as StableHLO and ONNX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="MODEL",
        help="work directory, model directory or .pth",
    )
    parser.add_argument(
        "output", type=arguments.path, metavar="OUT", help="folder to write; new or empty"
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=("stablehlo", "onnx"),
        help="write only this format (default: both)",
    )
    parser.add_argument(
        "--frames",
        type=arguments.whole(1, 1000),
        default=3,
        help="frames per plate (default 3)",
    )
    parser.add_argument(
        "--steps", type=arguments.STEPS, help="denoiser calls (default: the model's)"
    )
    parser.add_argument("--sampler", help="sampler (default: the model's)")
    parser.add_argument("--json", action="store_true", help="print export.json")


def run(args: argparse.Namespace) -> None:
    """Exports the model."""
    from lpdiff_jax.export.files import FORMATS, export_model
    from lpdiff_jax.restoring.restorer import Restorer

    restorer = Restorer.load(args.model)
    method = restorer.method
    how = method.choose(restorer.defaults, sampler=args.sampler, steps=args.steps)
    functions = method.exports(restorer.variables, how, args.frames)
    report = export_model(args.output, functions, tuple(args.format or FORMATS))
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{args.output}: {', '.join(report)} as {', '.join(args.format or FORMATS)}")
