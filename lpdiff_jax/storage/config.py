"""Configurations as JSON, and how two of them differ."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lpdiff_jax.errors import UserError

FILE_NAME = "config.json"


def save_config(config: ConfigDict, path: Path) -> None:
    """Writes a configuration as JSON, whole or not at all."""
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(config.to_dict(), indent=1, default=list) + "\n")
    temporary.replace(path)


def load_config(path: Path) -> ConfigDict:
    """Reads a configuration that `save_config` wrote.

    Raises:
      UserError: the file is missing or not a configuration.
    """
    try:
        return ConfigDict(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; is {path.parent} a work directory?") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a configuration ({error})") from error


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
