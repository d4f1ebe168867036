"""`lpdiff import-torch`: a published PyTorch checkpoint becomes a model directory."""

import argparse
from typing import Any

from lpdiff_jax.cli import arguments
from lpdiff_jax.errors import UserError

HELP = "convert a PyTorch checkpoint (LP-Diff, SRCNN, HAT, Real-ESRGAN, ...) into a model directory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "checkpoint",
        type=arguments.path,
        metavar="X.pth",
        help="the published program's file: of LP-Diff (its name ends in _gen.pth), SRCNN, HAT, "
        "Real-ESRGAN, ResDiff or ResShift; which, follows from its entries",
    )
    parser.add_argument(
        "output",
        type=arguments.path,
        metavar="OUT",
        help="folder to write; must not exist yet, or be empty",
    )
    parser.add_argument(
        "--with",
        dest="companion",
        type=arguments.path,
        metavar="Y.pth",
        help="a second file, where a system has two: ResShift's autoencoder, ResDiff's CNN",
    )
    parser.add_argument(
        "--norm-groups",
        type=arguments.whole(1, 16_384),
        default=32,
        help="groups of GroupNorm in training, which the file does not tell (default: 32)",
    )
    parser.add_argument(
        "--image-size",
        type=arguments.whole(1, 16_384),
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
    parser.add_argument(
        "--chain-steps",
        type=arguments.STEPS,
        default=15,
        help="ResShift: steps of the chain it was trained with, 15 or 4 (default: 15)",
    )


def run(args: argparse.Namespace) -> None:
    """Reads the checkpoint, writes the folder and says what was found."""
    from lpdiff_jax.parallel.platform import require_platform
    from lpdiff_jax.pytorch.checkpoint import read_checkpoint
    from lpdiff_jax.storage.model_directory import save_model

    require_platform()
    checkpoint = read_checkpoint(
        args.checkpoint,
        norm_groups=args.norm_groups,
        betas=None if args.betas is None else _linear(*args.betas),
        image_size=tuple(args.image_size),
        companion=args.companion,
        chain_steps=args.chain_steps,
    )
    save_model(args.output, checkpoint.config, checkpoint.variables, checkpoint.extra)
    print(f"{args.output}: {_summary(checkpoint.config)}{_kept(checkpoint.extra)}")


def _summary(config: dict[str, Any]) -> str:
    """What was found, in one line."""
    model = config["model"]
    if "method" in config:
        parts = {name: part for name, part in model.items() if isinstance(part, dict)}
        fields = [
            f"{name} ({', '.join(f'{field} {value}' for field, value in part.items())})"
            for name, part in parts.items()
            if name != "schedule" or "betas" not in part
        ]
        return f"{config['method']}: {'; '.join(fields)}"
    denoiser = model["denoiser"]
    return (
        f"width {denoiser['features']}, multipliers {denoiser['multipliers']}, "
        f"{denoiser['blocks']} blocks per level, {denoiser['norm_groups']} norm groups, "
        f"{config['sampler']['steps']} steps"
    )


def _kept(extra: dict[str, Any]) -> str:
    return f"; {len(extra)} entries kept that the model does not use" if extra else ""


def _linear(first: str, last: str, steps: str) -> list[float]:
    """The linear schedule that three arguments describe."""
    from lpdiff_jax.diffusion.schedule import make_schedule

    try:
        return make_schedule("linear", int(steps), float(first), float(last)).betas.tolist()
    except ValueError as error:
        raise UserError(f"--betas {first} {last} {steps}: {error}") from error
