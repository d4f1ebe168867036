"""`lpdiff export-torch`: a model of the published architecture becomes a PyTorch checkpoint."""

import argparse

HELP = "write a model as a PyTorch checkpoint that the published program loads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "model", metavar="DIR", help="model directory with the published architecture"
    )
    parser.add_argument(
        "output", metavar="OUT.pth", help="file to write, by custom ending in _gen.pth"
    )


def run(args: argparse.Namespace) -> None:
    """Reads the model and writes the file."""
    from lpdiff_jax.model_directory import load_model
    from lpdiff_jax.torch_checkpoint import write_checkpoint

    model = load_model(args.model)
    write_checkpoint(args.output, model.config, model.variables, model.extra)
    print(args.output)
