"""Bounds of what a stored configuration may ask for, by the names of its fields.

A file can say anything. Whatever passes here is built in seconds and in little memory, or fails
with an error; whether it makes sense together is for the method that reads it to say.
"""

from collections.abc import Mapping
from typing import Any

from data_pipeline.schema import Kind, Number, Text
from data_pipeline.tree import printable

_WIDTH, _COUNT, _SHARE = Number(1, 16_384), Number(0, 64), Number(0, 1, whole=False)
_FACTOR = Number(1e-6, 1e6, whole=False)
_BETA = Number(1e-300, 1, whole=False)
# What a field of this name, or each value of its list, must be; null stands for its default.
_FIELDS: dict[str, Kind] = {
    "image_size": Number(1, 4096),
    "features": _WIDTH,
    "multipliers": Number(1, 64),
    "blocks": _COUNT,
    "frame_blocks": _COUNT,
    "layers": _COUNT,
    "slots": _COUNT,
    "heads": Number(1, 1024),
    "norm_groups": Number(1, 4096),
    "patch": Number(1, 64),
    "strides": Number(1, 16),
    "channel_kernel": Number(1, 63),
    "nominal_resolution": Number(1, 2**20),
    "attention_resolutions": Number(1, 2**20),
    "steps": Number(1, 100_000),
    "betas": _BETA,
    "dropout": _SHARE,
    "readable": _SHARE,
    "temperature": _FACTOR,
    "slope": _FACTOR,
    "residual_scale": _FACTOR,
    "dtype": Text(allowed=("float32", "bfloat16", "float16")),
    "charset": Text(20_000),
}
_OTHER_NUMBER = Number(-(2.0**20), 2.0**20, whole=False)
_OTHER_TEXT = Text(1000)
_LENGTHS = {"betas": 100_000}
_LENGTH = 64
_ENTRIES = 200
_DEPTH = 6


def fault_of_section(section: Any, at: str = "", depth: int = 0) -> str | None:
    """What is out of bounds in a section of a configuration; None where nothing is.

    Args:
      section: as JSON gives it: objects, lists, numbers, texts.
      at: the place of the section, for the message.
      depth: the depth of that place.
    """
    if not isinstance(section, Mapping):
        return f"{at or 'it'} is no section (an object)"
    if len(section) > _ENTRIES or depth > _DEPTH:
        return f"{at or 'it'} has more fields, or more levels, than any configuration"
    for name, value in section.items():
        place = f"{at}.{name}" if at else str(name)
        fault = _fault_of_field(name, value, printable(place[-80:]), depth)
        if fault:
            return fault
    return None


def _fault_of_field(name: str, value: Any, place: str, depth: int) -> str | None:
    if isinstance(value, Mapping):
        if name in _FIELDS:
            return f"{place} is an object, not a value"
        return fault_of_section(value, place, depth + 1)
    if not isinstance(value, list | tuple):
        return _fault_of_value(name, value, place)
    longest = _LENGTHS.get(name, _LENGTH)
    if len(value) > longest:
        return f"{place} has {len(value)} values; at most {longest} are allowed"
    faults = (_fault_of_value(name, part, f"{place}[{i}]") for i, part in enumerate(value))
    return next((fault for fault in faults if fault), None)


def _fault_of_value(name: str, value: Any, place: str) -> str | None:
    if value is None:
        return None
    if name in _FIELDS:
        return _FIELDS[name].fault(value, place)
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _OTHER_NUMBER.fault(value, place)
    return _OTHER_TEXT.fault(value, place)
