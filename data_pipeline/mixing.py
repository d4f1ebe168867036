"""Several sources as one, each with its share of the training stream."""

import bisect
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.example import Example, Source
from data_pipeline.sources import open_source


@dataclass(frozen=True)
class MixedSource:
    """Sources laid end to end, and how often each is drawn from.

    As a source it is their concatenation; `pipeline.train_dataset` takes examples by the weights.

    Attributes:
      parts: the sources that are mixed.
      weights: the weights of the parts, positive; their sum does not matter.
      description: what decides which example has which index: runs may be taken up where it is
        the same.
    """

    parts: tuple[Source, ...]
    weights: tuple[float, ...]
    description: str = ""

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.weights):
            raise DataError(f"{len(self.parts)} sources and {len(self.weights)} weights to mix")
        if not all(0.0 < weight < float("inf") for weight in self.weights):
            raise DataError(f"weights {self.weights}: must be positive numbers")
        if not all(map(len, self.parts)):
            raise DataError("a training source has no examples")

    @cached_property
    def starts(self) -> list[int]:
        """Index of each part's first example, and the number of examples."""
        return [0, *itertools.accumulate(len(part) for part in self.parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        k = bisect.bisect_right(self.starts, index) - 1
        return self.parts[k][index - self.starts[k]]


def open_mix(sections: Mapping[str, Mapping[str, Any]], num_frames: int, seed: int) -> MixedSource:
    """Opens the sources of a training stream.

    Args:
      sections: name -> `kind`, `weight` (1 where it is not given) and what belongs to the kind:
        `root`: `path`, a data set that `open_source` opens, and `split` (`train`);
        `drawn`: fields of `synthetic.drawn.DrawnSource`;
        `pictures`: fields of `synthetic.photographed.PictureSource`; a text that one of them holds
        out is shown by none;
        `second_order`: fields of `synthetic.second_order.SecondOrderSource`.
        A section of weight 0 is left out.
      num_frames: far frames of groups that are made.
      seed: the seed of those whose sections name none.

    Raises:
      DataError: an unknown kind or field, or a source that cannot be opened.
    """
    used = {name: dict(s) for name, s in sections.items() if s.get("weight", 1.0) != 0}
    if not used:
        raise DataError("sources: every weight is 0; at least one must be positive")
    defaults = {"num_frames": num_frames, "seed": seed}
    return MixedSource(
        tuple(_set_aside([_open(name, section, defaults) for name, section in used.items()])),
        tuple(float(section.get("weight", 1.0)) for section in used.values()),
        json.dumps([used, defaults], sort_keys=True, default=str, ensure_ascii=False),
    )


def _open(name: str, section: Mapping[str, Any], defaults: Mapping[str, Any]) -> Source:
    # Drawing needs more modules than reading does.
    from data_pipeline.synthetic.drawn import DrawnSource
    from data_pipeline.synthetic.photographed import PictureSource
    from data_pipeline.synthetic.second_order import SecondOrderSource

    fields = {key: v for key, v in section.items() if key not in ("kind", "weight")}
    kind = section.get("kind")
    if kind == "root":
        unknown = fields.keys() - {"path", "split"}
        if unknown or "path" not in fields:
            raise DataError(f"sources.{name}: of kind 'root' has `path` and `split`, not {fields}")
        return open_source(fields["path"], fields.get("split", "train"))
    kinds: dict[str, Any] = {
        "drawn": DrawnSource, "pictures": PictureSource, "second_order": SecondOrderSource,
    }  # fmt: skip
    if kind not in kinds:
        raise DataError(
            f"sources.{name}.kind = {kind!r}: must be 'root' or one of {', '.join(kinds)}"
        )
    known = {f.name for f in dataclasses.fields(kinds[kind])}
    unknown = fields.keys() - known
    if unknown or (kind != "drawn" and "path" not in fields):
        fault = f"unknown: {', '.join(sorted(unknown))}" if unknown else "`path` is missing"
        raise DataError(
            f"sources.{name}: {fault}; a source of kind {kind!r} has {', '.join(sorted(known))}"
        )
    return kinds[kind](**(dict(defaults) | fields))


def _set_aside(parts: Sequence[Source]) -> list[Source]:
    """Makes what one part holds out unseen in the others, too."""
    from data_pipeline.synthetic.photographed import PictureSource

    aside = frozenset().union(*(part.aside for part in parts if isinstance(part, PictureSource)))
    return [part.without(aside) if isinstance(part, PictureSource) else part for part in parts]
