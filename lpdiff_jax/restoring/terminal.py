"""What a terminal shows of a restoration: a line a plate, and how far it is."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from data_pipeline.tree import printable

# Plain lines come no oftener.
_SECONDS = 2.0


class Progress(Protocol):
    """Shows how many plates are done."""

    def __call__(self, done: int, total: int | None) -> None: ...

    def close(self) -> None: ...


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line, whatever the terminal's encoding: what it lacks becomes an escape."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    safe = printable(text).encode(encoding, errors="backslashreplace").decode(encoding)
    print(safe, file=stream, flush=True)


def plate_line(plate: Mapping[str, Any]) -> str:
    """One plate of restore.json as a line: name, text, confidence, verdict."""
    reading = plate.get("reading")
    if reading is None:
        return f"{plate['name']}  (this model does not read)"
    return (
        f"{plate['name']}  {reading['marked'] or '-'}  {reading['confidence']:.2f}  "
        f"{reading['verdict']}"
    )


def make_progress(quiet: bool, stream: TextIO | None = None) -> Progress:
    """A bar on a terminal, lines elsewhere, nothing where it is to be quiet."""
    stream = stream or sys.stderr
    if quiet:
        return _Silent()
    return _Bar(stream) if stream.isatty() else _Lines(stream)


class _Silent:
    def __call__(self, done: int, total: int | None) -> None: ...

    def close(self) -> None: ...


class _Lines:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._start = self._last = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done != total and now - self._last < _SECONDS:
            return
        self._last = now
        if total is None:
            say(f"{done} plates", self._stream)
            return
        left = (now - self._start) / max(done, 1) * (total - done)
        rest = f"{int(left) // 60}:{int(left) % 60:02d} left, " if done < total else ""
        say(f"{rest}{done}/{total} plates", self._stream)

    def close(self) -> None: ...


class _Bar:
    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("plates"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._bar.add_task("plates", total=None)
        self._bar.start()

    def __call__(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._bar.stop()
