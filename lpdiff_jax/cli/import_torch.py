"""`lpdiff import-torch`: a published PyTorch checkpoint becomes a model directory."""

import argparse

from lpdiff_jax.cli import arguments
from lpdiff_jax.errors import UserError

HELP = "convert a PyTorch checkpoint (..._gen.pth) into a model directory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "checkpoint",
        type=arguments.path,
        metavar="X_gen.pth",
        help="the published program's file, ending in _gen.pth",
    )
    parser.add_argument(
        "output",
        type=arguments.path,
        metavar="OUT",
        help="folder to write; must not exist yet, or be empty",
    )
    parser.add_argument(
        "--norm-groups",
        type=int,
        default=32,
        help="groups of GroupNorm it was trained with, which the file does not tell (default: 32)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        default=(112, 224),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the plates it restores (default: 112 224)",
    )
    parser.add_argument(
        "--betas",
        nargs=3,
        metavar=("FIRST", "LAST", "STEPS"),
        help="linear noise schedule, for a file without schedule buffers of its own",
    )


def run(args: argparse.Namespace) -> None:
    """Reads the checkpoint, writes the folder and says what was found."""
    from lpdiff_jax.pytorch.checkpoint import read_checkpoint
    from lpdiff_jax.storage.model_directory import save_model

    checkpoint = read_checkpoint(
        args.checkpoint,
        norm_groups=args.norm_groups,
        betas=None if args.betas is None else _linear(*args.betas),
        image_size=tuple(args.image_size),
    )
    save_model(args.output, checkpoint.config, checkpoint.variables, checkpoint.extra)
    denoiser = checkpoint.config["model"]["denoiser"]
    print(
        f"{args.output}: width {denoiser['features']}, multipliers {denoiser['multipliers']}, "
        f"{denoiser['blocks']} blocks a level, {denoiser['norm_groups']} norm groups, "
        f"{checkpoint.config['sampler']['steps']} steps; "
        f"{len(checkpoint.extra)} entries kept for export-torch alone"
    )


def _linear(first: str, last: str, steps: str) -> list[float]:
    """The linear schedule that three arguments describe."""
    from lpdiff_jax.diffusion.schedule import make_schedule

    try:
        return make_schedule("linear", int(steps), float(first), float(last)).betas.tolist()
    except ValueError as error:
        raise UserError(f"--betas {first} {last} {steps}: {error}") from error
