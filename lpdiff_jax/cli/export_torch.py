"""`lpdiff export-torch`: a model of the published architecture becomes a PyTorch checkpoint."""

import argparse

from lpdiff_jax.cli import arguments

HELP = "write a model as a PyTorch checkpoint that the published program loads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="DIR",
        help="model or work directory with the published architecture",
    )
    parser.add_argument(
        "output",
        type=arguments.path,
        metavar="OUT.pth",
        help="file to write, by custom ending in _gen.pth",
    )


def run(args: argparse.Namespace) -> None:
    """Reads the model and writes the file."""
    from lpdiff_jax.errors import UserError
    from lpdiff_jax.methods import registry
    from lpdiff_jax.methods.lpdiff.model import LPDiff
    from lpdiff_jax.parallel.platform import require_platform
    from lpdiff_jax.pytorch.checkpoint import write_checkpoint
    from lpdiff_jax.storage.model_directory import is_model_directory, load_model

    require_platform()
    if is_model_directory(args.model):
        stored = load_model(args.model)
        model, variables, extra = registry.build(stored.config), stored.variables, stored.extra
    else:
        from lpdiff_jax.restoring.loading import load_run

        found = load_run(args.model)
        model, variables, extra = found.method, found.variables, {}
    if not isinstance(model, LPDiff):
        raise UserError(f"{args.model}: only an LP-Diff can be written as a PyTorch checkpoint")
    write_checkpoint(args.output, model, variables, extra)
    print(args.output)
