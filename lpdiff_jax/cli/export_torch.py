"""`lpdiff export-torch`: a model of the published architecture becomes a PyTorch checkpoint."""

import argparse
from pathlib import Path

HELP = "write a model as a PyTorch checkpoint that the published program loads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "model", metavar="DIR", help="model or work directory with the published architecture"
    )
    parser.add_argument(
        "output", metavar="OUT.pth", help="file to write, by custom ending in _gen.pth"
    )


def run(args: argparse.Namespace) -> None:
    """Reads the model and writes the file."""
    from lpdiff_jax.methods.lpdiff.model import build_model
    from lpdiff_jax.pytorch.checkpoint import write_checkpoint
    from lpdiff_jax.storage.model_directory import is_model_directory, load_model

    if is_model_directory(args.model):
        stored = load_model(args.model)
        model, variables = build_model(stored.config["model"]), stored.variables
        write_checkpoint(args.output, model, variables, stored.extra)
    else:
        from lpdiff_jax.storage.checkpoint import load_for_inference

        _, model, variables = load_for_inference(Path(args.model))
        write_checkpoint(args.output, model, variables)
    print(args.output)
