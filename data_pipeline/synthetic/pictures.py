"""Clean pictures of real plates: read from a folder, divided by text, put before the far camera.

    <folder>/labels.json     {file name without its suffix: plate text}
    <folder>/meta.json       {file name without its suffix: what is known of it}, optional
    <folder>/corners.json    the same, and goes before it; `lpdiff locate` writes it, optional
    <folder>/<name>.jpg      or any other suffix of `images.IMAGE_SUFFIXES`

What may be known of a picture: `corners`, four of [x, y], the plate's corners clockwise from the
upper left; `plate_box` [x, y, width, height], the plate in a rectified picture; `original_size`
[width, height] where the picture was squeezed to another aspect (null where it was squeezed and
nobody knows from what), all in pixels; `colour`, `blue`, `yellow` or `green`.
"""

import dataclasses
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import read_json
from data_pipeline.images import IMAGE_SUFFIXES, read_image
from data_pipeline.mdlp import LABELS_FILE, read_labels, texts_of
from data_pipeline.synthetic import surface
from data_pipeline.synthetic.camera import CameraModel, draw
from data_pipeline.synthetic.degradation import shoot
from data_pipeline.synthetic.groups import Rendered

META_FILE = "meta.json"
CORNERS_FILE = "corners.json"
PARTS = ("train", "held-out", "all")
# Millimetres: a Chinese plate in one row (GA 36-2018).
PLATE = (440.0, 140.0)
# Pixels a millimetre of the scene.
SCALE = 0.75
# Width over height that squeezed pictures of plates had before: the middle nine tenths of the 22
# known ones in EasyPR's training plates.
_ASPECTS = (3.2, 4.0)
# Pixels: more than the near camera sees of a plate.
_MAX_WIDTH = 640


@dataclass(frozen=True)
class Picture:
    """One clean picture of a plate.

    Attributes:
      path: the path of the file.
      text: the plate's characters.
      corners: the corners of the plate in the picture, pixels, clockwise from the upper left; None:
        the picture is the plate's upright box.
      aspect: width over height of what the picture shows; 0 as the picture has it, -1 squeezed from
        an unknown one.
      colour: the colour of the plate's ground; "" where it is not known.
    """

    path: Path
    text: str
    corners: tuple[tuple[float, float], ...] | None = None
    aspect: float = 0.0
    colour: str = ""


@dataclass(frozen=True)
class Sight:
    """A picture of a plate as it goes before the camera.

    Attributes:
      image: the picture, uint8 RGB.
      text: the plate's text.
      corners: of the box that the camera takes for the plate, [4, 2] pixels, clockwise from the
        upper left.
      size: (width, height) of that box, millimetres.
      plate: corners of the plate itself; None where they are not known.
    """

    image: np.ndarray
    text: str
    corners: np.ndarray
    size: tuple[float, float]
    plate: np.ndarray | None = None


@dataclass(frozen=True)
class Retouch:
    """How pictures are changed before the camera sees them; 0 switches an effect off.

    Attributes:
      contrast: least and largest share of the contrast that is kept.
      white: least and largest brightness to which the plate's lightest part is brought, 1 = white.
      colour: largest change of each channel's gain.
      saturation: least and largest factor on colourfulness.
      upright: share of plates with known corners that are not straightened, but cut out along the
        picture's rows and columns.
      lean, heading: largest further turn of the camera and of the car, degrees.
      shift: largest error of each edge of the box, as a part of the plate's width and height.
      loose: share of plates whose crops are loose.
      slack: largest further surplus of loose crops, pixels of far frames.
      aspect: largest change of width over height, as a part.
    """

    contrast: tuple[float, float] = (0.5, 1.0)
    white: tuple[float, float] = (0.5, 1.0)
    colour: float = 0.1
    saturation: tuple[float, float] = (0.6, 1.2)
    upright: float = 0.5
    lean: float = 3.0
    heading: float = 5.0
    shift: float = 0.02
    loose: float = 0.15
    slack: float = 3.0
    aspect: float = 0.06

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, ranged = getattr(self, field.name), isinstance(field.default, tuple)
            fault = np.shape(value) != ((2,) if ranged else ()) or np.min(value) < 0
            if fault or (ranged and value[0] > value[1]):
                what = (
                    "two numbers from 0 up, the smaller first" if ranged else "a number from 0 up"
                )
                raise DataError(f"retouch.{field.name} = {value}: must be {what}")


def read_pictures(folder: str | Path, corners: str | Path = "") -> list[Picture]:
    """The pictures of a folder that have a text, in the order of their names.

    Args:
      folder: the folder of the pictures.
      corners: a file to read in place of the folder's corners.json.

    Raises:
      DataError: no labels, none of a picture, or a file of what is known that cannot be read.
    """
    root = Path(folder)
    if not (root / LABELS_FILE).is_file():
        raise DataError(f"{root / LABELS_FILE}: no such file: it tells each picture's plate text")
    if corners and not Path(corners).is_file():
        raise DataError(f"{corners}: no such file; `lpdiff locate` writes it")
    meta = _read_meta(root / META_FILE)
    labels, faults = texts_of(read_labels(root))
    for name, fault in list(faults.items())[:1]:
        logging.getLogger(__name__).warning(
            f"{root / LABELS_FILE}: {len(faults)} labels are no text of a plate, the first: "
            f"{name!r}: {fault}"
        )
    found = _read_meta(Path(corners or root / CORNERS_FILE))
    files = {path.stem: path for path in sorted(root.iterdir()) if path.suffix in IMAGE_SUFFIXES}
    missing = sorted(labels.keys() - files.keys())
    if len(missing) == len(labels):
        raise DataError(f"{root}: no picture has a text in {LABELS_FILE}")
    if missing:
        logging.getLogger(__name__).warning(
            f"{root}: {len(missing)} labels without a picture, the first: {missing[0]!r}"
        )
    names = sorted(labels.keys() & files.keys())
    known = {name: meta.get(name, {}) | found.get(name, {}) for name in names}
    return [_picture(files[name], labels[name], known[name], root) for name in names]


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    meta = read_json(path)
    if not isinstance(meta, dict) or not all(isinstance(value, dict) for value in meta.values()):
        raise DataError(f"{path}: must be an object of picture name -> object")
    return meta


def _picture(path: Path, text: str, known: Mapping[str, Any], root: Path) -> Picture:
    try:
        corners = known.get("corners")
        if corners is None and known.get("plate_box") is not None:
            x, y, w, h = map(float, known["plate_box"])
            corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
        if corners is not None:
            corners = tuple((float(x), float(y)) for x, y in corners)
            if len(corners) != 4:
                raise ValueError(f"{len(corners)} corners")
        aspect = 0.0
        if "original_size" in known:
            size = known["original_size"]
            aspect = -1.0 if size is None else float(size[0]) / float(size[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(
            f"{root / META_FILE}: {path.stem!r}: plate_box is [x, y, width, height], corners are "
            f"four of [x, y], original_size is [width, height] or null: {error}"
        ) from error
    return Picture(path, text, corners, aspect, str(known.get("colour") or ""))


def held_out_texts(texts: Collection[str], count: int) -> frozenset[str]:
    """The `count` texts that are set aside for judging.

    The choice is by the texts alone: those with the smallest SHA-256 (of their UTF-8, as hex). So
    all pictures of a plate are on one side, and whoever has the same plates has the same division.
    """
    ranked = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    return frozenset(ranked[:count])


def take_part(pictures: Sequence[Picture], part: str, held_out: int) -> list[Picture]:
    """The pictures of one of `PARTS`, with some texts held out; see `held_out_texts`.

    Raises:
      DataError: there is no such part, or nothing is left of it.
    """
    if part not in PARTS:
        raise DataError(f"part {part!r}: must be one of {', '.join(PARTS)}")
    if held_out < 0:
        raise DataError(f"held_out is {held_out}; it must be at least 0")
    if part == "all":
        return list(pictures)
    aside = held_out_texts([picture.text for picture in pictures], held_out)
    taken = [p for p in pictures if (p.text in aside) == (part == "held-out")]
    if not taken:
        raise DataError(f"no picture is left of part {part!r} with held_out = {held_out}")
    return taken


def province_weights(texts: Sequence[str], balance: float) -> np.ndarray:
    """Chances of pictures, float64 [n] of sum 1.

    Args:
      texts: the texts of the pictures; the first character is the province.
      balance: 0 takes all pictures equally often, 1 all provinces, in between with the power
        1 - `balance` of their numbers.
    """
    counts = Counter(text[:1] for text in texts)
    weights = np.array([counts[text[:1]] ** -balance for text in texts], float)
    return weights / weights.sum()


def view_picture(picture: Picture, retouch: Retouch, rng: np.random.Generator) -> Sight:
    """A picture as it is: straightened where its corners are known, or as an upright box."""
    image, shrink = _shrunk(read_image(picture.path))
    height, width = image.shape[:2]
    box = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    upright = rng.random() < retouch.upright
    known = None
    aspect = picture.aspect if picture.aspect >= 0 else rng.uniform(*_ASPECTS)
    if picture.corners is not None:
        corners = np.array(picture.corners) * shrink
        if not upright or picture.aspect:  # nobody knows how upright boxes were squeezed
            return Sight(image, picture.text, corners, PLATE, corners)
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        known = corners
    high, wide = box[2, 1] - box[0, 1], box[2, 0] - box[0, 0]
    return Sight(image, picture.text, box, (PLATE[0], PLATE[0] / (aspect or wide / high)), known)


def photograph(
    sight: Sight,
    ranges: CameraModel[tuple[float, float]],
    retouch: Retouch,
    num_frames: int,
    rng: np.random.Generator,
) -> Rendered:
    """Puts a picture before the far camera.

    Args:
      sight: the picture of the plate.
      ranges: the ranges of the camera's conditions.
      retouch: how the picture may be changed first.
      num_frames: the number of far frames.
      rng: all that is random comes from it.
    """
    model = _conditions(draw(ranges, rng), retouch, rng)
    image, corners = _whole(sight)
    size, warp = _layout(sight.size, corners, retouch, rng)
    light = cv2.LUT(_recolour(image, retouch, rng), _curves(image, retouch, rng))
    scene = _mount(light, warp, size, model, rng)
    if model.occlusion > 0:
        scene = surface.occlude(scene, model.occlusion, rng, SCALE)
    seen = shoot(scene, SCALE, model, num_frames, rng)
    places = None
    if sight.plate is not None:
        inside = cv2.perspectiveTransform(
            (sight.plate + corners[0] - sight.corners[0] - 0.5)[None], warp
        )
        box = (inside[0] + 0.5 - surface.margin(SCALE)) / size
        places = tuple(_within(box, quad) for quad in seen.corners)
    return Rendered(seen.frames, seen.target, sight.text, places)


def _within(points: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Where points of a rectangle, parts of its sides, lie when its corners are those of `quad`."""
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    warp = cv2.getPerspectiveTransform(unit, quad.astype(np.float32))
    found: np.ndarray = cv2.perspectiveTransform(points[None], warp)[0]
    return found


def _whole(sight: Sight) -> tuple[np.ndarray, np.ndarray]:
    """The picture, drawn out where the plate reaches beyond it, and the plate's corners."""
    height, width = sight.image.shape[:2]
    low, high = sight.corners.min(axis=0), sight.corners.max(axis=0)
    beyond = np.maximum([-low[1], high[1] - height, -low[0], high[0] - width], 0.0)
    top, bottom, left, right = (math.ceil(min(n, max(height, width))) for n in beyond)
    if not top + bottom + left + right:
        return sight.image, sight.corners
    image = cv2.copyMakeBorder(sight.image, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return image, sight.corners + np.array([left, top])


def _shrunk(image: np.ndarray) -> tuple[np.ndarray, float]:
    """An image of at most `_MAX_WIDTH` pixels' width, and by which it was shrunk."""
    shrink = min(_MAX_WIDTH / image.shape[1], 1.0)
    if shrink < 1.0:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return image, shrink


def _conditions(
    model: CameraModel[float], retouch: Retouch, rng: np.random.Generator
) -> CameraModel[float]:
    """The camera's conditions, with the further turns and margins of `retouch`."""
    loose = rng.random() < retouch.loose
    return dataclasses.replace(
        model,
        lean=model.lean + rng.uniform(-retouch.lean, retouch.lean),
        heading=model.heading + rng.uniform(-retouch.heading, retouch.heading),
        slack=model.slack + loose * rng.uniform(0.0, retouch.slack),
    )


def _layout(
    plate: tuple[float, float], source: np.ndarray, retouch: Retouch, rng: np.random.Generator
) -> tuple[tuple[int, int], np.ndarray]:
    """(width, height) of the plate in the scene, and the map from the picture's pixels to it."""
    stretch = 1.0 + rng.uniform(-retouch.aspect, retouch.aspect)
    size = round(plate[0] * SCALE), round(plate[1] * SCALE * stretch)
    (left, top), (right, bottom) = (
        np.array(corner) + rng.uniform(-retouch.shift, retouch.shift, 2) * size
        for corner in ((0, 0), size)
    )
    place = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    place += surface.margin(SCALE)
    # Pixel centres: the middle of the first pixel, at 0, is half a pixel from the edge.
    warp = cv2.getPerspectiveTransform(
        (source - 0.5).astype(np.float32), (place - 0.5).astype(np.float32)
    )
    return size, warp


def _recolour(image: np.ndarray, retouch: Retouch, rng: np.random.Generator) -> np.ndarray:
    """Changes the colourfulness of u8 [H, W, 3]."""
    amount = rng.uniform(*retouch.saturation)
    grey = np.array([0.299, 0.587, 0.114]) * (1.0 - amount)
    return cv2.transform(image, np.eye(3) * amount + grey)


def _curves(image: np.ndarray, retouch: Retouch, rng: np.random.Generator) -> np.ndarray:
    """Curves from grey levels to linear light, float32 [256, 1, 3]: contrast, white, colour."""
    luma = np.sort(cv2.cvtColor(image[::2, ::2], cv2.COLOR_RGB2GRAY), axis=None)
    middle, lightest = (float(luma[int(share * (luma.size - 1))]) for share in (0.5, 0.97))
    contrast = rng.uniform(*retouch.contrast)
    levels = np.clip(middle + contrast * (np.arange(256.0) - middle), 0.0, 255.0)
    white = max(middle + contrast * (lightest - middle), 32.0)
    gain = rng.uniform(*retouch.white) * (255.0 / white) ** 2.2
    gains = gain * (1.0 + rng.uniform(-retouch.colour, retouch.colour, 3))
    return (((levels / 255.0) ** 2.2)[:, None, None] * gains).astype(np.float32)


def _mount(
    light: np.ndarray,
    warp: np.ndarray,
    size: tuple[int, int],
    model: CameraModel[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """Lays a picture in linear light over a car, lit unevenly: see `degradation.shoot`."""
    ambient = 2.0 ** -max(model.night, 0.0)
    scene = surface.surroundings(size[::-1], ambient, rng, SCALE)
    shape = scene.shape[1::-1]
    cv2.warpPerspective(
        light, warp, shape, dst=scene, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    corners = 1.0 - model.unevenness * rng.random((2, 2), dtype=np.float32)
    scene *= cv2.merge([cv2.resize(corners, shape)] * 3)
    return scene
