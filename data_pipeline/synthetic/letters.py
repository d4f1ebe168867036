"""Real plates taken apart and set anew: other texts, other colours, of the letters that were seen.

A rectified plate is a ground and characters on it. In the box of each character the picture is a
mixture of two colours: the share of the characters' colour is the box's coverage. Coverages of
many plates are the type case; a plate is set by mixing the colours of one ground by coverages of
others, so that letters keep their paint, their blur and their noise.
"""

import functools
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from data_pipeline.images import read_image
from data_pipeline.synthetic import surface
from data_pipeline.synthetic.corners import style_of
from data_pipeline.synthetic.pictures import SCALE, Picture, Sight
from data_pipeline.synthetic.styles import PlateStyle, load_style
from data_pipeline.synthetic.texts import PROVINCES, sample_text

# Millimetres around a character's box that belong to it: the gap of 12 mm is shared.
_PAD = (5.0, 4.0)
# Pixels over which a new box passes into its ground.
_FEATHER = 3
# Least distance of a box's two colours, grey levels: below it there is nothing to take.
_LEAST_CONTRAST = 30.0
# Millimetres from the upper and the lower edge between which characters stand, bolts do not.
_BAND = (20.0, 120.0)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Linear light of a new plate's white and blue.
_WHITE, _BLUE = 0.85, 0.117
# Style whose layout and texts a colour has, colours of the ground at the top and the bottom, and
# of the characters.
COLOURS = {
    "blue": ("cn-blue", None, None),
    "yellow": ("cn-yellow", ("#f0b000", "#f0b000"), "#101010"),
    "white": ("cn-blue", ("#ececec", "#ececec"), "#141414"),
    "green": ("cn-green", ("#dcf0ea", "#54c6a2"), "#101010"),
}
_TRIES = 8


@dataclass(frozen=True)
class Box:
    """A character taken from its plate: two colours and the share of the second, u8 [h, w]."""

    ground: np.ndarray
    ink: np.ndarray
    coverage: np.ndarray


@dataclass
class TypeCase:
    """The characters of many pictures, each taken apart when it is first asked for.

    Attributes:
      pictures: those whose corners and style are known.
      balance: as `pictures.province_weights` takes it.
    """

    pictures: Sequence[Picture]
    balance: float = 0.5
    _boxes: dict[int, list[Box]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, picture in enumerate(self.pictures):
            for slot, character in enumerate(picture.text):
                self._places[character].append((i, slot))
        provinces = [c for c in self._places if c in PROVINCES]
        self._provinces = "".join(sorted(provinces))
        weights = np.array([len(self._places[c]) ** (1 - self.balance) for c in self._provinces])
        self._chances = weights / max(weights.sum(), 1e-9)

    def sample_text(
        self, style: PlateStyle, rng: np.random.Generator, avoid: Collection[str]
    ) -> str | None:
        """A text of the style whose characters are all there; None where none was found."""
        if not self._provinces:
            return None
        for _ in range(_TRIES):
            text = sample_text(style, rng)
            if text[0] in PROVINCES:
                text = str(rng.choice(list(self._provinces), p=self._chances)) + text[1:]
            if text not in avoid and all(character in self._places for character in text):
                return text
        return None

    def take(self, character: str, rng: np.random.Generator) -> np.ndarray | None:
        """The coverage of a character, of any plate that has it clearly: float32 [h, w]."""
        places = self._places[character]
        for _ in range(_TRIES):
            i, slot = places[rng.integers(len(places))]
            box = self.boxes(i)[slot]
            if np.abs(box.ink - box.ground).max() >= _LEAST_CONTRAST:
                return box.coverage.astype(np.float32) / np.float32(160.0) - np.float32(0.25)
        return None

    def boxes(self, i: int) -> list[Box]:
        """The characters of picture i."""
        if i not in self._boxes:
            picture = self.pictures[i]
            style = known_style(picture)
            assert style is not None and picture.corners is not None
            plate = rectify(read_image(picture.path), np.array(picture.corners), style.size, 0)
            self._boxes[i] = [take_apart(plate, box, style) for box in style.boxes]
        return self._boxes[i]


def known_style(picture: Picture) -> PlateStyle | None:
    """The style of a picture that can be taken apart; None of others."""
    return None if picture.corners is None else style_of(picture.text, picture.colour)


def rectify(
    image: np.ndarray, corners: np.ndarray, size: tuple[float, float], margin: int
) -> np.ndarray:
    """The plate face on at `SCALE` pixels per millimetre, with `margin` pixels around it."""
    width, height = (round(v * SCALE) for v in size)
    box = np.array([[0, 0], [width, 0], [width, height], [0, height]]) + margin
    warp = cv2.getPerspectiveTransform(
        corners.astype(np.float32) - 0.5, box.astype(np.float32) - 0.5
    )
    whole = width + 2 * margin, height + 2 * margin
    return cv2.warpPerspective(image, warp, whole, borderMode=cv2.BORDER_REPLICATE)


def take_apart(plate: np.ndarray, box: Sequence[float], style: PlateStyle) -> Box:
    """Takes a character from a rectified plate, uint8 RGB [H, W, 3]."""
    left, top, right, bottom = _cell(box)
    pixels = plate[top:bottom, left:right].astype(np.float32)
    ground, ink = _two_colours(pixels, _bright_ink(style))
    # From -0.25 to 1.34 in 8 bits.
    levels = (_share(pixels, ground, ink) + 0.25) * 160.0
    return Box(ground, ink, np.clip(levels, 0, 255).astype(np.uint8))


def _cell(box: Sequence[float]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a character's part of the plate, pixels."""
    x, y, w, h = box
    edges = x - _PAD[0], y - _PAD[1], x + w + _PAD[0], y + h + _PAD[1]
    left, top, right, bottom = (round(max(v, 0.0) * SCALE) for v in edges)
    return left, top, right, bottom


def _bright_ink(style: PlateStyle) -> bool:
    ground, ink = (int(colour[3:5], 16) for colour in (style.background[0], style.foreground))
    return ink > ground


def _two_colours(pixels: np.ndarray, bright: bool) -> tuple[np.ndarray, np.ndarray]:
    """The colours of ground and ink, float32 [3] each, of pixels [h, w, 3]."""
    flat = pixels[::2, ::2].reshape(-1, 3)
    luma = flat @ _LUMA
    order = np.argsort(luma if bright else -luma)
    # Even a 1 covers more than an eighth of its box, and an M leaves half of it.
    return flat[order[: len(order) * 45 // 100]].mean(0), flat[order[-len(order) // 10 :]].mean(0)


def _share(pixels: np.ndarray, ground: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """How far from the ground's colour to the ink's each pixel is, float32 [h, w]."""
    step = ink - ground
    return (pixels - ground) @ (step / max(float(step @ step), 1.0))


def set_anew(
    picture: Picture,
    case: TypeCase,
    colour: str,
    rng: np.random.Generator,
    avoid: Collection[str] = (),
    keep_text: bool = False,
) -> Sight | None:
    """Sets a plate of other characters, of another colour, or of both, on a picture's ground.

    Args:
      picture: the ground: its paint, light, frame, bolts and surroundings are kept.
      case: the pictures that characters are taken from.
      colour: one of `COLOURS`, for blue plates; others keep their own, as `blue` does.
      rng: the generator of all choices.
      avoid: texts that must not come about.
      keep_text: the picture's own characters stay, if the new colour has the same number.

    Returns:
      The rectified picture; None where the ground is not fit for it, or characters are lacking.
    """
    old = known_style(picture)
    if old is None or picture.corners is None:
        return None
    name, grounds, ink = COLOURS[colour if old.name == "cn-blue" else "blue"]
    style = load_style(name) if grounds else old
    keep = keep_text and len(picture.text) == len(style.boxes)
    text = picture.text if keep else case.sample_text(style, rng, avoid)
    if text is None:
        return None
    margin, known = surface.margin(SCALE), read_image(picture.path)
    image = rectify(known, np.array(picture.corners), style.size, margin)
    sheet = _Sheet.of(image, margin, old, style.size)
    if sheet is None:
        return None
    if not keep:
        letters = [
            letter for character in text if (letter := case.take(character, rng)) is not None
        ]
        if len(letters) < len(text):
            return None
        if style.size != old.size:
            sheet.erase()
        for letter, box in zip(letters, style.boxes, strict=True):
            sheet.place(letter, box)
    sheet.paint(grounds, ink, rng)
    left, top, right, bottom = _seen(known.shape, picture.corners, image.shape, margin)
    width, height = image.shape[1] - 2 * margin, image.shape[0] - 2 * margin
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    corners += (margin - left, margin - top)
    return Sight(image[top:bottom, left:right], text, corners, style.size, corners)


def _seen(
    shape: tuple[int, ...], corners: Sequence, whole: tuple[int, ...], margin: int
) -> tuple[int, int, int, int]:
    """The part of a rectified picture that the picture shows, at least the plate.

    Args:
      shape: the shape of the picture.
      corners: the corners of the plate in it.
      whole: shape of the rectified picture.
      margin: pixels around the plate there.

    Returns:
      Left, top, right and bottom.
    """
    (high, wide), (height, width) = whole[:2], shape[:2]
    box = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    box += margin * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32)
    warp = cv2.getPerspectiveTransform(np.array(corners, np.float32), box)
    edges = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    (nw, ne, se, sw) = cv2.perspectiveTransform(edges[:, None], warp)[:, 0]
    left, top = (int(np.clip(np.ceil(max(v)), 0, margin)) for v in ((nw[0], sw[0]), (nw[1], ne[1])))
    right = int(np.clip(min(ne[0], se[0]), wide - margin, wide))
    bottom = int(np.clip(min(sw[1], se[1]), high - margin, high))
    return left, top, right, bottom


@dataclass
class _Sheet:
    """A rectified plate as coverage and two colours, painted back into its picture.

    Attributes:
      image: uint8 RGB, of which `plate` is a part.
      plate: the plate's part of it.
      coverage: float32 [H, W] of the plate.
      ground: colour of each column, float32 [W, 3].
      ink: colour of each column, float32 [W, 3].
    """

    plate: np.ndarray
    coverage: np.ndarray
    ground: np.ndarray
    ink: np.ndarray

    @classmethod
    def of(
        cls, image: np.ndarray, margin: int, style: PlateStyle, size: tuple[float, float]
    ) -> "_Sheet | None":
        """Takes the plate in the middle of a picture apart; None where it has no contrast."""
        plate = image[margin:-margin, margin:-margin]
        stretch = size[0] / style.size[0]
        colours, centres = [], []
        for x, y, w, h in style.boxes:
            left, top, right, bottom = _cell((x * stretch, y, w * stretch, h))
            pixels = plate[top:bottom, left:right].astype(np.float32)
            colours.append(np.concatenate(_two_colours(pixels, _bright_ink(style))))
            centres.append((left + right) / 2)
        across = np.arange(plate.shape[1])
        table = np.array(colours)
        both = np.stack([np.interp(across, centres, column) for column in table.T], axis=1)
        ground, ink = both[:, :3].astype(np.float32), both[:, 3:].astype(np.float32)
        step = ink - ground
        if np.abs(step).max(axis=1).min() < _LEAST_CONTRAST:
            return None
        weight = step / (step * step).sum(axis=1, keepdims=True)
        coverage = ((plate.astype(np.float32) - ground) * weight).sum(axis=2)
        return cls(plate, np.clip(coverage, -0.25, 1.3), ground, ink)

    def erase(self) -> None:
        """Empties the band in which characters stand, but for the frame line on both sides."""
        edge = round(9 * SCALE)
        top, bottom = (round(v * SCALE) for v in _BAND)
        band = self.coverage[top:bottom, edge:-edge]
        band *= 1.0 - _feather(band.shape)

    def place(self, letter: np.ndarray, box: Sequence[float]) -> None:
        """Puts a character into its box."""
        left, top, right, bottom = _cell(box)
        cell = self.coverage[top:bottom, left:right]
        if letter.shape != cell.shape:
            letter = cv2.resize(letter, cell.shape[::-1], interpolation=cv2.INTER_AREA)
        cell += _feather(cell.shape) * (letter - cell)

    def paint(
        self, grounds: tuple[str, str] | None, ink: str | None, rng: np.random.Generator
    ) -> None:
        """Paints the plate into its picture, in its own colours or, in its own light, in others."""
        ground, letters = self.ground[None], self.ink[None]
        if grounds is not None and ink is not None:
            ground, letters = self._relit(grounds, ink, rng)
        mixed = ground + self.coverage[..., None] * (letters - ground)
        inside = _feather(self.coverage.shape, 1)[..., None]
        self.plate[...] = np.clip(self.plate + inside * (mixed - self.plate) + 0.5, 0, 255)

    def _relit(
        self, grounds: tuple[str, str], ink: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """New colours in the light in which the old ones were seen, [H, W, 3] and [1, W, 3]."""
        white, blue = (np.power(c / 255.0, 2.2) for c in (self.ink.mean(0), self.ground.mean(0)))
        bright, dark = float(white @ _LUMA), float(blue @ _LUMA)
        gain = max(bright - dark, 0.02) / (_WHITE - _BLUE)
        haze = max(dark - gain * _BLUE, 0.0)
        tint = np.clip(white / max(bright, 1e-3), 0.75, 1.3)
        # Light changes across the plate as the old ground's does.
        across = np.power(np.maximum(self.ground @ _LUMA, 8.0) / 255.0, 2.2)
        across = np.clip(across / across.mean(), 0.5, 2.0)[None, :, None]

        def seen(colour: str) -> np.ndarray:
            paint = np.array([surface.TO_LINEAR[int(colour[k : k + 2], 16)] for k in (1, 3, 5)])
            return (gain * paint * rng.uniform(0.85, 1.1, 3) + haze) * tint

        height = self.coverage.shape[0]
        down = np.linspace(0.0, 1.0, height)[:, None, None]
        upper, lower = seen(grounds[0]), seen(grounds[1])
        linear = (upper + (lower - upper) * down) * across, seen(ink) * across
        first, second = (255.0 * np.clip(v, 0.0, 1.0) ** (1 / 2.2) for v in linear)
        return first.astype(np.float32), second.astype(np.float32)


@functools.lru_cache(maxsize=32)
def _feather(shape: tuple[int, ...], width: int = _FEATHER) -> np.ndarray:
    """1 within, falling over `width` pixels towards the edges: float32 [h, w]."""
    ramps = [np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in shape]
    return np.outer(*(np.minimum(ramp / (width + 1), 1.0) for ramp in ramps)).astype(np.float32)
