"""Drawn plates as a source: group i is drawn when it is asked for, and nothing lies on a disk."""

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.images import encode_ppm
from data_pipeline.synthetic.camera import CameraModel, Range
from data_pipeline.synthetic.groups import Rendered, check_drawing, render_group
from data_pipeline.synthetic.presets import PRESETS

# Groups that a source has: more than any training takes, and few enough that the sum over the
# sources of a mix is still a 32-bit number.
ENDLESS = 100_000_000


@dataclass(frozen=True)
class DrawnSource:
    """Groups of drawn plates, each a function of the seed and its index alone.

    Attributes:
      seed: together with the index it decides everything.
      num_frames, preset, styles, uniform, letters: as `groups.render_group` takes them.
      camera: field of `CameraModel` -> range, in place of the preset's.
    """

    seed: int = 0
    num_frames: int = 3
    preset: str = "real-like"
    styles: tuple[str, ...] = ()
    uniform: bool = False
    letters: str = ""
    camera: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_drawing(self.num_frames, self.preset, self.styles, self.letters)
        _ = self._ranges

    @cached_property
    def _ranges(self) -> CameraModel[Range]:
        return choose_camera(self.preset, self.camera)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Example:
        """Draws group `index`; its images are PPM, which costs nothing to decode."""
        group = render_group(
            stream(self.seed, "drawn", index),
            num_frames=self.num_frames,
            preset=self._ranges,
            styles=self.styles,
            uniform=self.uniform,
            letters=self.letters or ("varied" if self.preset == "varied" else ""),
        )
        return in_memory(f"drawn-{index}", group)


def choose_camera(preset: str, changes: Mapping[str, Any]) -> CameraModel[Range]:
    """A preset of `PRESETS` with some of its ranges replaced.

    Raises:
      DataError: there is no such preset or effect, or a range is none.
    """
    if preset not in PRESETS:
        raise DataError(f"{preset}: no such preset; choose of {', '.join(PRESETS)}")
    known = {f.name for f in dataclasses.fields(CameraModel)}
    for name, limits in changes.items():
        if name not in known:
            raise DataError(f"camera.{name}: no such effect; choose of {', '.join(sorted(known))}")
        if len(limits) != 2 or not limits[0] <= limits[1]:
            raise DataError(f"camera.{name} = {limits}: must be two numbers, the smaller first")
    ranges = {name: (float(low), float(high)) for name, (low, high) in changes.items()}
    return dataclasses.replace(PRESETS[preset], **ranges)


def stream(seed: int, name: str, index: int) -> np.random.Generator:
    """The generator of one group: of a seed, a purpose and an index."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def in_memory(name: str, group: Rendered) -> Example:
    """A group as an example."""
    corners = None
    if group.corners is not None:
        corners = tuple(tuple((float(x), float(y)) for x, y in quad) for quad in group.corners)
    frames = tuple(map(encode_ppm, group.frames))
    return Example(name, frames, encode_ppm(group.target), group.text, corners)
