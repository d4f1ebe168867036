"""The far camera: from a clean plate to the few pixels that a roadside camera leaves of it.

Light is linear float32 RGB (1 = white in full light) until the camera's tone curve, uint8 RGB
after it. Lengths are millimetres on the plate, pixels of the picture at hand, or metres where said.
"""

from dataclasses import dataclass

import cv2
import numpy as np

Range = tuple[float, float]

_MARGIN_MM = 110
_TO_LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
# sRGB of body paints, by their share of cars sold (BASF colour report 2022, rounded).
_BODY_COLOURS = np.array(
    [
        (228, 229, 230), (22, 22, 25), (120, 122, 126), (176, 178, 180), (34, 48, 84),
        (118, 20, 24), (86, 70, 56), (44, 62, 50),
    ],
    np.uint8,
)  # fmt: skip
_BODY_WEIGHTS = np.array([39, 18, 16, 8, 8, 5, 4, 2]) / 100.0


@dataclass(frozen=True)
class Preset:
    """Ranges of the camera's effects; each is drawn uniformly, once a group or once a frame.

    Attributes:
      far_width: plate width in the first frame, pixels.
      approach: distance of the first frame over that of the ground truth.
      yaw, pitch, roll: plate against the line of sight, degrees.
      margin: surplus of the detector's box over the plate, share of the plate's size.
      blur: Gaussian spread of optics and defocus, pixels of the far picture.
      motion: length of the motion blur, pixels.
      haze: veiling light, share of white.
      exposure: gain on linear light, natural logarithm.
      tint: spread of the colour channels' gains, natural logarithm.
      noise: full well of a pixel, electrons; photon noise is 1 / sqrt(electrons).
      sharpen: amount of unsharp masking.
      quality: JPEG quality of the far frames.
    """

    far_width: Range = (36.0, 52.0)
    approach: Range = (2.7, 3.6)
    yaw: Range = (-12.0, 12.0)
    pitch: Range = (4.0, 16.0)
    roll: Range = (-1.5, 0.8)
    margin: Range = (0.01, 0.11)
    blur: Range = (1.0, 1.9)
    motion: Range = (0.0, 2.5)
    haze: Range = (0.0, 0.2)
    exposure: Range = (-0.8, 0.6)
    tint: Range = (-0.09, 0.09)
    noise: Range = (3000.0, 20000.0)
    sharpen: Range = (2.0, 6.0)
    quality: Range = (45.0, 85.0)


PRESETS = {
    "real-like": Preset(),
    "mild": Preset(
        blur=(0.3, 0.8), motion=(0.0, 1.0), haze=(0.0, 0.1), exposure=(-0.4, 0.2),
        sharpen=(0.0, 1.5), quality=(70.0, 92.0), noise=(4000.0, 12000.0),
    ),
    "severe": Preset(
        far_width=(26.0, 40.0), approach=(3.4, 5.0), blur=(1.4, 2.4), motion=(0.0, 4.0),
        haze=(0.1, 0.5), exposure=(-1.5, 1.0), quality=(20.0, 60.0), noise=(200.0, 1500.0),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """Where one picture is taken from, and how: one moment of the approach."""

    width: float  # of the plate, pixels
    angles: tuple[float, float, float]  # yaw, pitch, roll, degrees
    margins: tuple[float, float, float, float]  # left, top, right, bottom; share of the plate
    blur: float
    motion: tuple[float, float]  # length in pixels, angle in degrees
    haze: float
    gains: tuple[float, float, float]
    electrons: float
    sharpen: float
    quality: int


def scene(plate: np.ndarray, bolts: tuple, rng: np.random.Generator) -> np.ndarray:
    """Mounts a plate on a car: body paint, recess, bolts, light from above.

    Args:
      plate: uint8 RGBA [H, W, 4] at 1 pixel a millimetre.
      bolts: centres (x, y) of the bolt heads, millimetres.
      rng: chooses paint, recess and shading.

    Returns:
      Linear float32 RGB [H + 220, W + 220, 3], the plate in the middle.
    """
    height, width = plate.shape[:2]
    m = _MARGIN_MM
    paint = _TO_LINEAR[_BODY_COLOURS[rng.choice(len(_BODY_COLOURS), p=_BODY_WEIGHTS)]]
    shade = np.linspace(1.0, rng.uniform(0.3, 1.1), height + 2 * m, dtype=np.float32)
    car = np.empty((height + 2 * m, width + 2 * m, 3), np.float32)
    car[...] = shade[:, None, None] * paint
    rim = rng.uniform(0, 30, 4).astype(int)
    recess = slice(m - rim[0], m + height + rim[1]), slice(m - rim[2], m + width + rim[3])
    car[recess] *= rng.uniform(0.05, 0.5)
    plate = plate.copy()
    for x, y in bolts:
        centre = (round(x + rng.normal(0, 2)), round(y + rng.normal(0, 2)))
        grey = int(rng.integers(90, 230))
        cv2.circle(plate, (centre[0] + 1, centre[1] + 2), 7, (30, 30, 30, 255), -1, cv2.LINE_AA)
        cv2.circle(plate, centre, 6, (grey, grey, grey, 255), -1, cv2.LINE_AA)
    inner = car[m : m + height, m : m + width]
    light = _TO_LINEAR[plate[..., :3]] * _plate_light(height, width, rng)
    alpha = _TO_LINEAR[plate[..., 3:]]
    inner += alpha * (light - inner)
    return car


def _plate_light(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Returns uneven light and fading paint over the plate: float32 [height, width, 3]."""
    corners = rng.uniform(0.7, 1.0, (2, 2, 1)) * rng.uniform(0.85, 1.0, 3)
    return cv2.resize(corners.astype(np.float32), (width, height))


def sample_views(
    preset: Preset, num_frames: int, rng: np.random.Generator
) -> tuple[list[View], View]:
    """Draws one approach: the views of the far frames, first to last, and of the ground truth."""
    draw = lambda bounds: float(rng.uniform(*bounds))  # noqa: E731
    far, near = draw(preset.far_width), draw(preset.approach)
    angles = np.array([draw(preset.yaw), draw(preset.pitch), draw(preset.roll)])
    blur, motion, haze = draw(preset.blur), draw(preset.motion), draw(preset.haze)
    direction = rng.uniform(0.0, 180.0)
    exposure, electrons = draw(preset.exposure), draw(preset.noise)
    tint, sharpen = rng.uniform(*preset.tint, 3), draw(preset.sharpen)
    margins = rng.uniform(*preset.margin, 4)
    frames = []
    for k in range(num_frames):
        shake = rng.normal(0.0, 0.1, 3)
        frames.append(
            View(
                width=far * (1.0 + 0.015 * k + rng.normal(0.0, 0.005)),
                angles=tuple(angles + rng.normal(0.0, 0.6, 3)),
                margins=tuple(margins + rng.normal(0.0, 0.015, 4)),
                blur=blur * float(np.exp(0.5 * shake[0])),
                motion=(motion * float(np.exp(2.0 * shake[1])), direction + 10.0 * shake[2]),
                haze=haze,
                gains=tuple(
                    np.exp(exposure + tint + rng.normal(0.0, 0.06) + rng.normal(0, 0.02, 3))
                ),
                electrons=electrons,
                sharpen=sharpen,
                quality=int(draw(preset.quality)),
            )
        )
    target = View(
        width=far * near,
        angles=tuple(angles * (1.3, 1.0, 1.0) - (0.0, 0.0, 1.2) + rng.normal(0.0, 1.0, 3)),
        margins=tuple(rng.uniform(-0.005, 0.03, 4)),
        blur=float(rng.uniform(0.45, 0.75)),
        motion=(0.0, 0.0),
        haze=float(rng.uniform(0.0, 0.05)),
        gains=tuple(np.exp(rng.uniform(-0.45, 0.35) + 0.4 * tint)),
        electrons=8000.0,
        sharpen=float(rng.uniform(0.3, 1.2)),
        quality=int(rng.integers(85, 96)),
    )
    return frames, target


def photograph(car: np.ndarray, view: View, rng: np.random.Generator) -> np.ndarray:
    """Takes one picture of a scene and crops the plate out of it.

    Args:
      car: linear float32 RGB of `scene`, at 1 pixel a millimetre.
      view: the moment.
      rng: the sensor's noise.

    Returns:
      uint8 RGB [h, w, 3]; the plate's box with the view's margins.
    """
    over = 4 if view.width < 90 else 2
    light = _project(car, view, over)
    light = _blur(light, view, over)
    light = cv2.resize(
        light, (light.shape[1] // over, light.shape[0] // over), interpolation=cv2.INTER_AREA
    )
    light = (light * (1.0 - view.haze) + view.haze * 0.7) * np.asarray(view.gains, np.float32)
    light = np.clip(_expose(light, view.electrons, rng), 0.0, 1.0)
    image = np.power(light, np.float32(1 / 2.2)) * np.float32(255.0)
    image = _sharpen(image, view.sharpen, 1.5 if over == 4 else 0.9)
    return _jpeg(image, view.quality, rng)


def _project(car: np.ndarray, view: View, over: int) -> np.ndarray:
    """Warps the scene to the picture's crop, `over` times as fine; float32."""
    m = _MARGIN_MM
    height, width = car.shape[0] - 2 * m, car.shape[1] - 2 * m
    if over == 4:
        car = cv2.resize(car, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    shrink = 0.5 if over == 4 else 1.0
    x, y = np.array([-width / 2, width / 2, width / 2, -width / 2]), np.array([-1, -1, 1, 1])
    corners = np.stack([x, y * height / 2, np.zeros(4)], axis=-1)
    yaw, pitch, roll = np.radians(view.angles)
    turned = corners @ _rotation(yaw, pitch, roll).T
    distance = 14.0 * width
    flat = turned[:, :2] * (distance / (distance + turned[:, 2:])) * (view.width / width)
    low, high = flat.min(axis=0), flat.max(axis=0)
    left, top, right, bottom = view.margins
    size = high - low
    low, high = low - size * (left, top), high + size * (right, bottom)
    shape = np.maximum(np.round(high - low).astype(int), 8)
    to = (flat - low) * (shape / (high - low)) * over
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]]) + m
    warp = cv2.getPerspectiveTransform(
        (source * shrink - 0.5).astype(np.float32), (to - 0.5).astype(np.float32)
    )
    return cv2.warpPerspective(
        car, warp, tuple(int(v) for v in shape * over), borderMode=cv2.BORDER_REPLICATE
    )


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return lean @ nod @ turn


def _blur(light: np.ndarray, view: View, over: int) -> np.ndarray:
    """Blurs by optics (Gaussian) and by motion during the exposure (a line)."""
    light = cv2.GaussianBlur(light, (0, 0), view.blur * over, borderType=cv2.BORDER_REPLICATE)
    length, angle = view.motion[0] * over, np.radians(view.motion[1])
    if length < 1.0:
        return light
    n = int(np.ceil(length)) | 1
    kernel = np.zeros((n + 2, n + 2), np.float32)
    middle = (n + 1) / 2
    dx, dy = length / 2 * np.cos(angle), length / 2 * np.sin(angle)
    ends = [(round((middle + s * dx) * 16), round((middle + s * dy) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    return cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _expose(light: np.ndarray, electrons: float, rng: np.random.Generator) -> np.ndarray:
    """Adds photon noise (variance = light / electrons) and read noise (0.3 % of white)."""
    spread = np.sqrt(np.maximum(light, 0.0) / np.float32(electrons) + np.float32(9e-6))
    return light + spread * rng.standard_normal(light.shape, dtype=np.float32)


def _sharpen(image: np.ndarray, amount: float, sigma: float) -> np.ndarray:
    """Unsharp masking, as cameras do in their picture processing."""
    smooth = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.clip(np.round(image + amount * (image - smooth)), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Compresses as a part of a larger picture: the block grid starts anywhere."""
    down, right = (int(v) for v in rng.integers(0, 8, 2))
    padded = cv2.copyMakeBorder(image, down, 8, right, 8, cv2.BORDER_REPLICATE)
    _, data = cv2.imencode(".jpg", padded[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    height, width = image.shape[:2]
    return np.ascontiguousarray(decoded[down : down + height, right : right + width, ::-1])
