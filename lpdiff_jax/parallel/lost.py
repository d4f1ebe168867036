"""When another process of a run dies: a sentence and a status, where JAX's own answer is an abort.

JAX notices it in two ways. A collective operation fails, as an exception; and the service by which
the processes met ends this one with SIGABRT and a trace of its C++ code, from a thread of its own.
"""

import ctypes
import os
import signal
from collections.abc import MutableMapping
from typing import Any

# As of a run that a signal stopped: the same command goes on.
STATUS = 75
SENTENCE = (
    "another process of this run died, and says why in its own messages; the same commands go on "
    "from the newest checkpoint"
)
# What the exceptions of collective operations say; each library has its own words.
_SIGNS = ("Gloo", "NCCL", "coordination service", "CoordinationService", "heartbeat")
_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_kept: list[Any] = []


def quieten(environment: MutableMapping[str, str]) -> None:
    """Keeps the C++ trace from standard error; call it before jax is imported.

    Whoever has set `TF_CPP_MIN_LOG_LEVEL` sees what that asks for; but 1 is what JAX sets, and what
    a program that has JAX in it hands down to this one.
    """
    if environment.get(_LOG_LEVEL, "1") == "1":
        environment[_LOG_LEVEL] = "4"


def end_with_a_sentence() -> None:
    """Takes SIGABRT, which JAX raises when another process has died."""

    def end(_: int) -> None:
        os.write(2, f"{SENTENCE}\n".encode())
        os._exit(STATUS)

    # Not by the module `signal`, whose handlers wait for the main thread: abort() does not.
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)
    _kept.append(handler)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


def tells_of_another(error: BaseException) -> bool:
    """Whether an exception says that another process of the run is gone."""
    return any(sign in str(error) for sign in _SIGNS)
