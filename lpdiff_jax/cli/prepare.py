"""`lpdiff prepare`: check a tree of frames and write it as shards, or verify shards."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from lpdiff_jax.cli import arguments

if TYPE_CHECKING:
    from data_pipeline.prepare import Checked
    from data_pipeline.shards import Shard

HELP = "check a tree of frames and write it as shards; or verify shards"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("root", type=arguments.path, help="the raw tree; with --verify, the shards")
    parser.add_argument(
        "out", type=arguments.path, nargs="?", help="folder for the shards; must not exist yet"
    )
    parser.add_argument("--strict", action="store_true", help="write nothing if anything is wrong")
    parser.add_argument(
        "--layout",
        choices=("mdlp", "tracks"),
        help="layout of the tree: mdlp, or tracks (UFPR-SR-Plates, LRLPR-26); default: detected",
    )
    parser.add_argument(
        "--split",
        nargs="?",
        const="0.8,0.1,0.1",
        metavar="TRAIN,VAL,TEST",
        help="divide all groups anew by plate, in these shares (0.8,0.1,0.1)",
    )
    parser.add_argument(
        "--seed", type=arguments.seed, default=0, help="seed of --split (default 0)"
    )
    parser.add_argument(
        "--groups-per-shard", type=arguments.whole(1, 10**9), default=1000, metavar="N"
    )
    parser.add_argument(
        "--decode", action="store_true", help="store pixels: 3 times the space, faster to read"
    )
    parser.add_argument("--verify", action="store_true", help="check shards that were written")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Lists every problem on standard error; writes the good groups."""
    from data_pipeline.errors import DataError
    from data_pipeline.layouts import LAYOUTS
    from data_pipeline.prepare import check_tree, divide, write_shards
    from data_pipeline.splits import find_leaks
    from lpdiff_jax.cli.synthesize import Progress

    if args.verify:
        return _verify(args)
    if args.out is None:
        raise DataError("where should the shards go? lpdiff prepare ROOT OUT")
    shares = _shares(args.split) if args.split else None
    checked = check_tree(args.root, LAYOUTS.get(args.layout), Progress)
    if shares:
        checked = divide(checked, shares, args.seed)
    checked = checked.with_problems(find_leaks(checked.splits))
    _list(checked.problems)
    for note in checked.notes:
        print(f"note: {note}", file=sys.stderr)
    if checked.problems and args.strict:
        raise DataError(f"{len(checked.problems)} problems, listed above; nothing was written")
    index = write_shards(
        args.out,
        checked.splits,
        groups_per_shard=args.groups_per_shard,
        decode=args.decode,
        report=lambda line: print(line, file=sys.stderr),
    )
    _print_result(args, checked, index)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from data_pipeline.errors import DataError
    from data_pipeline.shards import read_index, verify

    problems = verify(args.root)
    _list(problems)
    if problems:
        raise DataError(f"{len(problems)} problems, listed above; prepare the data again")
    index = read_index(args.root)
    counts = {split: sum(shard.groups for shard in shards) for split, shards in index.items()}
    if args.json:
        print(json.dumps({"groups": counts, "problems": []}))
    else:
        listed = ", ".join(f"{split}: {count} groups" for split, count in counts.items())
        print(f"{args.root}: sound ({listed})")
    return 0


def _print_result(
    args: argparse.Namespace, checked: "Checked", index: dict[str, list["Shard"]]
) -> None:
    counts = {split: sum(shard.groups for shard in shards) for split, shards in index.items()}
    if args.json:
        problems = [str(problem) for problem in checked.problems]
        result = {"out": str(args.out), "groups": counts, "left_out": checked.left_out}
        result |= {"problems": problems, "notes": checked.notes}
        print(json.dumps(result, ensure_ascii=False))
        return
    for split, count in counts.items():
        print(f"{split}: {count} groups in {len(index[split])} shards")
    print(f"left out: {checked.left_out} groups ({len(checked.problems)} problems)")


def _list(problems: tuple | list) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)


def _shares(text: str) -> dict[str, float]:
    from data_pipeline.errors import DataError

    try:
        parts = [float(part) for part in text.split(",")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0 or not 0 < sum(parts) < float("inf"):
        raise DataError(f"--split {text!r}: give three shares, as in 0.8,0.1,0.1")
    return {s: share for s, share in zip(("train", "val", "test"), parts, strict=True) if share}
