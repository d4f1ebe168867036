"""The `lpdiff` command: one module of this package is one subcommand.

A command module has `HELP` (one line), `add_arguments(parser)` and `run(args) -> int | None`.
Only the module of the command that was called is imported beyond its argument definitions, so
heavy imports belong inside `run`. Those of `SCRIPTS` have `HELP` and `main(argv)`: their flags are
absl's, which know every field of a configuration.
"""

import argparse
import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from lpdiff_jax import __version__, allocator
from lpdiff_jax.cli.endings import (
    INTERRUPTIONS,
    MISTAKE,
    ending_of,
    leave,
    prepare_streams,
    tell,
    work_of_program,
)
from lpdiff_jax.stopping import by_signals

# Subcommand -> module of this package, with flags of its own.
SCRIPTS = {"train": "train", "eval": "eval", "compile": "compile"}
# Subcommand -> module of this package; the order is that of `lpdiff --help`.
COMMANDS = {
    "restore": "restore",
    "serve": "serve",
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


class _Misspelt(Exception):
    """Words that the command line does not mean."""

    def __init__(self, program: str, message: str) -> None:
        super().__init__(message)
        self.program = program


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as every other mistake is told, not in a page."""

    def error(self, message: str) -> NoReturn:
        raise _Misspelt(self.prog, f"{message}; {self.prog} --help lists what can be said")


def build_parser(word: str = "") -> argparse.ArgumentParser:
    """Returns the parser of the whole command line, or of one command of `COMMANDS`.

    Args:
      word: the first word of the command line; if it is a command's, that one's module alone is
        imported.
    """
    parser = _Parser(
        prog="lpdiff", description="Restore licence plates from several degraded frames."
    )
    parser.add_argument("--version", action="version", version=f"lpdiff-jax {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = [word] if word in COMMANDS else [*SCRIPTS, *COMMANDS]
    for name in wanted:
        module = _module((SCRIPTS | COMMANDS)[name])
        if name in SCRIPTS:
            commands.add_parser(name, help=module.HELP, add_help=False)
            continue
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _module(name: str) -> Any:
    return importlib.import_module(f"lpdiff_jax.cli.{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns 0, or a status of `endings`: 2 for a user's mistake."""
    prepare_streams()
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] == "train":
        allocator.settle(words)
    if words and words[0] in SCRIPTS:
        sys.argv[0] = f"lpdiff {words[0]}"  # the name before what they say
        _module(SCRIPTS[words[0]]).main(words[1:])  # exits
    try:
        args = build_parser(words[0] if words else "").parse_args(words)
    except _Misspelt as error:
        tell(error.program, str(error))
        return MISTAKE
    try:
        with by_signals("stopped by SIGTERM; the same command goes on from what is saved"):
            return args.run(args) or 0
    except BaseException as error:
        ending = ending_of(error)
        if ending is None:
            raise
        tell(f"lpdiff {args.command}", ending[0])
        return ending[1]


def program() -> NoReturn:
    """The `lpdiff` command as a program: `main`, then the end of this process."""
    # A start makes a million objects that stay; to look for garbage in them takes a tenth of it.
    gc.set_threshold(50_000)
    with work_of_program():
        status = main()
    if status in INTERRUPTIONS:
        leave(status)
    gc.freeze()  # the same, once more, when Python ends
    sys.exit(status)
