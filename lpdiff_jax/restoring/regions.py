"""Where in a picture a plate is, and the plate cut out of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.errors import DataError

# A plate of fewer pixels holds no characters.
SMALLEST = (8, 4)
# An edge this long is no plate's: it would fill the memory.
_LONGEST = 8192


@dataclass(frozen=True)
class Region:
    """A plate in a picture, in pixels of it; x to the right, y down, (0, 0) the upper left edge.

    Attributes:
      corners: upper left, upper right, lower right and lower left.
      upright: a box, which is cut out as it is; else the perspective is undone.
    """

    corners: tuple[tuple[float, float], ...]
    upright: bool

    @classmethod
    def of_box(cls, x: float, y: float, width: float, height: float) -> "Region":
        """A box by its upper left corner and its size; raises ValueError where it is none."""
        if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
            raise ValueError(f"no box: x {x:g}, y {y:g}, width {width:g}, height {height:g}")
        right, bottom = x + width, y + height
        return cls(((x, y), (right, y), (right, bottom), (x, bottom)), True)

    @classmethod
    def of_corners(cls, points: "np.ndarray | list") -> "Region":
        """Four corners [4, 2] in any order; raises ValueError where they span no plate."""
        corners = np.asarray(points, np.float64)
        if corners.shape != (4, 2) or not np.isfinite(corners).all():
            raise ValueError("four corners are wanted, an x and a y each")
        corners = _in_order(corners)
        if cv2.contourArea(corners.astype(np.float32)) < 1.0:
            raise ValueError("the four corners span no area")
        return cls(tuple((float(x), float(y)) for x, y in corners), False)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height of the upright box around it."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)

    def describe(self) -> dict[str, list]:
        """As results state it, rounded to a hundredth of a pixel."""
        if self.upright:
            return {"box": [round(value, 2) for value in self.box]}
        return {"corners": [[round(x, 2), round(y, 2)] for x, y in self.corners]}


@dataclass(frozen=True)
class MovingRegion:
    """A region at several moments; between them it moves evenly, before and behind it rests.

    Attributes:
      moments: seconds of a video, or numbers of pictures, rising.
      regions: where the plate is then.
    """

    moments: tuple[float, ...]
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, keys: Sequence[tuple[float, Region]]) -> "MovingRegion":
        """From moments and regions in any order; raises ValueError where two share a moment."""
        keys = sorted(keys, key=lambda key: key[0])
        moments = tuple(moment for moment, _ in keys)
        if len(set(moments)) != len(moments):
            raise ValueError("two boxes are of the same moment")
        return cls(moments, tuple(region for _, region in keys))

    def at(self, moment: float) -> Region:
        """The region at a moment."""
        upright = all(region.upright for region in self.regions)
        corners = np.array([region.corners for region in self.regions], np.float64)
        now = [
            [float(np.interp(moment, self.moments, corners[:, k, axis])) for axis in (0, 1)]
            for k in range(4)
        ]
        return Region(tuple((x, y) for x, y in now), upright)

    def describe(self) -> dict[str, list]:
        """As results state it."""
        keys = zip(self.moments, self.regions, strict=True)
        return {"moving": [{"moment": moment} | region.describe() for moment, region in keys]}


def cut(image: np.ndarray, region: Region, name: str) -> np.ndarray:
    """Cuts a plate out of a picture; what lies outside of the picture repeats its edge.

    Args:
      image: uint8 RGB [H, W, 3].
      region: where.
      name: of the picture, for errors.

    Returns:
      uint8 RGB [h, w, 3]; a view of `image` where the region is a box within it.

    Raises:
      DataError: the region lies outside, or is too small to hold characters.
    """
    height, width = image.shape[:2]
    x, y, w, h = region.box
    if x + w <= 0 or y + h <= 0 or x >= width or y >= height:
        raise DataError(
            f"{name}: the box x {x:g}, y {y:g}, {w:g} x {h:g} lies outside of the picture, which "
            f"has {width} x {height} pixels"
        )
    if max(w, h) > _LONGEST:
        raise DataError(f"{name}: the box is {w:g} x {h:g} pixels, too large for a plate")
    plate = _cut_box(image, region) if region.upright else _straighten(image, region)
    if plate.shape[1] < SMALLEST[0] or plate.shape[0] < SMALLEST[1]:
        raise DataError(
            f"{name}: the plate at x {x:g}, y {y:g} has {plate.shape[1]} x {plate.shape[0]} "
            f"pixels; {SMALLEST[0]} x {SMALLEST[1]} are the least"
        )
    return plate


def overlap(one: Region, other: Region, margin: float = 0.0) -> float:
    """Intersection over union of two regions' boxes, each grown by `margin` of its size."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = (_grown(r.box, margin) for r in (one, other))
    wide = min(ax + aw, bx + bw) - max(ax, bx)
    high = min(ay + ah, by + bh) - max(ay, by)
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / (aw * ah + bw * bh - both)


def _grown(box: tuple[float, ...], margin: float) -> tuple[float, ...]:
    x, y, w, h = box
    return x - margin * w, y - margin * h, w * (1 + 2 * margin), h * (1 + 2 * margin)


def _in_order(corners: np.ndarray) -> np.ndarray:
    """Clockwise from the upper left one, whatever order they came in."""
    centre = corners.mean(0)
    angles = np.arctan2(*(corners - centre).T[::-1])
    around = corners[np.argsort(angles)]  # clockwise on a screen, from the left of the centre on
    first = int(np.argmin(around.sum(1)))
    return np.roll(around, -first, axis=0)


def _cut_box(image: np.ndarray, region: Region) -> np.ndarray:
    x, y, w, h = region.box
    height, width = image.shape[:2]
    left, right = max(math.floor(x), 0), min(math.ceil(x + w), width)
    top, bottom = max(math.floor(y), 0), min(math.ceil(y + h), height)
    return image[top:bottom, left:right]


def _straighten(image: np.ndarray, region: Region) -> np.ndarray:
    """The plate seen from the front, as wide and high as its longer edges."""
    corners = np.asarray(region.corners, np.float32)
    edges = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    width, height = (max(round(float(max(pair))), 1) for pair in (edges[::2], edges[1::2]))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # Corners lie on the edges of pixels, and OpenCV counts from their centres.
    matrix = cv2.getPerspectiveTransform(corners - 0.5, target - 0.5)
    return cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
