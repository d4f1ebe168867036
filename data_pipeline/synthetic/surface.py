"""The plate on its car: wear, dirt, things in front of it, bolts, the bumper around it.

Plates are uint8 RGBA [H, W, 4] at `scale` pixels per millimetre; the mounted scene is linear light,
float32 RGB [H + 2 m, W + 2 m, 3] with m = `margin(scale)` pixels of car around the plate.
"""

from collections.abc import Sequence

import cv2
import numpy as np

MARGIN = 60  # millimetres
TO_LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
# sRGB of body paints and their shares of cars made in Asia (BASF colour report 2022, rounded).
_PAINTS = np.array(
    [
        (228, 229, 230), (22, 22, 25), (120, 122, 126), (176, 178, 180), (34, 48, 84),
        (118, 20, 24), (86, 70, 56), (44, 62, 50),
    ],
    np.uint8,
)  # fmt: skip
_SHARES = np.array([39, 18, 16, 8, 8, 5, 4, 2]) / 100.0


def margin(scale: float) -> int:
    """Pixels of car around a plate at `scale` pixels per millimetre."""
    return round(MARGIN * scale)


def in_row(colour: np.ndarray | float, width: int) -> np.ndarray:
    """A colour [3] in `width` pixels beside each other, float32 [3 width].

    With rows [H, 3 W] instead of pixels [H, W, 3] numpy computes much faster.
    """
    row = np.empty((width, 3), np.float32)
    row[...] = colour
    return row.ravel()


def blotches(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Returns smooth noise: float32 [H, W], about 0..1, with spots of `grain` pixels."""
    coarse = [max(round(n / grain) + 1, 2) for n in shape]
    noise = rng.random(coarse, dtype=np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)


def wear(
    plate: np.ndarray, amount: float, rng: np.random.Generator, scale: float = 1.0
) -> np.ndarray:
    """Fades and scratches the paint.

    Paint loses colour by weathering (chalking, ASTM D4214) and chips down to the aluminium sheet.
    The sizes of the spots, 60 mm and 6 mm, are our choice.

    Args:
      plate: the plate, uint8 RGBA.
      amount: 0 (new) to 1 (hardly legible).
      rng: the generator that decides where.
      scale: the pixels per millimetre.

    Returns:
      A new plate of the same shape.
    """
    chalk = np.float32(amount * 0.5) * blotches(plate.shape[:2], 60.0 * scale, rng)
    chips = blotches(plate.shape[:2], 6.0 * scale, rng)
    chips = np.clip((chips - np.float32(1.0 - 0.35 * amount)) * np.float32(8.0), 0.0, 1.0)
    # First chalk, then chips over it: what is left of the paint, and the grey that is added.
    bare = np.float32(1.0) - chips
    left, added = (1.0 - chalk) * bare, np.float32(185.0) * chalk * bare + np.float32(150.0) * chips
    return _mix(plate, left, [added] * 3)


def dirt(
    plate: np.ndarray, amount: float, rng: np.random.Generator, scale: float = 1.0
) -> np.ndarray:
    """Covers a plate with road dirt, more of it towards the bottom; see `wear` for the arguments.

    Spray comes from the road, so its share grows downwards; its colour is that of dry mud.
    """
    height, width = plate.shape[:2]
    rise = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    spots = blotches((height, width), 45.0 * scale, rng) + rise
    clean = 1.0 - np.float32(0.85) * np.clip((spots - np.float32(1.6 - amount)) * 2.0, 0.0, 1.0)
    mud = np.array([112, 98, 80], np.float32)
    return _mix(plate, clean, [(1.0 - clean) * level for level in mud])


def _mix(plate: np.ndarray, left: np.ndarray, added: Sequence[np.ndarray]) -> np.ndarray:
    """A new plate of `left` [H, W] of the colours of u8 RGBA, and of `added`, [H, W] of each."""
    mixed = plate.copy()
    for channel, more in enumerate(added):  # by channel: in loops over rows instead of pixels
        colour = plate[..., channel] * left
        colour += more
        mixed[..., channel] = np.clip(colour, 0, 255, out=colour)
    return mixed


def bolt(
    plate: np.ndarray, centres: tuple, rng: np.random.Generator, scale: float = 1.0
) -> np.ndarray:
    """Fastens a plate: heads of 12 to 14 mm (M6 plate bolts with caps), each with its shadow.

    `centres` are (x, y) in millimetres; see `wear` for the other arguments.
    """
    plate = plate.copy()
    grey = int(rng.integers(60, 230))
    for centre in centres:
        head = np.array(centre) + rng.normal(0.0, 2.0, 2)
        for shift, radius, colour in (
            ((1, 2), 8, (30, 30, 32)),
            ((0, 0), 6, (grey,) * 3),
            ((-1, -2), 2, (245,) * 3),
        ):
            # OpenCV takes places and radii in sixteenths of a pixel.
            x, y, r = (round(v * scale * 16) for v in (*(head + shift), radius))
            cv2.circle(plate, (x, y), r, (*colour, 255), -1, cv2.LINE_AA, 4)
    return plate


def occlude(
    scene: np.ndarray, amount: float, rng: np.random.Generator, scale: float = 1.0
) -> np.ndarray:
    """Puts a dark bar (a tow hook, a strap, a twig) in front of the plate; sizes are our choice.

    Args:
      scene: the scene in linear light.
      amount: width of the bar, share of the scene's height, 0 to 0.3.
      rng: the generator that decides where, and how steep.
      scale: the pixels per millimetre.
    """
    height, width = scene.shape[:2]
    x = rng.uniform(margin(scale), width - margin(scale))
    lean = rng.uniform(-0.4, 0.4) * height
    thickness = max(round(amount * height), 1)
    ends = (int(x - lean), 0), (int(x + lean), height)
    return cv2.line(scene.copy(), *ends, (0.03, 0.03, 0.03), thickness, cv2.LINE_AA)


def mount(
    plate: np.ndarray,
    light: np.ndarray,
    ambient: float,
    rng: np.random.Generator,
    scale: float = 1.0,
) -> np.ndarray:
    """Mounts a plate on a bumper and lights both.

    Args:
      plate: uint8 RGBA [H, W, 4].
      light: light on the plate, float32, broadcast to [H, W, 3]; 1 = full.
      ambient: light on the car, 1 = full; at night a retroreflecting plate outshines its car.
      rng: the generator of paint, recess and shadow.
      scale: the pixels per millimetre.

    Returns:
      Linear float32 RGB [H + 2 m, W + 2 m, 3].
    """
    height, width = plate.shape[:2]
    car, m = surroundings((height, width), ambient, rng, scale), margin(scale)
    inner = car[m : m + height, m : m + width]
    # Most rows of a plate are whole; those of its rounded corners show the car beside them.
    rounded = np.flatnonzero(plate[..., 3].min(axis=1) < 255)
    beside, share = inner[rounded], plate[rounded, :, 3:] / np.float32(255.0)
    lit = cv2.LUT(cv2.cvtColor(plate, cv2.COLOR_RGBA2RGB), TO_LINEAR)
    np.multiply(lit, light, out=inner)
    inner[rounded] = beside + share * (inner[rounded] - beside)
    return car


def surroundings(
    shape: tuple[int, int], ambient: float, rng: np.random.Generator, scale: float = 1.0
) -> np.ndarray:
    """The car around a plate of `shape` (H, W), and where the plate will be; see `mount`."""
    height, width = shape
    m = margin(scale)
    paint = TO_LINEAR[_PAINTS[rng.choice(len(_PAINTS), p=_SHARES)]] * np.float32(ambient)
    rows = np.linspace(1.0, rng.uniform(0.4, 1.0), height + 2 * m, dtype=np.float32)
    car = np.empty((height + 2 * m, width + 2 * m, 3), np.float32)
    np.multiply(rows[:, None], in_row(paint, width + 2 * m), out=car.reshape(height + 2 * m, -1))
    left, top, right, bottom = (int(v * scale) for v in rng.uniform(0, (40, 30, 40, 60)))
    plastic = rng.uniform(0.015, 0.25) * ambient if rng.random() < 0.5 else 0.8 * paint
    holder = car[m - top : m + height + bottom, m - left : m + width + right]
    holder[...] = in_row(plastic, holder.shape[1]).reshape(-1, 3)
    # The bumper's lower half and the plate's own shadow are dark.
    car[m + height :] *= np.float32(rng.uniform(0.02, 0.4))
    return car
