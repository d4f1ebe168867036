"""What `lpdiff train` and `lpdiff eval` share: flags, and errors told without a traceback."""

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

import configs
from data_pipeline.files import local_path
from lpdiff_jax.cli.endings import (
    INTERRUPTIONS,
    PREEMPTED,
    ending_of,
    leave,
    prepare_streams,
    tell,
)
from lpdiff_jax.compilation import enable_compilation_cache
from lpdiff_jax.parallel import lost
from lpdiff_jax.parallel.cluster import in_cluster
from lpdiff_jax.stopping import by_signals


def define_flags() -> None:
    """The flags of a program that works in a run's directory."""
    define_config_flag()
    flags.DEFINE_string("workdir", None, "Directory of the run: configuration, checkpoints, logs")
    flags.mark_flags_as_required(["workdir"])


def define_config_flag() -> None:
    """The flag that names a configuration, each field of which can be changed by another."""
    config_flags.DEFINE_config_file(
        "config", None, "A configuration file, or the name of a packaged one, such as compact"
    )
    flags.mark_flags_as_required(["config"])


def define_process_flags() -> None:
    """The flags of a run on several processes; clusters that JAX knows need none of them."""
    flags.DEFINE_string("coordinator", None, "Address of process 0, host:port")
    flags.DEFINE_integer("process-id", None, "The number of this process, from 0")
    flags.DEFINE_integer("process-count", None, "Number of processes that train together")


def join_processes() -> None:
    """Joins the processes that the flags or the environment name; before any computation.

    Raises:
      UserError: they do not meet.
    """
    from lpdiff_jax.parallel.processes import initialize

    values = flags.FLAGS
    initialize(values.coordinator, values["process-id"].value, values["process-count"].value)


def run(main: Callable[[ConfigDict, Path], None], argv: Sequence[str]) -> None:
    """Parses the flags `argv` and calls main(config, workdir), see `run_with_config`."""
    run_with_config(lambda config: main(config, local_path(flags.FLAGS.workdir)), argv)


def run_with_config(main: Callable[[ConfigDict], None], argv: Sequence[str]) -> None:
    """Parses the flags `argv` and calls main(config).

    Exits 2 on a user's mistake, 75 when a signal stopped a run that saved, 130 on Ctrl-C.
    """

    def call(argv: list[str]) -> None:
        if len(argv) > 1:
            fail(f"not understood: {' '.join(argv[1:])}")
        if not flags.FLAGS["verbosity"].present:
            quieten_libraries()
        enable_compilation_cache()
        try:
            _explained(main)
        except Exception:
            traceback.print_exc()
            _leave(1)

    prepare_streams()
    if in_cluster(os.environ) or any(word.startswith("--process-") for word in argv):
        lost.quieten(os.environ)  # before a configuration brings jax with it
    # A configuration's overrides are looked for in sys.argv.
    sys.argv = [sys.argv[0], *map(_with_config_file, argv, ["", *argv])]
    app.run(call, sys.argv, flags_parser=_parse)


def _with_config_file(word: str, before: str) -> str:
    """A word of the command line; where it names one of the package's configurations, its file."""
    flag, given, value = word.partition("=")
    if before.lstrip("-") == "config" and before.startswith("-"):
        return str(find_config(word))
    if given and flag.startswith("-") and flag.lstrip("-") == "config":
        return f"{flag}={find_config(value)}"
    return word


def find_config(name: str) -> str:
    """The file of a configuration that is given by its path or, from the package, by its name.

    What follows a colon is the configuration's own argument: `baselines/regression:compact`.
    """
    path, colon, argument = name.partition(":")
    folder = Path(configs.__file__).parent
    packaged = folder / f"{path}.py"
    if not Path(path).exists() and packaged.is_file():
        return f"{packaged}{colon}{argument}"
    if not Path(path).exists():
        names = sorted(
            str(file.relative_to(folder).with_suffix(""))
            for file in folder.rglob("*.py")
            if file.stem not in ("__init__", "common")
        )
        fail(f"{path}: no such configuration; there are {', '.join(names)}, or give a file")
    return name


def _explained(main: Callable[[ConfigDict], None]) -> None:
    """Calls main(config); what a user is meant to read ends in `fail`."""
    try:
        with by_signals("stopped by SIGTERM; the same command goes on from here"):
            main(flags.FLAGS.config)
    except BaseException as error:
        if lost.tells_of_another(error):  # a checkpoint that could not be written says so, too
            _leave_the_lost()
        ending = ending_of(error)
        if ending is None:
            raise
        fail(*ending)


def _leave_the_lost() -> None:
    """Ends this process where it has met others, one of which is gone: there is no waiting."""
    processes = sys.modules.get("lpdiff_jax.parallel.processes")
    if processes and processes.process_count() > 1:
        tell(Path(sys.argv[0]).name, lost.SENTENCE)
        processes.leave_at_once(lost.STATUS)


def quieten_libraries() -> None:
    """Keeps only warnings and errors of the libraries' logs; `--verbosity=0` brings all back.

    Orbax tells every detail of a checkpoint, and the traceback of a save that failed three times
    over, before `Checkpointer` says in one sentence what happened.
    """

    def without_traceback(record: Any) -> bool:
        record.exc_info = None
        return True

    logging.set_verbosity(logging.WARNING)
    for logger in (logging.get_absl_logger(), getLogger("asyncio")):
        logger.addFilter(without_traceback)
        logger.addFilter(lambda record: "orbax" not in record.pathname or record.levelno < 40)
    hook = sys.excepthook

    def without_late_futures(kind: Any, error: Any, trace: Any) -> None:
        # TensorStore's threads find nobody to tell of what could not be written.
        if str(error) != "Event loop is closed":
            hook(kind, error, trace)

    sys.excepthook = without_late_futures


def fail(message: str, status: int = 2) -> None:
    """Prints a message and exits; status 2 is a user's mistake."""
    tell(Path(sys.argv[0]).name, message)
    _be_silent()
    _leave(status)


def _be_silent() -> None:
    """Nothing is said behind the sentence; threads that a full disk has stopped complain late."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _leave(status: int) -> None:
    """Exits; only processes that stop together, after they saved, wait for each other."""
    processes = sys.modules.get("lpdiff_jax.parallel.processes")
    if processes and status != PREEMPTED:
        processes.leave_at_once(status)
    jax = sys.modules.get("jax")
    together = jax is not None and jax.distributed.is_initialized()
    if status in INTERRUPTIONS and not together:
        leave(status)
    sys.exit(status)


def _parse(argv: list[str]) -> list[str]:
    """Parses the flags; whatever a configuration file raises is its writer's to read."""
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        fail(str(error))
        raise
    except Exception as error:
        fail(_unknown_field(argv) or f"{type(error).__name__}: {error}")
        raise


def _unknown_field(argv: list[str]) -> str | None:
    """Names the first `--config.a.b=c` whose field does not exist, and the fields that do."""
    config = _load_config_alone(argv)
    for word in argv[1:] if config else ():
        path, *fields = word.lstrip("-").split("=")[0].split(".")
        section: Any = config
        for name in fields if path == "config" and word.startswith("-") else ():
            if not isinstance(section, ConfigDict):
                return f"{path} is a value, {section!r}, and has no fields"
            if name not in section:
                return f"{path} has no field {name!r}; its fields: {', '.join(sorted(section))}"
            section, path = section[name], f"{path}.{name}"
    return None


def _load_config_alone(argv: list[str]) -> ConfigDict | None:
    """The configuration that `--config` names, without overrides; None if it cannot be loaded."""
    alone = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=alone)
    for word, following in itertools.zip_longest(argv[1:], argv[2:]):
        name, _, value = word.lstrip("-").partition("=")
        if name == "config" and word.startswith("-") and (value or following):
            try:
                sys.argv = argv[:1]  # where this kind of flag looks for overrides
                alone([argv[0], f"--config={value or following}"])
                return alone.config
            except Exception:
                return None
    return None
