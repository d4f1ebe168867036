"""Folders of image files: a group's files, what can be wrong with them, and natural order."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.images import IMAGE_SUFFIXES, read_bytes

_LITTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Problem:
    """What keeps a group from being used.

    Attributes:
      group: "<split>/<name>", or "" when the trouble is the tree's and no group is lost.
      path: the file or folder at fault.
      reason: what is wrong with it.
    """

    group: str
    path: Path
    reason: str

    def __str__(self) -> str:
        # Whatever bytes a file is named by, the line can be printed, and stays one line.
        return printable(f"{self.path}: {self.reason}")


@dataclass(frozen=True)
class Group:
    """The files of one group: frames far to near; target None where there is no ground truth."""

    name: str
    frames: tuple[Path, ...]
    target: Path | None
    text: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All image files, the ground truth last."""
        return self.frames if self.target is None else (*self.frames, self.target)

    def read(self) -> Example:
        """Reads the files; raises DataError naming the one that cannot be read."""
        target = None if self.target is None else read_bytes(self.target)
        return Example(self.name, tuple(map(read_bytes, self.frames)), target, self.text)


class TreeSource:
    """Groups of files, each read when asked for."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Example:
        return self.groups[index].read()


def printable(text: str) -> str:
    """`text` with what a terminal cannot or should not show written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts img_2 before img_10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)


def list_names(folder: Path) -> list[str]:
    """What is in a folder, in natural order, without the litter of file managers."""
    names = (name for name in os.listdir(folder) if not name.startswith("."))
    return sorted((n for n in names if n.lower() not in _LITTER), key=natural_key)


def image_files(group: str, folder: Path) -> tuple[list[Path], list[Problem]]:
    """The files of a folder in natural order, and a problem for each that is no image file."""
    try:
        paths = [folder / name for name in list_names(folder)]
    except FileNotFoundError:
        return [], [Problem(group, folder, "missing")]
    except OSError as error:
        return [], [Problem(group, folder, f"cannot be listed: {error.strerror or error}")]
    faults = ((path, _fault_of_file(path)) for path in paths)
    return paths, [Problem(group, path, fault) for path, fault in faults if fault]


def _fault_of_file(path: Path) -> str | None:
    """What is wrong with a file, as far as can be told without opening it."""
    if path.is_file():
        good = path.suffix.lower() in IMAGE_SUFFIXES
        return None if good else f"its name does not end in {', '.join(IMAGE_SUFFIXES)}"
    return "a link that leads to no file" if path.is_symlink() else "not a file"


def reason_of(error: DataError, path: Path) -> str:
    """The message of an error about `path`, without the path."""
    return str(error).removeprefix(f"{path}: ")
