"""The plate on its car: wear, dirt, things in front of it, bolts, the bumper around it.

Plates are uint8 RGBA [H, W, 4] at 1 pixel a millimetre; the mounted scene is linear light, float32
RGB [H + 2 m, W + 2 m, 3] with m = `MARGIN` millimetres of car around the plate.
"""

import cv2
import numpy as np

MARGIN = 60
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


def blotches(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> np.ndarray:
    """Returns smooth noise: float32 [H, W], about 0..1, with spots of `grain` pixels."""
    coarse = [max(round(n / grain) + 1, 2) for n in shape]
    noise = rng.random(coarse, dtype=np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)


def wear(plate: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Fades and scratches the paint.

    Paint loses colour by weathering (chalking, ASTM D4214) and chips down to the aluminium sheet.
    The sizes of the spots, 60 mm and 6 mm, are our choice.

    Args:
      plate: uint8 RGBA.
      amount: 0 (new) to 1 (hardly legible).
      rng: where.

    Returns:
      A new plate of the same shape.
    """
    worn = plate.copy()
    colour = plate[..., :3].astype(np.float32)
    chalk = np.float32(amount * 0.5) * blotches(plate.shape[:2], 60.0, rng)[..., None]
    chips = np.clip((blotches(plate.shape[:2], 6.0, rng) - 1.0 + 0.35 * amount) * 8.0, 0.0, 1.0)
    colour += chalk * (np.float32(185.0) - colour)
    chipped = chips > 0.0
    colour[chipped] += chips[chipped][:, None] * (np.float32(150.0) - colour[chipped])
    worn[..., :3] = np.clip(colour, 0, 255, out=colour)
    return worn


def dirt(plate: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Covers a plate with road dirt, more of it towards the bottom; see `wear` for the arguments.

    Spray comes from the road, so its share grows downwards; its colour is that of dry mud.
    """
    height, width = plate.shape[:2]
    rise = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    spots = blotches((height, width), 45.0, rng) + rise
    cover = (0.85 * np.clip((spots - 1.6 + amount) * 2.0, 0.0, 1.0))[..., None]
    dirty = plate.copy()
    mud = np.array([112, 98, 80], np.float32)
    dirty[..., :3] = plate[..., :3] + cover * (mud - plate[..., :3])
    return dirty


def bolt(plate: np.ndarray, centres: tuple, rng: np.random.Generator) -> np.ndarray:
    """Fastens a plate: heads of 12 to 14 mm (M6 plate bolts with caps), each with its shadow."""
    plate = plate.copy()
    grey = int(rng.integers(60, 230))
    for x, y in centres:
        head = round(x + rng.normal(0.0, 2.0)), round(y + rng.normal(0.0, 2.0))
        cv2.circle(plate, (head[0] + 1, head[1] + 2), 8, (30, 30, 32, 255), -1, cv2.LINE_AA)
        cv2.circle(plate, head, 6, (grey, grey, grey, 255), -1, cv2.LINE_AA)
        cv2.circle(plate, (head[0] - 1, head[1] - 2), 2, (245, 245, 245, 255), -1, cv2.LINE_AA)
    return plate


def occlude(scene: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Puts a dark bar (a tow hook, a strap, a twig) in front of the plate; sizes are our choice.

    Args:
      scene: linear light.
      amount: width of the bar, share of the scene's height, 0 to 0.3.
      rng: where and how steep.
    """
    height, width = scene.shape[:2]
    x = rng.uniform(MARGIN, width - MARGIN)
    lean = rng.uniform(-0.4, 0.4) * height
    thickness = max(round(amount * height), 1)
    ends = (int(x - lean), 0), (int(x + lean), height)
    return cv2.line(scene.copy(), *ends, (0.03, 0.03, 0.03), thickness, cv2.LINE_AA)


def mount(
    plate: np.ndarray, light: np.ndarray, ambient: float, rng: np.random.Generator
) -> np.ndarray:
    """Mounts a plate on a bumper and lights both.

    Args:
      plate: uint8 RGBA [H, W, 4].
      light: light on the plate, float32, broadcast to [H, W, 3]; 1 = full.
      ambient: light on the car, 1 = full; at night a retroreflecting plate outshines its car.
      rng: paint, recess, shadow.

    Returns:
      Linear float32 RGB [H + 2 m, W + 2 m, 3].
    """
    height, width = plate.shape[:2]
    m = MARGIN
    paint = TO_LINEAR[_PAINTS[rng.choice(len(_PAINTS), p=_SHARES)]] * np.float32(ambient)
    rows = np.linspace(1.0, rng.uniform(0.4, 1.0), height + 2 * m, dtype=np.float32)
    car = np.empty((height + 2 * m, width + 2 * m, 3), np.float32)
    car[:] = rows[:, None, None] * paint
    left, top, right, bottom = (int(v) for v in rng.uniform(0, (40, 30, 40, 60)))
    plastic = rng.uniform(0.015, 0.25) * ambient if rng.random() < 0.5 else 0.8 * paint
    car[m - top : m + height + bottom, m - left : m + width + right] = plastic
    # The bumper's lower half and the plate's own shadow are dark.
    car[m + height :] *= np.float32(rng.uniform(0.02, 0.4))
    inner = car[m : m + height, m : m + width]
    lit = cv2.LUT(np.ascontiguousarray(plate[..., :3]), TO_LINEAR) * light
    solid = plate[..., 3] == 255  # all but the rounded corners
    shares = plate[~solid, 3:] / np.float32(255.0)
    corners = inner[~solid] + shares * (lit[~solid] - inner[~solid])
    inner[:] = lit
    inner[~solid] = corners
    return car
