"""Tracks: the same plate from frame to frame, and the best of its frames."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from lpdiff_jax.restoring.regions import Region, overlap

# Boxes are grown by their own size on each side before they are compared: plates are small, and
# move by more than their height between frames.
_MARGIN = 1.0
_SAME = 0.2
# Frames that a plate may be missing from before its track ends.
PATIENCE = 10
# Sharpness is judged at the size that the networks see.
_CANVAS = (96, 48)


@dataclass
class _Track:
    number: int
    region: Region
    frame: int


@dataclass
class Tracker:
    """Joins boxes into tracks, by overlap with the last box of each.

    Attributes:
      patience: frames that a plate may be missing from.
    """

    patience: int = PATIENCE
    _open: list[_Track] = field(default_factory=list)
    _count: int = 0

    def join(self, frame: int, regions: Sequence[Region]) -> list[int]:
        """The track of each region of a frame; frames come in order."""
        self._open = [t for t in self._open if frame - t.frame <= self.patience]
        pairs = sorted(
            (
                (overlap(track.region, region, _MARGIN), t, r)
                for t, track in enumerate(self._open)
                for r, region in enumerate(regions)
            ),
            reverse=True,
        )
        found: dict[int, int] = {}
        for share, t, r in pairs:
            if share >= _SAME and r not in found and t not in found.values():
                found[r] = t
        return [self._continue(found.get(r), region, frame) for r, region in enumerate(regions)]

    def _continue(self, place: int | None, region: Region, frame: int) -> int:
        if place is None:
            self._count += 1
            self._open.append(_Track(self._count, region, frame))
            return self._count
        track = self._open[place]
        track.region, track.frame = region, frame
        return track.number


@dataclass(order=True)
class _Ranked:
    merit: float
    order: int
    item: object = field(compare=False)


class BestFrames:
    """The best frames of a track, as many as are wanted; the others are forgotten at once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[_Ranked] = []
        self.seen = 0

    def add(self, merit: float, item: object) -> None:
        """Offers a frame; of equal merit the later one stays, in which the plate is nearer."""
        entry = _Ranked(merit, self.seen, item)
        self.seen += 1
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def in_order(self) -> list:
        """What stayed, in the order of time."""
        return [entry.item for entry in sorted(self._heap, key=lambda e: e.order)]


def merit(plate: np.ndarray, size: tuple[int, int]) -> float:
    """How good a frame of a track is: the logarithm of its size, plus half that of its sharpness.

    Args:
      plate: the crop, uint8 RGB, of any size.
      size: (height, width) of the plate in the frame, pixels.
    """
    small = cv2.resize(plate, _CANVAS, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return math.log(size[0] * size[1]) / 2 + math.log(sharpness + 1.0) / 2
