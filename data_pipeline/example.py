"""One group of frames as it is stored, and what a place that holds many of them can do."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.labels import TEXT_BYTES

# A plate's corners in an image, clockwise from the upper left: x, y as parts of its width, height.
Quad = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Example:
    """One vehicle's plate: frames from far to near, and what is known of it.

    Attributes:
      name: the group's name, unique within its split.
      frames: encoded images, at least one, in the order of the approach (nearest last).
      target: the encoded ground truth, or None where there is none.
      text: the plate's characters, or None where it is not labelled.
      corners: of the plate in each image, the ground truth last, or None where they are not known.
    """

    name: str
    frames: tuple[bytes, ...]
    target: bytes | None = None
    text: str | None = None
    corners: tuple[Quad, ...] | None = None

    @property
    def images(self) -> tuple[bytes, ...]:
        """All encoded images, the ground truth last."""
        return self.frames if self.target is None else (*self.frames, self.target)


class Source(Protocol):
    """Examples by position: what the pipeline reads from. Must be picklable and thread-safe."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


def nearest_frames(count: int, most: int) -> range:
    """Which of `count` frames, in order of the approach, are used where `most` may be: the last."""
    return range(max(0, count - most), count)


def as_quads(quads: Any) -> tuple[Quad, ...]:
    """Corners of each image, from what JSON or a record holds.

    Raises:
      ValueError: they are not four of two finite numbers each, as they should be.
      TypeError: likewise.
    """
    array = np.asarray(quads, np.float64)
    if array.ndim != 3 or array.shape[1:] != (4, 2) or not np.isfinite(array).all():
        raise ValueError("a plate has four corners in each image, of two numbers each")
    return tuple(tuple((float(x), float(y)) for x, y in quad) for quad in array)


def encode_text(text: str) -> np.ndarray:
    """A plate's text as u8 [32]: UTF-8, zero padded; all zero means that it is not known."""
    encoded = text.encode()
    if len(encoded) > TEXT_BYTES:
        raise DataError(f"plate text {text!r} is longer than {TEXT_BYTES} bytes of UTF-8")
    return np.frombuffer(encoded.ljust(TEXT_BYTES, b"\0"), np.uint8)


def decode_text(codes: np.ndarray) -> str:
    """The text of u8 [32]; the inverse of `encode_text`."""
    return codes.tobytes().rstrip(b"\0").decode()
