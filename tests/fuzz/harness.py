"""What every entry point promises of any input: an answer or a sentence, soon, in bounds.

`run` calls a program with one input and says what broke of that promise: an exception that no user
is meant to read, more than 30 seconds, more than 2 GB, a file written outside of the output folder.
"""

import contextlib
import dataclasses
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from data_pipeline.errors import DataError
from lpdiff_jax.cli.endings import shown
from lpdiff_jax.errors import UserError

SECONDS = 30
MEGABYTES = 2000
# Events of Python's audit that change the file system, and which of their arguments are paths.
_CHANGES = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (0, 1),
    "os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Hang(BaseException):
    """The time is over; nothing that catches `Exception` may keep it."""


@dataclasses.dataclass
class Outcome:
    """How a program took one input: `broken` says what it did not keep, or is empty."""

    message: str
    broken: str
    seconds: float
    megabytes: float


class _Watch:
    """The folder that may be written to at the moment, and what was written elsewhere."""

    allowed: Path | None = None
    held: float = 0.0
    elsewhere: list[str] = []  # noqa: RUF012


def _audit(event: str, args: tuple) -> None:
    if _Watch.allowed is None:
        return
    if event == "open":
        changed = args[:1] if isinstance(args[2], int) and args[2] & _WRITING else ()
    else:
        changed = tuple(args[i] for i in _CHANGES.get(event, ()))
    if event in _CHANGES and event != "os.truncate" and type(args[-1]) is int and args[-1] >= 0:
        return  # relative to an open folder: `shutil.rmtree`, which was seen itself
    for path in changed:
        if isinstance(path, str | bytes | os.PathLike) and not _is_inside(os.fsdecode(path)):
            _Watch.elsewhere.append(f"{event} {os.fsdecode(path)}")


def _is_inside(path: str) -> bool:
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    return path == os.devnull or f"{folder}/".startswith(f"{_Watch.allowed}/")


sys.addaudithook(_audit)


def run(call: Callable[[], object], output: Path) -> Outcome:
    """Calls a program that may write to `output` alone.

    Args:
      call: raises UserError or DataError, or returns; a command returns 0 or 2.
      output: the folder that it may write to.
    """
    before, message, broken = time.monotonic(), "", ""
    try:
        with _limited(), _watched(output):
            status = call()
        if isinstance(status, int) and status not in (0, 2):
            broken = f"status {status}"
    except (UserError, DataError) as error:
        message = shown(str(error))
        broken = _fault_of_sentence(message)
    except SystemExit as leaving:
        broken = "" if leaving.code in (0, 2, None) else f"status {leaving.code}"
    except Hang:
        broken = f"took more than {SECONDS} s:\n{traceback.format_exc()[-2000:]}"
    except BaseException:
        broken = traceback.format_exc()[-3000:]
    elsewhere = "; ".join(_Watch.elsewhere[:3])
    if elsewhere and not broken:
        broken = f"wrote outside of its folder: {elsewhere}"
    # What the tests before have left in this process is not the call's.
    grown = _megabytes("VmHWM") - _Watch.held
    if grown > MEGABYTES and not broken:
        broken = f"took {grown:.0f} MB"
    return Outcome(message, broken, time.monotonic() - before, grown)


@contextlib.contextmanager
def _watched(output: Path) -> Iterator[None]:
    _Watch.elsewhere = []
    _Watch.allowed = Path(os.path.realpath(output))
    try:
        yield
    finally:
        _Watch.allowed = None


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def over(*_: object) -> None:
        raise Hang

    _forget_peak()
    _Watch.held = _megabytes("VmRSS")
    handler = signal.signal(signal.SIGALRM, over)
    # Again, should one be swallowed.
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _megabytes(kind: str) -> float:
    """The memory that this process holds (VmRSS), or held at most since `_forget_peak` (VmHWM)."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{kind}:")[1].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _fault_of_sentence(message: str) -> str:
    if not message.strip():
        return "an empty message"
    if len(message) > 3000:
        return f"a message of {len(message)} characters: {message[:200]}"
    if not all(line.isprintable() for line in message.splitlines()):
        return f"a message that cannot be printed: {message[:500]!a}"
    return ""
