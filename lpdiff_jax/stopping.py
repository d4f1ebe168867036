"""Signals that stop a program: each ends it by an exception in the main thread; none is lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from lpdiff_jax.errors import Preempted

# How soon an exception that was swallowed is raised again.
_AGAIN_SECONDS = 0.05


@contextlib.contextmanager
def by_signals(message: str) -> Iterator[None]:
    """Makes SIGTERM raise `Preempted(message)`, once, as Ctrl-C raises KeyboardInterrupt.

    Python can only print an exception that is raised inside a destructor or a library's callback,
    as it happens while something is compiled. Such a one is raised again.

    A part of the program that has something to save first installs a handler of its own meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop = _Stop(message)
    hook, handler = sys.unraisablehook, signal.signal(signal.SIGTERM, stop.receive)
    sys.unraisablehook = stop.unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, handler)


class _Stop:
    def __init__(self, message: str) -> None:
        self._message = message
        self._raised = False
        self._hook = sys.unraisablehook

    def receive(self, *_: object) -> None:
        # A second signal would interrupt what the first one has begun to clean up.
        if not self._raised:
            self._raised = True
            raise Preempted(self._message)

    def unraisable(self, unraisable: Any) -> None:
        kinds = {KeyboardInterrupt: signal.SIGINT, Preempted: signal.SIGTERM}
        number = kinds.get(unraisable.exc_type)
        if number is None:
            self._hook(unraisable)
            return
        self._raised = False
        # Not at once: it would be raised in this very function, and be swallowed, too.
        timer = threading.Timer(_AGAIN_SECONDS, signal.raise_signal, (number,))
        timer.daemon = True
        timer.start()
