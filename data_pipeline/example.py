"""One group of frames as it is stored, and what a place that holds many of them can do."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Example:
    """One vehicle's plate: frames from far to near, and what is known of it.

    Attributes:
      name: the group's name, unique within its split.
      frames: encoded images, at least one, in the order of the approach (nearest last).
      target: the encoded ground truth, or None where there is none.
      text: the plate's characters, or None where it is not labelled.
    """

    name: str
    frames: tuple[bytes, ...]
    target: bytes | None = None
    text: str | None = None


class Source(Protocol):
    """Examples by position: what the pipeline reads from. Must be picklable and thread-safe."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...
