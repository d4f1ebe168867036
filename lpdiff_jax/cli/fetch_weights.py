"""`lpdiff fetch-weights`: fetches the networks that judge images."""

import argparse

from lpdiff_jax.cli import arguments

HELP = "fetch the weights of the reader, LPIPS, FID (all), or of the detector of plates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "which", nargs="?", default="all", choices=("reader", "lpips", "fid", "detector", "all")
    )
    parser.add_argument(
        "--weights-dir",
        type=arguments.path,
        help="where the files go (default: LPDIFF_WEIGHTS_DIR, or lpdiff in the user's cache)",
    )


def run(args: argparse.Namespace) -> None:
    """Fetches what is missing and prints where each file is."""
    from lpdiff_jax.storage import weights

    for file in weights.GROUPS[args.which]:
        path = weights.fetch(file, args.weights_dir)
        print(f"{file.name:<11} {path}  ({file.purpose}; licence: {file.licence})", flush=True)
