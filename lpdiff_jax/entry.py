"""What train.py and eval.py share: flags, and errors told without a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from data_pipeline.errors import DataError
from lpdiff_jax.errors import UserError


def define_flags() -> None:
    """The flags of both programs."""
    config_flags.DEFINE_config_file("config", None, "Configuration, for example configs/compact.py")
    flags.DEFINE_string("workdir", None, "Directory of the run: configuration, checkpoints, logs")
    flags.mark_flags_as_required(["config", "workdir"])


def run(main: Callable[[ConfigDict, Path], None]) -> None:
    """Parses the flags, calls main(config, workdir), exits 2 on a user's mistake."""

    def parse(argv: list[str]) -> list[str]:
        try:
            return flags.FLAGS(argv)
        except (AttributeError, flags.Error, FileNotFoundError, TypeError, ValueError) as error:
            fail(str(error))
            raise

    def call(argv: list[str]) -> None:
        if len(argv) > 1:
            fail(f"not understood: {' '.join(argv[1:])}")
        try:
            main(flags.FLAGS.config, Path(flags.FLAGS.workdir))
        except (UserError, DataError) as error:
            fail(str(error))

    app.run(call, flags_parser=parse)


def fail(message: str) -> None:
    """Prints a user's mistake and exits with status 2."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)
