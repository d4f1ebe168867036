"""One job at a time, a bounded queue before it."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# A guess, until there has been a job to go by.
_FIRST_GUESS = 5.0


class Busy(Exception):
    """The queue is full.

    Attributes:
      seconds: after which it is worth another try.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the server is busy; try again in {seconds} s")
        self.seconds = seconds


class Jobs:
    """Runs functions in one thread, in the order they came.

    Attributes:
      waiting: jobs that are there, the one worked on included.
    """

    def __init__(self, queue: int) -> None:
        self._most = queue + 1
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lpdiff-job")
        self.waiting = 0
        self._usual = _FIRST_GUESS

    def check(self) -> None:
        """Raises `Busy` where no further job is taken."""
        if self.waiting >= self._most:
            raise Busy(max(1, round(self._usual * self.waiting)))

    async def run(self, function: Callable[[], T]) -> T:
        """Runs a function when its turn has come; given up before, it does not run at all.

        Raises:
          Busy: the queue is full.
        """
        self.check()
        self.waiting += 1
        given_up = False

        def work() -> T | None:
            if given_up:
                return None
            begun = time.monotonic()
            try:
                return function()
            finally:
                self._usual += 0.3 * (time.monotonic() - begun - self._usual)

        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # Not when the client leaves, but when the thread is free again.
        future.add_done_callback(self._done)
        try:
            result = await asyncio.shield(future)
        except asyncio.CancelledError:
            given_up = True
            raise
        assert result is not None
        return result

    def _done(self, future: "asyncio.Future") -> None:
        self.waiting -= 1
        if not future.cancelled():
            future.exception()  # seen here also where nobody waits for it any more

    def close(self) -> None:
        """Ends the thread, after the job it works on."""
        self._pool.shutdown(wait=True, cancel_futures=True)
