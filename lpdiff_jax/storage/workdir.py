"""The work directory: claimed by one run at a time, and by one model for good."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.config import FILE_NAME, differences, load_config, save_config

_LOCK = "in-use.lock"


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Makes the directory, checks that it can be written, and keeps other runs out meanwhile.

    Raises:
      UserError: it cannot be written, or another run trains in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / _LOCK).open("a")
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot be the work directory ({error}); choose another --workdir"
        ) from error
    with lock:
        try:
            # The kernel gives the lock back when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{workdir}: another run trains in this directory; wait for it, or choose another "
                "--workdir"
            ) from error
        yield


def check_same_run(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError, field by field, when the directory holds another model's run.

    So does a run by another optimiser, whose memory could not be read.
    """
    path = workdir / FILE_NAME
    if not path.exists():
        return
    changed = [line for line in differences(load_config(path), config) if _makes_another(line)]
    if changed:
        raise UserError(
            f"{workdir} belongs to another model or optimiser; choose another --workdir, or undo:"
            + "".join(f"\n  {line}" for line in changed)
        )


def _makes_another(difference: str) -> bool:
    """Whether a run cannot go on with a field that differs; without the field it had AdamW."""
    if ".optimizer: " in difference:
        return not difference.endswith("(absent) -> adamw")
    return difference.startswith(("method", "model.", "stages"))


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes the configuration of the run that goes on from now.

    Raises:
      UserError: the directory is full or cannot be written.
    """
    try:
        save_config(config, workdir / FILE_NAME)
    except OSError as error:
        raise UserError(f"{workdir}: the configuration cannot be written ({error})") from error


def check_space(workdir: Path, state: Any) -> None:
    """Raises UserError when the disk has no room for two checkpoints of a tree of arrays."""
    free, size = space(workdir, state)
    if free < 2 * size:
        raise UserError(
            f"{workdir}: {free / 1e9:.2f} GB are free, and a checkpoint takes {size / 1e9:.2f} GB, "
            "twice while one replaces another; make room or choose another --workdir"
        )


def space(directory: Path, state: Any) -> tuple[int, int]:
    """The bytes that are free, and those that a tree of arrays takes."""
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    return shutil.disk_usage(directory).free, size
