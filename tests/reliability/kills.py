"""Runs of a command that are killed at moments nobody chose, and taken up by the same command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.training.tiny import ROOT, environment

LPDIFF = [sys.executable, "-m", "lpdiff_jax"]
# What a command may answer to SIGTERM: it was done already, or it goes on another time.
STOPPED = (0, 75)


def options() -> dict:
    """Where the commands run, and with what environment."""
    return {"env": environment() | {"PYTHONPATH": str(ROOT)}, "cwd": ROOT}


def kill_again_and_again(
    words: Sequence[str],
    *,
    kills: int,
    longest: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seed: int = 0,
    when: Callable[[], bool] | None = None,
    patience: float = 300.0,
) -> list[str]:
    """Starts a command and kills it, `kills` times, with SIGKILL and SIGTERM in turn.

    Args:
      words: the command.
      kills: how often.
      longest: each is killed after a random time of at most so many seconds.
      env, cwd: of the command.
      seed: of the times.
      when: kill it at a random moment after this has become true (something is being saved).
      patience: seconds after which a command that was stopped must have ended.

    Returns:
      What the runs answered to SIGTERM that they should not have: empty when all is well.
    """
    rng = np.random.default_rng(seed)
    faults = []
    for number in range(kills):
        process = subprocess.Popen(
            words, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if when is not None:
            wait_until(lambda process=process: when() or process.poll() is not None, patience)
        time.sleep(rng.uniform(0, longest))
        ended = process.poll() is not None
        chosen = signal.SIGKILL if number % 2 else signal.SIGTERM
        process.send_signal(chosen)
        output, _ = process.communicate(timeout=patience)
        wanted = (0, *STOPPED) if chosen == signal.SIGTERM else (0, -signal.SIGKILL)
        # Before Python has installed a handler, SIGTERM ends it as it ends any program.
        young = (-signal.SIGTERM,) if not ended and _is_young(output) else ()
        if process.returncode not in (*wanted, *young):
            faults.append(f"kill {number}: status {process.returncode}: {output[-2000:]}")
    return faults


def finish(words: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(words, capture_output=True, text=True, timeout=900, **options)  # type: ignore[call-overload]


def orphans(marker: str) -> list[str]:
    """The command lines of processes, other than this one, whose command line has a marker."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


def _is_young(output: str) -> bool:
    """Whether a program had not begun: it had said nothing."""
    return not output.strip()


def wait_until(true: Callable[[], bool], patience: float) -> None:
    """Returns when something has become true, or after `patience` seconds."""
    end = time.monotonic() + patience
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
