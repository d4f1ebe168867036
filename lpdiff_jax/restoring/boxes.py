"""Files of boxes: where the plates are in pictures or frames, in the formats that tools write.

The formats, told apart by their content:

- CSV with a header: `frame`, then `x,y,w,h` or `x1,y1,x2,y2,x3,y3,x4,y4` (corners in any order),
  and if known `track` and `score`. `frame` is a picture's file name, or a number counted from 0.
- JSON: a list of objects with these names, or an object whose `boxes` is one; `box` may hold
  [x, y, w, h], and `corners` four pairs.
- MOT: lines `frame,id,x,y,w,h,...` without a header; frames and ids count from 1, an id of -1 is
  none.
- COCO: `images` with `id` and `file_name` (or `frame_index`), `annotations` with `bbox`, and
  `track_id` if known.
- LabelMe: a JSON file, or a folder of them, of `shapes` (rectangle, or polygon of four points);
  `group_id` is the track.
- YOLO: a folder of `.txt` files called like the pictures, of lines `class x y w h` (centre and
  size), or `class` and four corners, as shares of the picture; a further number is the score (where
  it holds a point) or the track.

All coordinates but YOLO's are pixels; x to the right, y down, from the upper left edge.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.files import read_bytes
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.regions import MovingRegion, Region
from lpdiff_jax.restoring.video import parse_time

# A line of text for each box is some 50 bytes; more is a mistake.
_MAX_BYTES = 200_000_000
_POINTS = tuple(f"{axis}{k}" for k in range(1, 5) for axis in "xy")


@dataclass(frozen=True)
class Box:
    """One line of a file of boxes.

    Attributes:
      frame: the picture's file name, or the frame's number from 0.
      region: the place of the plate, in pixels, or in shares of the picture if `relative`.
      track: the plate's number; None where the file does not say.
      relative: the region is in shares of width and height.
    """

    frame: str | int
    region: Region
    track: str | None = None
    relative: bool = False

    def region_in(self, width: int, height: int) -> Region:
        """The region in pixels of a picture of that size."""
        if not self.relative:
            return self.region
        corners = tuple((x * width, y * height) for x, y in self.region.corners)
        return Region(corners, self.region.upright)


def parse_box(text: str) -> Region:
    """A region from `X,Y,W,H`, or from eight numbers `X1,Y1,..,X4,Y4`; raises UserError."""
    try:
        numbers = [float(part) for part in text.replace(";", ",").split(",")]
        return _region(numbers)
    except ValueError as error:
        raise UserError(
            f"--box {text}: give X,Y,W,H in pixels (upper left corner and size), or the four "
            f"corners X1,Y1,X2,Y2,X3,Y3,X4,Y4 ({error})"
        ) from None


def parse_boxes(texts: Sequence[str]) -> Region | MovingRegion:
    """One region from `parse_box`, or one that moves from several `X,Y,W,H@TIME`."""
    if len(texts) == 1 and "@" not in texts[0]:
        return parse_box(texts[0])
    keys = []
    for text in texts:
        place, mark, moment = text.partition("@")
        if not mark:
            raise UserError(f"--box {text}: of several boxes each has its time: X,Y,W,H@TIME")
        keys.append((parse_time(moment), parse_box(place)))
    try:
        return MovingRegion.of(keys)
    except ValueError as error:
        raise UserError(f"--box: {error}") from None


def read_boxes(path: str | Path) -> list[Box]:
    """Reads a file, or a folder of LabelMe or YOLO files, see the module.

    Raises:
      UserError: it cannot be read, is of no known format, or holds no boxes; a bad line is named.
    """
    path = Path(path)
    boxes = list(_read_folder(path) if path.is_dir() else _read_file(path))
    if not boxes:
        raise UserError(f"{path}: holds no boxes")
    return boxes


def _read_folder(folder: Path) -> Iterator[Box]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".txt", ".json"))
    if not files:
        raise UserError(f"{folder}: a folder of boxes holds .txt (YOLO) or .json (LabelMe) files")
    for path in files:
        if path.suffix.lower() == ".json":
            yield from _read_json(path, _text(path))
        elif path.stem != "classes":
            yield from _read_yolo(path, _text(path))


def _read_file(path: Path) -> Iterator[Box]:
    text = _text(path)
    suffix = path.suffix.lower()
    if text.lstrip()[:1] in ("{", "[") and suffix != ".csv":
        yield from _read_json(path, text)
    elif any(c.isalpha() for c in text.partition("\n")[0].replace("e", "")):
        yield from _read_csv(path, text)
    elif "," in text.partition("\n")[0]:
        yield from _read_mot(path, text)
    else:
        yield from _read_yolo(path, text)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _MAX_BYTES).decode("utf-8-sig")
    except DataError as error:
        raise UserError(str(error)) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _each(
    path: Path, lines: Iterable[Any], make: Callable[[Any], Box | None], first: int = 1
) -> Iterator[Box]:
    """`make` of every line; what goes wrong is told with the line's number."""
    for number, line in enumerate(lines, first):
        try:
            box = make(line)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{path}, entry {number}: {reason}") from None
        if box is not None:
            yield box


def _read_csv(path: Path, text: str) -> Iterator[Box]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if "frame" not in names or not ({"x", "y", "w", "h"} <= {*names} or {*_POINTS} <= {*names}):
        raise UserError(
            f"{path}: its columns are {', '.join(names)}; wanted are frame, x, y, w, h (or frame, "
            f"{', '.join(_POINTS)}), and if known track"
        )
    yield from _each(path, reader, _of_mapping, 2)


def _of_mapping(entry: Mapping[str, Any]) -> Box:
    """One box of a CSV line or a JSON object."""
    frame = entry["frame"]
    if isinstance(frame, str):
        frame = frame.strip()
        frame = int(frame) if frame.isdecimal() and frame.isascii() else frame
    if not isinstance(frame, (str, int)) or frame == "":
        raise ValueError(f"frame is {frame!r}; a file name, or a number from 0")
    track = entry.get("track")
    return Box(frame, _region_of(entry), None if track in (None, "") else str(track).strip())


def _region_of(entry: Mapping[str, Any]) -> Region:
    if entry.get("corners") is not None:
        return Region.of_corners([[float(v) for v in point] for point in entry["corners"]])
    if entry.get("box") is not None:
        return _region([float(value) for value in entry["box"]])
    names = _POINTS if entry.get("x1") not in (None, "") else ("x", "y", "w", "h")
    return _region([float(entry[name]) for name in names])


def _region(numbers: list[float]) -> Region:
    if len(numbers) == 4:
        return Region.of_box(*numbers)
    if len(numbers) == 8:
        return Region.of_corners([numbers[i : i + 2] for i in range(0, 8, 2)])
    raise ValueError(f"{len(numbers)} numbers, where 4 or 8 are wanted")


def _read_mot(path: Path, text: str) -> Iterator[Box]:
    def make(line: str) -> Box | None:
        if not line.strip():
            return None
        fields = [field.strip() for field in line.split(",")]
        frame = int(float(fields[0])) - 1
        if frame < 0:
            raise ValueError("frames of MOT files count from 1")
        track = None if float(fields[1]) < 0 else fields[1]
        return Box(frame, _region([float(v) for v in fields[2:6]]), track)

    yield from _each(path, text.splitlines(), make)


def _read_yolo(path: Path, text: str) -> Iterator[Box]:
    def make(line: str) -> Box | None:
        fields = line.split()
        if not fields:
            return None
        numbers = [float(field) for field in fields[1:]]
        if not all(map(math.isfinite, numbers)) or len(numbers) not in (4, 5, 6, 8, 9, 10):
            raise ValueError("wanted is 'class x y w h' or a class and four corners")
        corners = len(numbers) >= 8
        place, rest = (numbers[:8], fields[9:]) if corners else (numbers[:4], fields[5:])
        if not all(-0.5 <= value <= 1.5 for value in place):
            raise ValueError("YOLO's coordinates are shares of the picture, from 0 to 1")
        track = next((field for field in rest if field.isdecimal()), None)
        # Regions are checked at a size at which rounding does not matter.
        if not corners:
            x, y, w, h = place
            place = [x - w / 2, y - h / 2, w, h]
        region = _region([value * 1e4 for value in place])
        shares = tuple((x / 1e4, y / 1e4) for x, y in region.corners)
        return Box(path.stem, Region(shares, region.upright), track, relative=True)

    yield from _each(path, text.splitlines(), make)


def _read_json(path: Path, text: str) -> Iterator[Box]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if isinstance(content, dict) and "annotations" in content:
        yield from _read_coco(path, content)
    elif isinstance(content, dict) and "shapes" in content:
        yield from _read_labelme(path, content)
    else:
        boxes = content.get("boxes") if isinstance(content, dict) else content
        if not isinstance(boxes, list):
            raise UserError(
                f"{path}: no format of boxes that is known: a list of boxes, COCO (annotations) "
                "or LabelMe (shapes)"
            )
        yield from _each(path, boxes, _of_mapping)


def _read_coco(path: Path, content: Mapping[str, Any]) -> Iterator[Box]:
    frames: dict[Any, str | int] = {}
    for image in _list(path, content, "images"):
        if not isinstance(image, dict) or not isinstance(image.get("id"), (int, str)):
            raise UserError(f"{path}: an entry of images has no id")
        name = image.get("file_name")
        number = image.get("frame_index", image.get("frame_id"))
        frame = name if isinstance(name, str) else number
        if isinstance(frame, (str, int)):
            frames[image["id"]] = frame

    def make(entry: Any) -> Box:
        frame = frames.get(entry["image_id"])
        if not isinstance(frame, (str, int)):
            raise ValueError(f"image_id {entry['image_id']!r} is not among the images")
        track = entry.get("track_id", (entry.get("attributes") or {}).get("track_id"))
        region = _region([float(value) for value in entry["bbox"]])
        return Box(frame, region, None if track is None else str(track))

    yield from _each(path, _list(path, content, "annotations"), make)


def _list(path: Path, content: Mapping[str, Any], name: str) -> list:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise UserError(f"{path}: {name} is no list")
    return entries


def _read_labelme(path: Path, content: Mapping[str, Any]) -> Iterator[Box]:
    frame = content.get("imagePath")
    frame = frame.replace("\\", "/") if isinstance(frame, str) and frame else path.stem

    def make(shape: Any) -> Box | None:
        points = [[float(x), float(y)] for x, y in shape["points"]]
        group = shape.get("group_id")
        track = None if group is None else str(group)
        if len(points) == 2:
            (ax, ay), (bx, by) = points
            region = Region.of_box(min(ax, bx), min(ay, by), abs(bx - ax), abs(by - ay))
            return Box(frame, region, track)
        if len(points) == 4:
            return Box(frame, Region.of_corners(points), track)
        raise ValueError(f"a shape of {len(points)} points; plates are rectangles or have four")

    yield from _each(path, _list(path, content, "shapes"), make)
