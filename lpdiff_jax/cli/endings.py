"""How a command ends: what a user is meant to read, and the status that a script can tell it by."""

import atexit
import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from data_pipeline.errors import DataError
from data_pipeline.files import FULL
from data_pipeline.tree import printable
from lpdiff_jax.errors import Preempted, UserError

MISTAKE = 2
# A run that a signal stopped after it had saved (EX_TEMPFAIL of sysexits.h): the same command goes
# on from there, and a scheduler may tell it from a mistake (2) and a failure (1).
PREEMPTED = 75
INTERRUPTED = 130
INTERRUPTIONS = (PREEMPTED, INTERRUPTED)
# Of a line of a message, which may have what a file says in it.
_LONGEST = 1500
_BROKEN_PIPE = 141  # as a shell has it for SIGPIPE
# What the place of a file says, not the program.
_OF_THE_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.EISDIR,
    errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE,
)  # fmt: skip


def ending_of(error: BaseException) -> tuple[str, int] | None:
    """The sentence and the status of an error that a user is meant to read; None for others."""
    if isinstance(error, UserError | DataError):
        return str(error), MISTAKE
    if isinstance(error, Preempted):
        return str(error), PREEMPTED
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command goes on from what is saved", INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Python would write what is left once more when it ends, and complain.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return "", _BROKEN_PIPE
    if isinstance(error, OSError) and error.errno in (*FULL, *_OF_THE_PLACE):
        advice = "make room" if error.errno in FULL else "see to it"
        place = f"{error.filename}: " if error.filename else "a file cannot be written or read: "
        return f"{place}{error.strerror}; {advice}, and run the same command again", MISTAKE
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "the memory is full; take smaller batches, fewer frames or smaller files", MISTAKE
    return None


def tell(program: str, message: str) -> None:
    """Prints a sentence on standard error, where there is one."""
    if message:
        print(f"{program}: {shown(message)}", file=sys.stderr)


def shown(message: str) -> str:
    """A message as it is printed, whatever bytes of a file or a name are in it."""
    return "\n".join(_line(line) for line in message.splitlines())


def _line(text: str) -> str:
    whole = printable(text)
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST // 2]} ... {whole[-200:]}"


@contextlib.contextmanager
def work_of_program() -> Iterator[None]:
    """What a process is there for: a SIGTERM that comes behind it no longer changes its status."""
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leave(status: int) -> NoReturn:
    """Ends this process at once, once what was to be done at its end is done.

    For one that a signal has interrupted: XLA may be computing still, in threads of its own, and
    crashes (SIGSEGV) when Python takes itself apart around them.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def prepare_streams() -> None:
    """Lets a terminal that knows no Chinese show escapes in its place, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
