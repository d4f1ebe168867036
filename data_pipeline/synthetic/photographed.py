"""Clean pictures of real plates as a source: group i puts one of them before the far camera."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.synthetic.camera import CameraModel, Range
from data_pipeline.synthetic.drawn import ENDLESS, choose_camera, in_memory, stream
from data_pipeline.synthetic.groups import Rendered
from data_pipeline.synthetic.letters import COLOURS, TypeCase, known_style, set_anew
from data_pipeline.synthetic.pictures import (
    Picture,
    Retouch,
    Sight,
    held_out_texts,
    photograph,
    province_weights,
    read_pictures,
    take_part,
    view_picture,
)


@dataclass(frozen=True)
class PictureSource:
    """Groups of real plates, each a function of the seed and its index alone.

    Attributes:
      path: the folder of the pictures; see `pictures`.
      corners: a file of `lpdiff locate`, where it is not the folder's own.
      seed: together with the index it decides everything.
      num_frames: far frames per group.
      preset, camera: as `drawn.DrawnSource` takes them.
      part: `train`, `held-out` or `all`.
      held_out: the number of texts that are set aside for judging; see `pictures.held_out_texts`.
      avoid: further texts that are never shown, such as those that another source sets aside.
      balance: as `pictures.province_weights` takes it.
      recombine: share of plates whose texts are set anew, of characters of other plates; needs
        corners.
      colours: the colours of blue plates that are set anew or only painted: name of
        `letters.COLOURS` -> weight; needs corners.
      retouch: field of `pictures.Retouch` -> value, in place of its own.
    """

    path: str
    corners: str = ""
    seed: int = 0
    num_frames: int = 3
    preset: str = "real-like"
    camera: Mapping[str, Any] = field(default_factory=dict)
    part: str = "train"
    held_out: int = 0
    avoid: frozenset[str] = frozenset()
    balance: float = 0.5
    recombine: float = 0.0
    colours: Mapping[str, float] = field(default_factory=dict)
    retouch: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise DataError(f"num_frames is {self.num_frames}; it must be at least 1")
        unknown = self.colours.keys() - COLOURS.keys()
        if unknown or any(not weight >= 0 for weight in self.colours.values()):
            raise DataError(
                f"colours {dict(self.colours)}: must be weights of {', '.join(COLOURS)}, 0 or more"
            )
        if not 0 <= self.recombine <= 1 or not 0 <= self.balance <= 1:
            raise DataError(
                f"recombine is {self.recombine}, balance {self.balance}: both must be in 0..1"
            )
        _ = self._ranges, self._retouch, self.pictures
        if (self.recombine or self._paints[0]) and not self._case.pictures:
            raise DataError(
                f"{self.path}: no corners are known, so that no plate can be set anew: run "
                f"`lpdiff locate {self.path}`, or leave out `recombine` and `colours`"
            )

    @cached_property
    def pictures(self) -> list[Picture]:
        """The pictures of the part."""
        pictures = take_part(read_pictures(self.path, self.corners), self.part, self.held_out)
        kept = [picture for picture in pictures if picture.text not in self.avoid]
        if not kept:
            raise DataError(f"{self.path}: every plate is held out by this source or another")
        return kept

    @cached_property
    def aside(self) -> frozenset[str]:
        """The texts that are set aside for judging."""
        texts = [picture.text for picture in read_pictures(self.path, self.corners)]
        return held_out_texts(texts, self.held_out)

    @cached_property
    def _ranges(self) -> CameraModel[Range]:
        return choose_camera(self.preset, self.camera)

    @cached_property
    def _retouch(self) -> Retouch:
        known = {f.name for f in dataclasses.fields(Retouch)}
        for name in self.retouch.keys() - known:
            raise DataError(f"retouch.{name}: no such effect; choose of {', '.join(sorted(known))}")
        return Retouch(**self.retouch)

    @cached_property
    def _chances(self) -> np.ndarray:
        return np.cumsum(province_weights([p.text for p in self.pictures], self.balance))

    @cached_property
    def _case(self) -> TypeCase:
        fit = [picture for picture in self.pictures if known_style(picture) is not None]
        return TypeCase(fit, self.balance)

    @cached_property
    def _paints(self) -> tuple[list[str], np.ndarray]:
        """The colours that plates may have and their chances; none where all stay as they are."""
        names = [name for name, weight in self.colours.items() if weight > 0]
        weights = np.array([self.colours[name] for name in names], float)
        return names if names != ["blue"] else [], weights / max(weights.sum(), 1e-9)

    def without(self, texts: frozenset[str]) -> "PictureSource":
        """The same source, but that plates of these texts are not trained on."""
        if self.part != "train":
            return self
        return dataclasses.replace(self, avoid=self.avoid | texts)

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> Example:
        """Photographs group `index`; its images are PPM, which costs nothing to decode."""
        group = self.render(stream(self.seed, "pictures", index), index)
        return in_memory(f"picture-{index}", group)

    def render(self, rng: np.random.Generator, index: int) -> Rendered:
        """Photographs one picture, as `groups.render_group` does a drawn plate.

        Plates to train on are drawn by chance; those that are held out come in turn, so that a set
        to judge by shows them equally often.
        """
        turn = index % len(self.pictures)
        if self.part != "held-out":
            turn = int(np.searchsorted(self._chances, rng.random() * self._chances[-1], "right"))
        retouch = self._retouch
        sight = self._set_anew(self.pictures[turn], rng)
        if sight is None:
            sight = view_picture(self.pictures[turn], retouch, rng)
        return photograph(sight, self._ranges, retouch, self.num_frames, rng)

    def _set_anew(self, picture: Picture, rng: np.random.Generator) -> Sight | None:
        """The picture with another text or colour, as often as is asked for; None: as it is."""
        names, chances = self._paints
        other_text = rng.random() < self.recombine
        colour = str(rng.choice(names, p=chances)) if names else "blue"
        if not other_text and colour == "blue":
            return None
        return set_anew(picture, self._case, colour, rng, self.avoid | self.aside, not other_text)
