"""`lpdiff synthesize`: a synthetic data set in MDLP's own layout."""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError
from lpdiff_jax.cli import arguments

if TYPE_CHECKING:
    from data_pipeline.synthetic.groups import Render

HELP = "draw plates and photograph them from afar, into a data set in MDLP's layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "directory", type=arguments.path, metavar="DIR", help="the data set's folder"
    )
    count = arguments.whole(0, 10**9)
    parser.add_argument(
        "--groups", type=arguments.whole(1, 10**9), required=True, help="groups in train"
    )
    parser.add_argument("--val-groups", type=count, default=0, help="groups in val (default 0)")
    parser.add_argument(
        "--seed", type=arguments.whole(0, 2**63 - 1), required=True, help="same seed, same bytes"
    )
    parser.add_argument(
        "--frames",
        type=arguments.whole(1, 1000),
        default=3,
        help="far frames per group (default 3)",
    )
    parser.add_argument(
        "--preset",
        default="real-like",
        help="real-like (default), varied, mild, severe or real-like-1",
    )
    parser.add_argument(
        "--style", action="append", default=[],
        help="plate style or a style file; may be repeated (default: the mix of Chinese traffic)",
    )  # fmt: skip
    parser.add_argument(
        "--uniform", action="store_true", help="characters equally often instead of as in traffic"
    )
    parser.add_argument(
        "--letters", default="",
        help="strokes (as on plates in traffic), energy (as on those of new energy), noto, roboto "
        "or varied (at random); "
        "default: varied for the preset varied, else each style's own",
    )  # fmt: skip
    parser.add_argument(
        "--pictures", type=arguments.path, metavar="PICS",
        help="a folder of clean pictures of real plates with labels.json, in place of drawn plates",
    )  # fmt: skip
    parser.add_argument(
        "--corners", type=arguments.path, metavar="FILE",
        help="with --pictures: what `lpdiff locate` found (default: PICS/corners.json)",
    )  # fmt: skip
    parser.add_argument(
        "--recombine", type=float, default=0.0, metavar="SHARE",
        help="with --pictures: share of plates that get texts of others' letters (default 0); "
        "never those that are held out",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=count, default=0, metavar="N",
        help="with --pictures: number of plate texts set aside for judging (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--part", default="", choices=("train", "held-out", "all"),
        help="with --pictures: which plates are shown (default: train shows those that are not set "
        "aside, val the others, if there are any); groups that are held out become val",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=arguments.whole(1, 1024), default=1, help="processes (default 1)"
    )


def run(args: argparse.Namespace) -> None:
    """Writes the splits that were asked for."""
    from data_pipeline.synthetic.groups import synthesize

    counts = {"train": args.groups} | ({"val": args.val_groups} if args.val_groups else {})
    if args.pictures and args.part == "held-out":
        counts = {"val": args.groups}
    for split, groups in counts.items():
        synthesize(
            args.directory,
            groups=groups,
            seed=args.seed,
            split=split,
            num_frames=args.frames,
            preset=args.preset,
            styles=args.style,
            uniform=args.uniform,
            letters=args.letters,
            workers=args.workers,
            progress=Progress(split, groups),
            make=_picture_render(args, split) if args.pictures else None,
        )


def _picture_render(args: argparse.Namespace, split: str) -> "Render":
    """What makes groups of pictures; refuses the options that belong to drawn plates."""
    from data_pipeline.synthetic.photographed import PictureSource

    if args.style or args.letters or args.uniform:
        raise DataError("--style, --letters and --uniform are for drawn plates, not for --pictures")
    part = args.part or ("held-out" if split == "val" and args.held_out else "train")
    return PictureSource(
        str(args.pictures),
        corners=str(args.corners or ""),
        recombine=0.0 if part == "held-out" else args.recombine,
        num_frames=args.frames,
        preset=args.preset,
        part=part,
        held_out=args.held_out,
    ).render


class Progress:
    """Says how far the work is: one line that rewrites itself on a terminal, else a few lines."""

    def __init__(self, split: str, groups: int) -> None:
        self.split, self.groups = split, groups
        self.start = self.said = time.monotonic()

    def __call__(self, done: int) -> None:
        now, terminal = time.monotonic(), sys.stderr.isatty()
        finished = done == self.groups
        if not (finished or now - self.said > (0.2 if terminal else 10.0)):
            return
        self.said = now
        rate = done / max(now - self.start, 1e-9)
        line = f"{self.split}: {done} of {self.groups} groups, {rate:.0f} groups/s"
        start, end = ("\r", "\n" if finished else "") if terminal else ("", "\n")
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)
