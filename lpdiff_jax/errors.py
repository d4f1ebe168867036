"""Exceptions that a user is meant to read."""


class UserError(Exception):
    """A user's mistake: the message says what is wrong, where, and what to do.

    Entry points print it on standard error, without a traceback, and exit with status 2.
    """
