"""Videos, one frame in memory at a time: their times, their rotation, and where they break off."""

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.images import MAX_PIXELS
from lpdiff_jax.errors import UserError

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv",
)  # fmt: skip
# How containers begin: (offset, bytes). A playlist, which would name other files, is none.
_CONTAINERS = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip"),
    (0, b"RIFF"), (0, b"\x1aE\xdf\xa3"), (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"),
    (0, b"G"), (0, b"FLV"), (0, b"\x30\x26\xb2\x75"),
)  # fmt: skip
# Of the frames that a container promises, some decoders give a few less.
_WHOLE = 0.95


@dataclass(frozen=True)
class Clip:
    """Which frames of a video are looked at.

    Attributes:
      start: first moment, seconds from the beginning.
      stop: the last moment, seconds; None is the end.
      every: the seconds between frames; 0 takes all.
    """

    start: float = 0.0
    stop: float | None = None
    every: float = 0.0

    def __post_init__(self) -> None:
        if self.stop is not None and self.stop < self.start:
            raise UserError(
                f"the clip ends at {self.stop:g} s, before it begins ({self.start:g} s)"
            )


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    Attributes:
      index: the number of the frame in the video, from 0.
      time: seconds from the beginning, as the container says.
      image: decodes it: uint8 RGB [H, W, 3], turned as the metadata asks.
    """

    index: int
    time: float
    image: Callable[[], np.ndarray]


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_frames(
    path: Path, clip: Clip, problems: list[str], deadline: float | None = None
) -> Iterator[VideoFrame]:
    """The frames of a clip in turn; only those whose `image` is called cost a conversion.

    Args:
      path: the path of the file.
      clip: the choice of frames.
      problems: gets a line where the video breaks off early, or there is no time for the rest.
      deadline: the moment of `time.monotonic` after which nothing is decoded; None is never.

    Raises:
      DataError: not a video that can be read.
    """
    with _opened(path) as video:
        promised = video.get(cv2.CAP_PROP_FRAME_COUNT)
        index, due = -1, clip.start
        while video.grab():
            index += 1
            moment = _time(video, index)
            if clip.stop is not None and moment > clip.stop:
                return
            # Also where frames are only passed over, which decodes them all the same.
            if deadline is not None and time.monotonic() > deadline:
                problems.append(f"{path} at {moment:.2f} s: no time is left for what comes behind")
                return
            # Half a millisecond: containers round their times.
            if moment < due - 5e-4:
                continue
            due = _next_due(clip, due, moment)
            yield VideoFrame(index, moment, lambda: _retrieve(video, path))
        if index < 0:
            raise DataError(f"{path}: not a video that can be read: it has no frames")
        if index + 1 < _WHOLE * promised < math.inf:
            problems.append(f"{path}: breaks off after {index + 1} of {promised:.0f} frames")


def parse_time(text: str) -> float:
    """Seconds from `12.5`, `1:02.5` or `1:01:02.5`; raises UserError for anything else."""
    if not re.fullmatch(r"(?:(?:\d+:)?\d+:)?\d+(?:\.\d*)?", text, re.ASCII):
        raise UserError(
            f"{text!r} is no time; give seconds (12.5), or minutes and seconds (1:02.5)"
        )
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    check_container(path)
    # What a decoder finds amiss is told in our words; it reads this at the first video.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{path}: its name is not UTF-8, which the decoder wants; rename it"
        ) from None
    # Named, because another backend would take the % of a name for a pattern of many files.
    video = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise DataError(f"{path}: not a video that can be read")
        width, height = video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise DataError(f"{path}: frames of {width:.0f} x {height:.0f} pixels are not read")
        video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        yield video
    finally:
        video.release()


def check_container(path: Path) -> None:
    """Raises DataError unless a file begins as a video does."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not any(head[at:].startswith(mark) for at, mark in _CONTAINERS):
        raise DataError(f"{path}: not a video that can be read: no container of a known kind")


def _time(video: cv2.VideoCapture, index: int) -> float:
    """Seconds; where a container has no times, by the rate it states."""
    time = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if time > 0 or index == 0:
        return max(time, 0.0)
    rate = video.get(cv2.CAP_PROP_FPS)
    return index / rate if rate > 0 else float(index)


def _next_due(clip: Clip, due: float, time: float) -> float:
    """When the next frame is due: on the grid of `every`, behind `time`."""
    if not clip.every:
        return due
    return clip.start + (math.floor((time - clip.start) / clip.every + 1e-6) + 1) * clip.every


def _retrieve(video: cv2.VideoCapture, path: Path) -> np.ndarray:
    there, frame = video.retrieve()
    if not there:
        raise DataError(f"{path}: a frame cannot be decoded")
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
