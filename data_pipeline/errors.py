"""The one exception of this wing that a user is meant to read."""


class DataError(Exception):
    """A mistake in the user's data; the message names the file, the fault and the remedy."""
