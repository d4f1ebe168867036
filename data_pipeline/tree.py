"""Folders of image files: a group's files, what can be wrong with them, and natural order."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.example import Example, Quad
from data_pipeline.files import read_bytes
from data_pipeline.images import IMAGE_SUFFIXES

# What file managers, archivers and storage boxes leave behind.
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx", "#recycle"})
# A file's name has at most 255 bytes on most systems; what is made of a group adds to its own.
_LONGEST_NAME = 180
_LONGEST_FILE_NAME = 255


@dataclass(frozen=True)
class Problem:
    """What keeps a group from being used.

    Attributes:
      group: "<split>/<name>", or "" when the trouble is the tree's and no group is lost.
      path: the file or folder at fault.
      reason: the fault of the group.
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
    corners: tuple[Quad, ...] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All image files, the ground truth last."""
        return self.frames if self.target is None else (*self.frames, self.target)

    def read(self) -> Example:
        """Reads the files; raises DataError naming the one that cannot be read."""
        target = None if self.target is None else read_bytes(self.target)
        frames = tuple(map(read_bytes, self.frames))
        return Example(self.name, frames, target, self.text, self.corners)


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


def is_file_name(name: str) -> bool:
    """Whether a name can be that of one file in a folder, and leads nowhere else."""
    if name in ("", ".", "..") or "/" in name or "\0" in name or "\\" in name:
        return False
    return len(name.encode(errors="surrogateescape")) <= _LONGEST_FILE_NAME


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts img_2 before img_10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or what a file manager has left: never data."""
    return name.startswith(".") or name.lower() in _LITTER


def list_names(folder: Path) -> list[str]:
    """What is in a folder, in natural order, without the litter of file managers."""
    return sorted((name for name in os.listdir(folder) if not is_litter(name)), key=natural_key)


def short_name(name: str) -> str:
    """A name that a file can have with something behind it: long ones are cut in the middle."""
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    side = (_LONGEST_NAME - 12) // 2
    start, end = os.fsencode(name)[:side], os.fsencode(name)[-side:]
    return f"{start.decode(errors='ignore')}~{digest}~{end.decode(errors='ignore')}"


def unique_names(names: Iterable[str]) -> list[str]:
    """Names, in order, with `~2`, `~3`, ... behind those that stand there already."""
    wanted = list(names)
    taken, unique = set(wanted), []
    seen: set[str] = set()
    for name in wanted:
        new, number = name, 1
        while new in seen or (number > 1 and new in taken):
            number += 1
            new = f"{name}~{number}"
        seen.add(new)
        unique.append(new)
    return unique


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(folder, folders in it, files in it) below `root`, in natural order, however deep.

    Links to folders are followed, though never twice into the same one. Litter is not entered.
    A folder that cannot be listed has neither folders nor files.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            names = list_names(folder)
        except OSError:
            yield folder, [], []
            continue
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        folders = [name for name in names if os.path.isdir(folder / name)]
        yield folder, folders, sorted(set(names).difference(folders), key=natural_key)
        waiting += [folder / name for name in reversed(folders)]


def unused_files(root: Path, used: Iterable[Path], blamed: Iterable[Path]) -> list[str]:
    """What lies below `root` and is not used, a line a kind of file.

    Args:
      root: the root of the tree.
      used: the files that are read.
      blamed: files and folders that a problem names already, with all in them.
    """
    known, named = set(map(str, used)), set(map(str, blamed))
    kinds: dict[str, list[Path]] = {}
    for folder, _, files in walk(root):
        if any(str(parent) in named for parent in (folder, *folder.parents)):
            continue
        for path in (folder / name for name in files):
            if str(path) not in known | named:
                kinds.setdefault(path.suffix.lower() or "without a suffix", []).append(path)
    return [
        printable(f"not used: {len(paths)} files {kind}, the first: {paths[0]}")
        for kind, paths in sorted(kinds.items())
    ]


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
