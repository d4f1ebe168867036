"""What a reader of plates is."""

from typing import Protocol, runtime_checkable

import numpy as np

from lpdiff_jax.plate_text import Reading


@runtime_checkable
class Reader(Protocol):
    """Anything that reads plates."""

    def read(self, images: np.ndarray) -> list[Reading]:
        """Reads uint8 RGB images [B, H, W, 3]."""


@runtime_checkable
class PosteriorReader(Reader, Protocol):
    """A reader that also gives its probabilities, so that several images can be read as one."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """float32 [B, T, C] of uint8 RGB images [B, H, W, 3]; each [C] sums to 1 at most."""

    def decode(self, probabilities: np.ndarray) -> list[Reading]:
        """Turns probabilities [B, T, C] into texts."""
