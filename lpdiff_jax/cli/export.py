"""`lpdiff export`: a model as StableHLO and ONNX files that run without this package."""

import argparse
import json

HELP = "write psi, one denoiser step and the whole restoration as StableHLO and ONNX"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="work directory, model directory or .pth")
    parser.add_argument("output", metavar="OUT", help="folder to write; new or empty")
    parser.add_argument(
        "--format", action="append", choices=("stablehlo", "onnx"), help="only this (default: both)"
    )
    parser.add_argument("--frames", type=int, default=3, help="frames a plate (default 3)")
    parser.add_argument("--steps", type=int, help="denoiser calls (default: the model's)")
    parser.add_argument("--sampler", help="sampler (default: the model's)")
    parser.add_argument("--json", action="store_true", help="print export.json")


def run(args: argparse.Namespace) -> None:
    """Exports the model."""
    import dataclasses

    from lpdiff_jax.errors import UserError
    from lpdiff_jax.export.functions import FORMATS, export_model, exported_functions
    from lpdiff_jax.restoring.restorer import Restorer

    if args.frames < 1:
        raise UserError(f"--frames is at least 1, not {args.frames}")
    restorer = Restorer.load(args.model)
    changes = {"name": args.sampler, "steps": args.steps}
    try:
        sampler = dataclasses.replace(
            restorer.sampler, **{name: v for name, v in changes.items() if v is not None}
        )
        functions = exported_functions(
            restorer.model, restorer.variables, sampler, num_frames=args.frames
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    report = export_model(args.output, functions, tuple(args.format or FORMATS))
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{args.output}: {', '.join(report)} as {', '.join(args.format or FORMATS)}")
