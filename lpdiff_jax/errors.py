"""Exceptions that a user is meant to read, and the check that most often raises one."""

from collections.abc import Sequence


class UserError(Exception):
    """A user's mistake: the message says what is wrong, where, and what to do.

    Entry points print it on standard error, without a traceback, and exit with status 2.
    """


class Preempted(Exception):
    """A signal stopped the run, after its state was saved; the same command goes on from there."""


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError, naming what is allowed, when a named choice is not one of them."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
