"""Plates out of sources, one at a time: decoded, cut out, shrunk; nothing else is kept."""

import functools
import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import MAX_BYTES, read_bytes
from data_pipeline.images import decode_pages, resize
from data_pipeline.tree import printable
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.boxes import Box
from lpdiff_jax.restoring.crops import fault_of_crop
from lpdiff_jax.restoring.detectors import Detector
from lpdiff_jax.restoring.inputs import Source
from lpdiff_jax.restoring.names import Names
from lpdiff_jax.restoring.regions import MovingRegion, Region, cut
from lpdiff_jax.restoring.tracks import PATIENCE, BestFrames, Tracker, merit
from lpdiff_jax.restoring.video import Clip, check_container, read_frames

# So many frames that are no crops at a video's beginning, and the others need not be looked at.
_ENOUGH = 3


@dataclass(frozen=True)
class Choice:
    """Where the plates are in what is given, and which frames are taken.

    Attributes:
      max_frames: the most frames of each plate.
      size: (height, width) that frames are shrunk or enlarged to, which is the model's.
      clip: which part of a video.
      box: the plate in every picture or frame; or at some moments, between which it moves.
      boxes: the plates, frame by frame.
      detector: the detector that finds them.
      force: pictures that do not look like crops of plates are taken for crops all the same.
      deadline: the moment of `time.monotonic` after which nothing is read; None is never.
    """

    max_frames: int
    size: tuple[int, int]
    clip: Clip = field(default_factory=Clip)
    box: Region | MovingRegion | None = None
    boxes: tuple[Box, ...] = ()
    detector: Detector | None = None
    force: bool = False
    deadline: float | None = None

    def __post_init__(self) -> None:
        ways = [self.box is not None, bool(self.boxes), self.detector is not None]
        if sum(ways) > 1:
            raise UserError("give one of --box, --boxes and --detect")

    @property
    def finds_plates(self) -> bool:
        """Whether plates are cut out of scenes, several perhaps of one source."""
        return bool(self.boxes) or self.detector is not None


@dataclass(frozen=True)
class Origin:
    """Where a frame comes from.

    Attributes:
      path: the path of the file.
      index: number of the frame or page in the file, from 0.
      time: seconds from a video's beginning; None for pictures.
      region: the plate in it; None where it is a crop.
      size: (height, width) of the plate in it, pixels.
    """

    path: Path
    index: int
    time: float | None
    region: Region | None
    size: tuple[int, int]

    def describe(self) -> dict[str, Any]:
        """As results state it."""
        stated: dict[str, Any] = {"file": printable(str(self.path)), "index": self.index}
        if self.time is not None:
            stated["time"] = round(self.time, 4)
        if self.region is not None:
            stated |= self.region.describe()
        return stated | {"pixels": [self.size[1], self.size[0]]}


@dataclass
class PlateFrames:
    """One plate's frames.

    Attributes:
      name: the name of its results.
      source: what tells the plate from others: its file or folder, and its track.
      frames: uint8 RGB [H, W, 3] of `Choice.size`, in order.
      origins: the origin of each frame.
      seen: frames that there were.
      digest: SHA-256 of the files of its source.
      problems: a line for each of its frames that is left out.
    """

    name: str
    source: str
    frames: list[np.ndarray] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    seen: int = 0
    digest: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Picture:
    """A frame that is not decoded yet; `place` is what boxes number: the picture, or the frame."""

    path: Path
    place: int
    index: int
    time: float | None
    load: Callable[[], np.ndarray]

    @property
    def label(self) -> str:
        return str(self.path) if self.time is None else f"{self.path} at {self.time:.2f} s"


def read_plates(
    source: Source, choice: Choice, names: Names, problems: list[str]
) -> Iterator[PlateFrames]:
    """Reads the plates of one source; holds the frames of open tracks, at the model's size.

    Args:
      source: the source to read.
      choice: the choice of where the plates are.
      names: what gives the names.
      problems: gets a line for each file or frame that is left out.
    """
    try:
        if choice.finds_plates:
            yield from _read_scenes(source, choice, names, problems)
        else:
            yield from _read_crops(source, choice, names, problems)
    except DataError as error:
        problems.append(printable(str(error)))


def digest(source: Source) -> str:
    """SHA-256 over the files of a source, in their order; raises DataError.

    Of a picture that is too large to be read its size stands for it.
    """
    total = hashlib.sha256()
    for path in source.files:
        try:
            if source.is_video:
                check_container(path)  # before gigabytes are read of what is none
            elif (size := path.stat().st_size) > MAX_BYTES:
                total.update(f"{size} bytes".encode())
                continue
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    return total.hexdigest()


def check_boxes(sources: Sequence[Source], choice: Choice) -> None:
    """Raises UserError when no box of a file belongs to any of the sources."""
    if choice.boxes and not any(_matching(source, choice.boxes) for source in sources):
        first = choice.boxes[0].frame
        raise UserError(
            f"no box belongs to a picture or frame that was given: the first is of frame "
            f"{first!r}; boxes name a picture's file, or count frames from 0"
        )


def _read_crops(
    source: Source, choice: Choice, names: Names, problems: list[str]
) -> Iterator[PlateFrames]:
    read = _crops_of_video if source.is_video else _crops_of_pictures
    plate = PlateFrames(names.give(source.name, str(source.path)), str(source.path))
    read(source, choice, plate, problems)
    if plate.frames:
        yield plate
    else:
        problems.append(printable(f"{plate.name}: no frame of this plate can be read"))


def _crops_of_pictures(
    source: Source, choice: Choice, plate: PlateFrames, problems: list[str]
) -> None:
    """The last frames that can be used: of a car that comes nearer, the nearest."""
    plate.seen = len(source.files)
    kept: deque[tuple[np.ndarray, Origin]] = deque()
    for place, path in reversed([*enumerate(source.files)]):
        if _is_late(choice, str(path), problems):
            break
        left = choice.max_frames - len(kept)
        pages, count = _last_pages(path, place, choice, left, problems)
        plate.seen += max(count - 1, 0)
        kept.extendleft(reversed(pages))
        if len(kept) >= choice.max_frames:
            break
    plate.frames, plate.origins = [k[0] for k in kept], [k[1] for k in kept]


def _last_pages(
    path: Path, place: int, choice: Choice, count: int, problems: list[str]
) -> tuple[list[tuple[np.ndarray, Origin]], int]:
    """The last pictures of a file that can be used, at most `count`, and how many it has."""
    pages: deque[tuple[np.ndarray, Origin]] = deque(maxlen=count)
    number = 0
    try:
        for number, image in enumerate(decode_pages(read_bytes(path), str(path)), 1):
            load = functools.partial(_same, image)
            pages.append(_shrunk(image, _Picture(path, place, number - 1, None, load), choice))
            if _is_late(choice, str(path), problems):
                break
    except DataError as error:
        problems.append(printable(str(error)))
    return list(pages), number


def _crops_of_video(
    source: Source, choice: Choice, plate: PlateFrames, problems: list[str]
) -> None:
    best = BestFrames(choice.max_frames)
    wrong = 0
    for picture in _pictures(source, choice, problems):
        try:
            frame, origin = _shrunk(picture.load(), picture, choice)
        except DataError as error:
            wrong += 1
            if wrong == 1:
                problems.append(printable(str(error)))
            if wrong == _ENOUGH and not best.seen:
                return
            continue
        best.add(merit(frame, origin.size), (frame, origin))
    kept = best.in_order()
    plate.seen = best.seen + wrong
    plate.frames, plate.origins = [k[0] for k in kept], [k[1] for k in kept]


def _shrunk(image: np.ndarray, picture: _Picture, choice: Choice) -> tuple[np.ndarray, Origin]:
    """A frame at the model's size; raises DataError where it cannot be a plate."""
    region = choice.box
    if isinstance(region, MovingRegion):
        region = region.at(picture.place if picture.time is None else picture.time)
    if region is not None:
        image = cut(image, region, picture.label)
    elif not choice.force and (fault := fault_of_crop(image)):
        raise DataError(
            f"{picture.label}: {fault}: say where the plate is (--box, --boxes, --detect), cut it "
            "out, or use --force"
        )
    size = image.shape[:2]
    origin = Origin(picture.path, picture.index, picture.time, region, (size[0], size[1]))
    return resize(image, choice.size).copy(), origin


def _pictures(source: Source, choice: Choice, problems: list[str]) -> Iterator[_Picture]:
    """The frames of a source in order, as long as there is time."""
    for picture in _all_pictures(source, choice.clip, choice.deadline, problems):
        if _is_late(choice, picture.label, problems):
            return
        yield picture


def _is_late(choice: Choice, label: str, problems: list[str]) -> bool:
    """Whether no time is left to read what comes behind; says so."""
    late = choice.deadline is not None and time.monotonic() > choice.deadline
    if late:
        problems.append(printable(f"{label}: no time is left for what comes behind"))
    return late


def _all_pictures(
    source: Source, clip: Clip, deadline: float | None, problems: list[str]
) -> Iterator[_Picture]:
    """The frames of a source in order, none of them decoded before it is asked for."""
    if source.is_video:
        path = source.files[0]
        for frame in read_frames(path, clip, problems, deadline):
            yield _Picture(path, frame.index, frame.index, frame.time, frame.image)
        return
    for place, path in enumerate(source.files):
        try:
            for index, image in enumerate(decode_pages(read_bytes(path), str(path))):
                yield _Picture(path, place, index, None, functools.partial(_same, image))
        except DataError as error:
            problems.append(printable(str(error)))


def _same(image: np.ndarray) -> np.ndarray:
    return image


@dataclass
class _Open:
    """A plate whose track is not over yet."""

    best: BestFrames
    last: int = 0


def _read_scenes(
    source: Source, choice: Choice, names: Names, problems: list[str]
) -> Iterator[PlateFrames]:
    """Plates that are found in scenes; each comes as soon as its track is over."""
    finder = _Finder(source, choice)
    tracks: dict[str, _Open] = defaultdict(lambda: _Open(BestFrames(choice.max_frames)))
    for picture in _pictures(source, choice, problems):
        try:
            for track, region, plate, size in finder(picture):
                origin = Origin(picture.path, picture.index, picture.time, region, size)
                tracks[track].best.add(merit(plate, size), (plate, origin))
                tracks[track].last = picture.place
        except DataError as error:
            problems.append(printable(str(error)))
        over = [t for t, o in tracks.items() if finder.is_over(t, o.last, picture.place)]
        for track in over:
            yield _finish(source, track, tracks.pop(track), names)
    for track in list(tracks):
        yield _finish(source, track, tracks.pop(track), names)
    if not finder.count:
        problems.append(printable(f"{source.path}: no plate found in it"))


def _finish(source: Source, track: str, plate: _Open, names: Names) -> PlateFrames:
    key = f"{source.path}#{track}"
    done = PlateFrames(names.give(f"{source.name}_{track}", key), key, seen=plate.best.seen)
    kept = plate.best.in_order()
    done.frames, done.origins = [k[0] for k in kept], [k[1] for k in kept]
    return done


class _Finder:
    """The plates of each frame of a source, and to which track each belongs."""

    def __init__(self, source: Source, choice: Choice) -> None:
        self._choice = choice
        self._tracker = Tracker()
        self._boxes = _matching(source, choice.boxes)
        self._given = any(box.track is not None for boxes in self._boxes.values() for box in boxes)
        self._last = {
            str(box.track): key
            for key, boxes in self._boxes.items()
            for box in boxes
            if isinstance(key, int)
        }
        self.count = 0

    def __call__(
        self, picture: _Picture
    ) -> Iterator[tuple[str, Region, np.ndarray, tuple[int, int]]]:
        """Track, region, frame at the model's size and size of each plate of a picture."""
        if self._choice.detector is None:
            boxes = self._boxes.get(picture.place, [])
            if not boxes:
                return
        image = picture.load()
        if self._choice.detector is not None:
            regions = [detection.region for detection in self._choice.detector(image)]
            tracks: list[str | None] = [None] * len(regions)
        else:
            height, width = image.shape[:2]
            regions = [box.region_in(width, height) for box in boxes]
            tracks = [box.track for box in boxes]
        joined = [f"{number}" for number in self._tracker.join(picture.place, regions)]
        for region, given, number in zip(regions, tracks, joined, strict=True):
            self.count += 1
            plate = cut(image, region, picture.label)
            size = (plate.shape[0], plate.shape[1])
            track = given if given is not None else f"untracked_{number}" if self._given else number
            yield track, region, resize(plate, self._choice.size).copy(), size

    def is_over(self, track: str, last: int, place: int) -> bool:
        """Whether no further frame can belong to a track."""
        if self._given and track in self._last:
            return place >= self._last[track]
        return place - last > PATIENCE


def _matching(source: Source, boxes: Sequence[Box]) -> dict[int, list[Box]]:
    """The boxes that belong to a source, by the number of the frame or picture."""
    places = _places(source)
    found: dict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        place = box.frame if isinstance(box.frame, int) else places(box.frame)
        if place is not None:
            found[place].append(box)
    return dict(found)


def _places(source: Source) -> Callable[[str], int | None]:
    """Looks up which frame or picture a name means; None where it is another source's."""
    if source.is_video:
        stem = source.files[0].stem

        # As Ultralytics writes them: <video>_<frame from 1>.
        def of_video(name: str) -> int | None:
            head, _, number = name.rpartition("_")
            known = head == stem and number.isascii() and number.isdecimal()
            return int(number) - 1 if known else None

        return of_video
    places: dict[str, int] = {}
    for place, path in enumerate(source.files):
        parts = path.parts
        for depth in (1, 2, 3):
            tail = "/".join(parts[-depth:])
            places.setdefault(tail, place)
            places.setdefault(tail.removesuffix(path.suffix), place)
    return lambda name: places.get(name.removeprefix("./"))
