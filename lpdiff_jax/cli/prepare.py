"""`lpdiff prepare`: check a raw MDLP tree and write it as shards."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipeline.prepare import Checked

HELP = "check a raw MDLP tree and write it as shards"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "root", type=Path, help="the raw tree: <split>/inputs/<group>/, <split>/gt/<group>/"
    )
    parser.add_argument("out", type=Path, help="where the shards go; must not exist yet")
    parser.add_argument("--strict", action="store_true", help="fail when there is any problem")
    parser.add_argument("--groups-per-shard", type=int, default=1000, metavar="N")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Lists every problem on standard error; writes the good groups."""
    from data_pipeline.errors import DataError
    from data_pipeline.prepare import check_tree, write_shards

    checked = check_tree(args.root)
    for problem in checked.problems:
        print(problem, file=sys.stderr)
    if checked.problems and args.strict:
        raise DataError(f"{len(checked.problems)} problems, listed above; nothing was written")
    index = write_shards(
        args.out,
        checked.splits,
        groups_per_shard=args.groups_per_shard,
        report=lambda line: print(line, file=sys.stderr),
    )
    _print_result(args, checked, index)
    return 0


def _print_result(args: argparse.Namespace, checked: "Checked", index: dict[str, Any]) -> None:
    counts = {s: sum(e["groups"] for e in entries) for s, entries in index["splits"].items()}
    if args.json:
        problems = [str(problem) for problem in checked.problems]
        result = {"out": str(args.out), "groups": counts, "left_out": checked.left_out}
        print(json.dumps({**result, "problems": problems}, ensure_ascii=False))
        return
    for split, count in counts.items():
        print(f"{split}: {count} groups in {len(index['splits'][split])} shards")
    print(f"left out: {checked.left_out} groups ({len(checked.problems)} problems)")
