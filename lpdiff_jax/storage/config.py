"""Configurations as JSON, and how two of them differ."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_pipeline.errors import DataError
from data_pipeline.files import read_json, write_whole
from data_pipeline.schema import Many, Text
from lpdiff_jax.errors import UserError
from lpdiff_jax.storage.bounds import fault_of_section

FILE_NAME = "config.json"
_MAX_BYTES = 10**7


def save_config(config: ConfigDict, path: Path) -> None:
    """Writes a configuration as JSON, whole or not at all."""
    write_whole(path, json.dumps(config.to_dict(), indent=1, default=list) + "\n")


def load_config(path: Path) -> ConfigDict:
    """Reads a configuration that `save_config` wrote.

    Raises:
      UserError: the file is missing or not a configuration.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: missing; is {path.parent} a work directory?")
    try:
        config = ConfigDict(read_json(path, _MAX_BYTES))
    except (DataError, ValueError, TypeError, AttributeError, RecursionError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: not a configuration ({why})") from error
    for name, section in config.items():
        if name in ("model", "sampler") and isinstance(section, ConfigDict):
            fault = fault_of_section(section.to_dict(), name)
            if fault:
                raise UserError(f"{path}: not a configuration ({fault})")
    if not isinstance(config.get("model"), ConfigDict):
        raise UserError(f"{path}: not a configuration (it lacks the section `model`)")
    fault = Many(Text(), most=20).fault(config.get("stages"), "stages")
    if fault:
        raise UserError(f"{path}: not a configuration ({fault})")
    return config


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """One line for each field in which two configurations differ."""
    before = dict(_flatten(json.loads(json.dumps(old.to_dict(), default=list))))
    after = dict(_flatten(json.loads(json.dumps(new.to_dict(), default=list))))
    absent = "(absent)"
    return [
        f"{name}: {before.get(name, absent)} -> {after.get(name, absent)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, absent) != after.get(name, absent)
    ]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
