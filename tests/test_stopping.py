"""Signals end a program by an exception, wherever they arrive."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from lpdiff_jax.errors import Preempted
from lpdiff_jax.parallel import lost
from lpdiff_jax.stopping import by_signals


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt; shells have what runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_sigterm_raises_once_and_the_handler_goes_back():
    before = signal.getsignal(signal.SIGTERM)
    cleaned = False
    with pytest.raises(Preempted, match="go on"), by_signals("go on"):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # a second one does not disturb the cleaning up
            cleaned = True
    assert cleaned and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Preempted)]
)
def test_a_signal_that_arrives_in_a_destructor_is_not_lost(number, kind, interruptible):
    class Last:
        def __del__(self):
            signal.raise_signal(number)

    with pytest.raises(kind), by_signals("go on"):
        thing = Last()
        del thing  # Python can only print what is raised there
        time.sleep(5)
        pytest.fail("the signal was lost")


def test_no_failure_is_taken_for_what_a_signal_has_raised():
    """As a decoder takes whatever a damaged picture raises."""
    with pytest.raises(Preempted), by_signals("go on"):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pytest.fail("the picture would have been damaged")


def test_leaving_does_what_is_left_to_do_and_waits_for_no_thread():
    words = (
        "import atexit, threading, time; from lpdiff_jax.cli.endings import leave; "
        "atexit.register(print, 'cleaned'); threading.Thread(target=time.sleep, args=[60]).start();"
        "print('said', end=' '); leave(75)"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (75, "said cleaned\n"), done.stderr


def test_a_signal_behind_the_end_changes_no_status():
    """While Python takes itself apart, which takes longest where much was imported."""
    words = (
        "import atexit, os, signal, sys; from lpdiff_jax import cli; sys.argv = ['lpdiff'];"
        "cli.main = lambda: 0; atexit.register(os.kill, os.getpid(), signal.SIGTERM); cli.program()"
    )
    assert subprocess.run([sys.executable, "-c", words], timeout=50).returncode == 0


def test_what_jax_itself_asks_for_is_nobodys_wish():
    given = [{}, {"TF_CPP_MIN_LOG_LEVEL": "1"}, {"TF_CPP_MIN_LOG_LEVEL": "0"}]
    for environment in given:
        lost.quieten(environment)
    assert [environment["TF_CPP_MIN_LOG_LEVEL"] for environment in given] == ["4", "4", "0"]


def test_other_threads_are_left_alone():
    done = []

    def work():
        with by_signals("go on"):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
