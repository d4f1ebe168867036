"""Exceptions that a user is meant to read, and the check that most often raises one."""

import contextlib
from collections.abc import Iterator, Sequence


class UserError(Exception):
    """A user's mistake: the message says what is wrong, where, and what to do.

    Entry points print it on standard error, without a traceback, and exit with status 2.
    """


class Preempted(BaseException):
    """A signal stopped the run, after its state was saved; the same command goes on from there.

    No `Exception`, as KeyboardInterrupt is none: a signal arrives anywhere, also where a decoder's
    failures are caught, and would make a sound picture a damaged one.
    """


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError, naming what is allowed, when a named choice is not one of them."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


@contextlib.contextmanager
def explained_section(name: str) -> Iterator[None]:
    """What a configuration's section cannot mean becomes a UserError that names the section."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
        why = f"{kind}{error}"[:500]
        raise UserError(f"the configuration's section `{name}` does not fit: {why}") from error
