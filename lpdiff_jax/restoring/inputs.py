"""What a user gives to restore, found without opening it: folders, pictures and videos.

A folder of pictures is one source, a folder of folders many (at any depth), a picture or a video by
itself a source of its own. What a source holds is read later, one plate at a time (`reading`).
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline import files
from data_pipeline.errors import DataError
from data_pipeline.images import IMAGE_SUFFIXES
from data_pipeline.tree import natural_key, printable
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.video import VIDEO_SUFFIXES, is_video

# Left by file managers, cameras and archives: no user means them.
_LITTER_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "lost+found"})
_LITTER_FILES = frozenset({"thumbs.db", "desktop.ini", ".ds_store"})
# Pictures that no decoder here reads.
_FOREIGN = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".psd", ".svg", ".pdf", ".dng", ".cr2")
PICTURE_SUFFIXES = IMAGE_SUFFIXES
# What `lpdiff restore` writes; a folder that holds these is one of its outputs.
_OUTPUTS = ("restore.json", "restored", "sheets")


@dataclass(frozen=True)
class Source:
    """Files that belong together: the pictures of a folder in natural order, or one video.

    Attributes:
      name: the name of the results, before it is made a file name.
      path: the folder, or the file where it was given by itself.
      files: the pictures in order, or the video.
    """

    name: str
    path: Path
    files: tuple[Path, ...]

    @property
    def is_video(self) -> bool:
        """Whether it is a video."""
        return is_video(self.files[0])


@dataclass
class Found:
    """What was found.

    Attributes:
      sources: the sources, in natural order.
      problems: a line for each picture or video that cannot be used.
      notes: a line for each kind of file that was left aside on purpose.
    """

    sources: list[Source] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_sources(inputs: Sequence[str | Path], output: str | Path | None = None) -> Found:
    """Finds the sources that a user's arguments name.

    Args:
      inputs: the folders, pictures and videos.
      output: the folder of the results; nothing in it is an input.

    Raises:
      UserError: a path that does not exist, or holds nothing to restore.
    """
    found = Found()
    aside = _Aside()
    seen: set[tuple[int, int]] = set()
    for given in inputs:
        path = local_path(given)
        before = len(found.sources)
        if path.is_file():
            found.sources.append(_single(path))
        elif path.is_dir():
            for source in _walk(path, _identity(output), seen, found.problems, aside):
                found.sources.append(source)
            if len(found.sources) == before:
                raise UserError(_nothing(path, found.problems, aside))
        else:
            raise UserError(f"{printable(str(path))}: no such file or folder")
    found.notes += aside.lines()
    return found


def local_path(given: str | Path) -> Path:
    """A path of this machine, `~` resolved; raises UserError for the address of another."""
    try:
        return files.local_path(given)
    except DataError as error:
        raise UserError(str(error)) from None


class _Aside:
    """Files that were not used, counted by their kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, Path] = {}

    def add(self, kind: str, path: Path) -> None:
        self._counts[kind] += 1
        self._first.setdefault(kind, path)

    def lines(self) -> list[str]:
        return [
            printable(f"not used: {count} x {kind}, such as {self._first[kind]}")
            for kind, count in sorted(self._counts.items())
        ]


def _nothing(path: Path, problems: Sequence[str], aside: _Aside) -> str:
    reasons = [*problems, *aside.lines()][:3]
    return printable(
        f"{path}: no images in this folder or the folders in it"
        + (f" ({'; '.join(reasons)})" if reasons else "")
    )


def _single(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        return Source(path.stem, path, (path,))
    foreign = f"; pictures of this kind ({suffix}) are not read: save it as PNG or JPEG"
    raise UserError(
        printable(f"{path}: neither an image nor a video by its name")
        + (foreign if suffix in _FOREIGN else "")
    )


def _identity(path: str | Path | None) -> tuple[int, int] | None:
    try:
        status = os.stat(path) if path is not None else None
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if status else None


def _walk(
    top: Path,
    output: tuple[int, int] | None,
    seen: set[tuple[int, int]],
    problems: list[str],
    aside: _Aside,
) -> Iterator[Source]:
    """The sources below a folder, depth first; folders that were seen are not entered again.

    Not recursive: a chain of a thousand folders is no reason to stop.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        identity = _identity(folder)
        if folder != top and (identity == output or _is_output(folder)):
            aside.add("results of an earlier restoration", folder)
            continue
        if identity is None or identity in seen:
            reason = "seen already, by another way" if identity else "cannot be opened"
            problems.append(printable(f"{folder}: {reason}"))
            continue
        seen.add(identity)
        try:
            names = sorted(os.listdir(folder), key=natural_key)
        except OSError as error:
            problems.append(printable(f"{folder}: cannot be listed: {error.strerror or error}"))
            continue
        pictures, videos, folders = _sort(folder, names, problems, aside)
        if pictures:
            yield Source(_name(folder, top), folder, tuple(pictures))
        for video in videos:
            yield Source(_name(video.with_suffix(""), top), video, (video,))
        waiting += reversed(folders)


def _is_output(folder: Path) -> bool:
    return all(os.path.lexists(folder / name) for name in _OUTPUTS)


def _name(path: Path, top: Path) -> str:
    return (
        Path(os.path.realpath(top)).name if path == top else "_".join(path.relative_to(top).parts)
    )


def _sort(
    folder: Path, names: Sequence[str], problems: list[str], aside: _Aside
) -> tuple[list[Path], list[Path], list[Path]]:
    """The pictures, videos and folders among a folder's entries; the others are named."""
    pictures: list[Path] = []
    videos: list[Path] = []
    folders: list[Path] = []
    near = {name.lower() for name in names}
    far = any(name.startswith("lr-") for name in near)
    for name in names:
        path, lower = folder / name, name.lower()
        suffix = path.suffix.lower()
        if os.path.isdir(path):
            if lower in _LITTER_FOLDERS or lower.startswith("."):
                aside.add("folder of a file manager or archiver", path)
            elif lower == "gt" and "inputs" in near:
                aside.add("folder of ground truths (gt beside inputs)", path)
            else:
                folders.append(path)
        elif lower in _LITTER_FILES or lower.startswith("."):
            aside.add("file of a file manager, or hidden", path)
        elif not os.path.isfile(path):
            reason = "a link that leads nowhere" if os.path.islink(path) else "not a file"
            problems.append(printable(f"{path}: {reason}"))
        elif far and lower.startswith("hr-") and suffix in IMAGE_SUFFIXES:
            aside.add("ground truth (hr- beside lr-)", path)
        elif suffix in IMAGE_SUFFIXES:
            pictures.append(path)
        elif suffix in VIDEO_SUFFIXES:
            videos.append(path)
        elif suffix in _FOREIGN:
            problems.append(printable(f"{path}: not read; save it as PNG or JPEG"))
        else:
            aside.add(f"{suffix or 'file without an ending'}, neither picture nor video", path)
    return pictures, videos, folders
