"""A user's own pictures: folders, folders of folders, single images and videos, as groups."""

import dataclasses
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import IMAGE_SUFFIXES, read_image
from lpdiff_jax.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclasses.dataclass(frozen=True)
class InputGroup:
    """Frames of one plate as files: images in order, or one video.

    Attributes:
      name: what its results are called.
      paths: the files.
    """

    name: str
    paths: tuple[Path, ...]


def find_groups(inputs: Sequence[str | Path]) -> list[InputGroup]:
    """Finds the groups that a user's arguments name.

    A folder of images is one group, a folder of folders many (at any depth), an image or a video
    by itself a group of its own. Files are put in natural order (2 before 10).

    Raises:
      UserError: a path that does not exist or holds nothing to restore, or two groups of a name.
    """
    groups = [group for path in inputs for group in _groups_of(Path(path))]
    names: dict[str, InputGroup] = {}
    for group in groups:
        if group.name in names:
            raise UserError(
                f"two groups are called {group.name!r}: {names[group.name].paths[0].parent} and "
                f"{group.paths[0].parent}; restore them separately"
            )
        names[group.name] = group
    return groups


def load_frames(group: InputGroup, max_frames: int) -> tuple[list[np.ndarray], list[str]]:
    """Reads a group's frames.

    Args:
      group: the files.
      max_frames: of more, the last ones are taken, the nearest of an approach.

    Returns:
      uint8 RGB images [h, w, 3], each of its own size; and a line for each file left out.
    """
    if group.paths[0].suffix.lower() in VIDEO_SUFFIXES:
        return _read_video(group.paths[0], max_frames)
    frames, problems = [], []
    for path in group.paths[-max_frames:]:
        try:
            frames.append(read_image(path))
        except DataError as error:
            problems.append(str(error))
    return frames, problems


def _groups_of(path: Path) -> Iterator[InputGroup]:
    if path.is_file():
        if path.suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
            raise UserError(f"{path}: neither an image nor a video by its name")
        yield InputGroup(path.stem, (path,))
        return
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    found = list(_groups_below(path, path))
    if not found:
        raise UserError(f"{path}: no images in this folder or the folders in it")
    yield from found


def _groups_below(folder: Path, top: Path) -> Iterator[InputGroup]:
    entries = sorted((e for e in folder.iterdir() if e.name[0] != "."), key=_natural)
    images = tuple(e for e in entries if e.is_file() and e.suffix.lower() in IMAGE_SUFFIXES)
    if images:
        name = top.resolve().name if folder == top else "_".join(folder.relative_to(top).parts)
        yield InputGroup(name, images)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            yield from _groups_below(entry, top)
        elif entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES:
            yield InputGroup(entry.stem, (entry,))


def _natural(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _read_video(path: Path, max_frames: int) -> tuple[list[np.ndarray], list[str]]:
    video = cv2.VideoCapture(str(path))
    frames: deque[np.ndarray] = deque(maxlen=max_frames)
    while True:
        there, frame = video.read()
        if not there:
            break
        frames.append(frame[..., ::-1])
    video.release()
    problems = [] if frames else [f"{path}: not a video that can be read"]
    return list(frames), problems
