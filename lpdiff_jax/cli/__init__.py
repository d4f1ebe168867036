"""The `lpdiff` command: one module of this package is one subcommand.

A command module has `HELP` (one line), `add_arguments(parser)` and `run(args) -> int | None`.
Only the module of the command that was called is imported beyond its argument definitions, so
heavy imports belong inside `run`.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from data_pipeline.errors import DataError
from lpdiff_jax.errors import UserError

# Subcommand -> module of this package; the order is that of `lpdiff --help`.
COMMANDS = {
    "restore": "restore",
    "benchmark": "benchmark",
    "synthesize": "synthesize",
    "locate": "locate",
    "prepare": "prepare",
    "label": "label",
    "fetch-weights": "fetch_weights",
    "import-torch": "import_torch",
    "export-torch": "export_torch",
    "export": "export",
    "pack": "pack",
}


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="lpdiff", description="Restore licence plates from several degraded frames."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module_name in COMMANDS.items():
        module = importlib.import_module(f"lpdiff_jax.cli.{module_name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns 0 on success and 2 for a user's mistake."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (UserError, DataError) as error:
        print(f"lpdiff {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
