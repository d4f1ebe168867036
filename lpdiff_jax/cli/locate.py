"""`lpdiff locate`: where the plates stand in clean pictures whose texts are known."""

import argparse

from lpdiff_jax.cli import arguments

HELP = "find the corners of plates in clean pictures with labels, for synthesize --pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "pictures",
        type=arguments.path,
        metavar="PICS",
        help="a folder of pictures with labels.json",
    )
    parser.add_argument(
        "--output", type=arguments.path, metavar="FILE",
        help="where the corners go (default: PICS/corners.json, which --pictures reads)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Writes the file and says how many plates were found."""
    from data_pipeline.synthetic.corners import locate_all
    from data_pipeline.synthetic.pictures import CORNERS_FILE

    output = args.output or args.pictures / CORNERS_FILE
    found, count = locate_all(args.pictures, output)
    print(f"{output}: {found} of {count} plates found")
