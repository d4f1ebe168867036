"""What data from a file must look like, declared with bounds, and checked before it is used.

INDEX = Object({"format": Text(), "splits": Map(Many(SHARD, most=10_000))})
check(INDEX, parsed, path)      # DataError: "index.json: splits.train[0].groups is -1; ..."
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from data_pipeline.errors import DataError


class Kind(Protocol):
    """One kind of value."""

    def fault(self, value: Any, at: str) -> str | None:
        """What is wrong with the value that stands at a place; None where nothing is."""


def check(kind: Kind, value: Any, name: str | Path) -> None:
    """Raises DataError, naming the file and the place in it, unless a value is of a kind."""
    fault = kind.fault(value, "")
    if fault:
        raise DataError(f"{name}: {fault}")


@dataclass(frozen=True)
class Number:
    """A finite number within bounds; `whole` ones are integers."""

    low: float
    high: float
    whole: bool = True

    def fault(self, value: Any, at: str) -> str | None:
        kinds = (int,) if self.whole else (int, float)
        name = "a whole number" if self.whole else "a number"
        if isinstance(value, bool) or not isinstance(value, kinds):
            return f"{_place(at)} is {_shown(value)}, not {name}"
        # In this order: a huge integer cannot be made a float.
        if not self.low <= value <= self.high:
            return f"{_place(at)} is {_shown(value)}; allowed: {self.low:g} to {self.high:g}"
        return None


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def fault(self, value: Any, at: str) -> str | None:
        good = isinstance(value, bool)
        return None if good else f"{_place(at)} is {_shown(value)}, not true or false"


@dataclass(frozen=True)
class Text:
    """A text of a limited number of characters; one of `allowed`, where those are given."""

    longest: int = 1000
    allowed: tuple[str, ...] = ()

    def fault(self, value: Any, at: str) -> str | None:
        if not isinstance(value, str):
            return f"{_place(at)} is {_shown(value)}, not a text"
        if self.allowed and value not in self.allowed:
            return f"{_place(at)} is {_shown(value)}; allowed: {', '.join(self.allowed)}"
        if len(value) > self.longest:
            return f"{_place(at)} has {len(value)} characters; at most {self.longest} are allowed"
        return None


@dataclass(frozen=True)
class Maybe:
    """A value of a kind, or null."""

    kind: Kind

    def fault(self, value: Any, at: str) -> str | None:
        return None if value is None else self.kind.fault(value, at)


@dataclass(frozen=True)
class Many:
    """A list (or tuple) of values of one kind."""

    kind: Kind
    fewest: int = 0
    most: int = 1_000_000

    def fault(self, value: Any, at: str) -> str | None:
        if not isinstance(value, list | tuple):
            return f"{_place(at)} is {_shown(value)}, not a list"
        if not self.fewest <= len(value) <= self.most:
            return f"{_place(at)} has {len(value)} values; allowed: {self.fewest} to {self.most}"
        faults = (self.kind.fault(part, f"{at}[{i}]") for i, part in enumerate(value))
        return next((fault for fault in faults if fault), None)


@dataclass(frozen=True)
class Map:
    """An object of any names, of values of one kind."""

    kind: Kind
    most: int = 10_000

    def fault(self, value: Any, at: str) -> str | None:
        if not _is_object(value):
            return f"{_place(at)} is {_shown(value)}, not an object"
        if len(value) > self.most:
            return f"{_place(at)} has {len(value)} entries; at most {self.most} are allowed"
        faults = (self.kind.fault(part, _inside(at, name)) for name, part in value.items())
        return next((fault for fault in faults if fault), None)


@dataclass(frozen=True)
class Object:
    """An object of these fields, some of which may be missing, and of no others unless `open`."""

    fields: Mapping[str, Kind]
    optional: Mapping[str, Kind] = field(default_factory=dict)
    open: bool = False

    def fault(self, value: Any, at: str) -> str | None:
        if not _is_object(value):
            return f"{_place(at)} is {_shown(value)}, not an object"
        known = {**self.fields, **self.optional}
        missing = [name for name in self.fields if name not in value]
        if missing:
            return f"{_place(at)} lacks {', '.join(missing)}"
        unknown = [name for name in value if name not in known]
        if unknown and not self.open:
            return f"{_place(at)} has a field {_shown(unknown[0])}, which is not known"
        faults = (known[n].fault(part, _inside(at, n)) for n, part in value.items() if n in known)
        return next((fault for fault in faults if fault), None)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _inside(at: str, name: str) -> str:
    return f"{at}.{name[:60]}" if at else name[:60]


def _place(at: str) -> str:
    return at or "its content"


def _shown(value: Any) -> str:
    """A value as a message can have it, however large."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:60]}...")
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"
