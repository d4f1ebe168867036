"""Kinds of arguments that several commands take; argparse says what is wrong with one."""

import argparse
from collections.abc import Callable
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.files import local_path

# What a seed of JAX's noise may be.
LARGEST_SEED = 2**32 - 1


def path(text: str) -> Path:
    """A place on this machine; `~` is the user's home."""
    try:
        return local_path(text)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number within bounds."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: a whole number from {low} to {high:,}")
        return value

    return number


# Calls of the denoiser; that a schedule has as many, the sampler checks.
STEPS = whole(1, 1_000_000)


def seed(text: str) -> int:
    """A seed of random numbers."""
    return whole(0, LARGEST_SEED)(text)
