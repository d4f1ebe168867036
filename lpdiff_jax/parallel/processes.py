"""The processes of a run: which one this is, how it meets the others, how all fail together."""

import contextlib
import os
import sys
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from lpdiff_jax.errors import UserError
from lpdiff_jax.parallel import lost
from lpdiff_jax.parallel.cluster import in_cluster

# Process 0 writes the report at the end; the others wait for it that long when they leave.
_PATIENCE_SECONDS = 1800


def initialize(coordinator: str | None, index: int | None, count: int | None) -> None:
    """Joins this process to the others; does nothing where it trains alone.

    Args:
      coordinator: host:port of process 0; with None, what the environment says: JAX's own
        variables, SLURM, Open MPI or a TPU pod.
      index: this process, 0-based.
      count: the number of processes.

    Raises:
      UserError: arguments that do not fit together, or processes that do not meet.
    """
    given = [x is not None for x in (coordinator, index, count)]
    if not any(given) and not in_cluster(os.environ):
        return
    if any(given) and not all(given):
        raise UserError("--coordinator, --process-id and --process-count go together: give all")
    if index is not None and count is not None and not 0 <= index < count:
        raise UserError(
            f"--process-id={index} with --process-count={count}: ids go from 0 to {count - 1}"
        )
    # JAX would catch SIGTERM itself, look for it once a second, and tell by a count of calls that
    # Orbax makes too, with numbers of its own: a signal could be lost. `StopRequest` takes it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator, count, index, shutdown_timeout_seconds=_PATIENCE_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run could not meet: {error}") from error
    lost.end_with_a_sentence()


def process_index() -> int:
    """This process, 0-based."""
    return jax.process_index()


def process_count() -> int:
    """Processes that train together."""
    return jax.process_count()


def is_main() -> bool:
    """Whether this process writes logs and pictures."""
    return jax.process_index() == 0


def tell(message: str) -> None:
    """Prints a line, once for all processes."""
    if is_main():
        print(message, flush=True)


def wait_for_all(where: str) -> None:
    """Returns when every process is at the place of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What fails in one process fails in all, so that none waits for one that has left.

    Raises:
      UserError: another process failed, and this one did not.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    one_failed = failure is not None
    if jax.process_count() > 1:
        one_failed = multihost_utils.process_allgather(np.array(one_failed)).any()
    if failure is not None:
        raise failure
    if one_failed:
        raise UserError("another process of this run has failed, and says why")


def leave_at_once(status: int) -> None:
    """Ends this process, where it has joined others; does nothing where it trains alone.

    On the usual way out it waits for the others, who may be waiting for it to train on. JAX ends
    them when it sees that this one has left.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
