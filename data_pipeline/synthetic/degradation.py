"""The far camera: from a clean plate to the few pixels that a roadside camera leaves of it.

`take` makes the pictures of one approach under the conditions of a `CameraModel`.
"""

import dataclasses
import functools
from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.synthetic import codec, optics, sensor, surface, weather
from data_pipeline.synthetic.approach import Approach, skew
from data_pipeline.synthetic.camera import CameraModel

# Pitch of a pixel of the picture, micrometres: 2 x 2 pixels of a 1/1.8-inch 4K sensor, the usual
# traffic camera that records at half its resolution.
PIXEL = 3.45
_BINNING = 2
# Cells of hot air, pixels of a far frame: some centimetres at a plate's distance.
SHIMMER_GRAIN = 3.0
# Detectors take the dark strip under a plate for its edge: (left, top), (right, bottom), pixels.
_UNDERCUT = np.array([[0.0, 0.2], [0.0, 0.6]])


@dataclass(frozen=True)
class View:
    """One moment: the plate's place in the picture and what the shutter saw of its motion."""

    corners: np.ndarray  # [4, 2] of the plate in the crop, pixels, clockwise from the upper left
    size: tuple[int, int]  # (height, width) of the crop, pixels
    motion: tuple[float, float]  # during the exposure, pixels
    distance: float  # metres
    stored: tuple[int, int]  # (height, width) of the crop as it is stored


@dataclass(frozen=True)
class Photographs:
    """What one approach gives.

    Attributes:
      frames: far ones, in the order of the approach, uint8 RGB [h, w, 3].
      target: the near one.
      corners: of the plate in each frame and, last, in the near one: [4, 2], (x, y) as parts of
        width and height, clockwise from the upper left.
    """

    frames: list[np.ndarray]
    target: np.ndarray
    corners: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Scene:
    """A mounted plate in several resolutions, each half of the one before.

    Attributes:
      levels: linear light, float32 RGB.
      margin: pixels around the plate in the first.
    """

    levels: tuple[np.ndarray, ...]
    margin: int

    @classmethod
    def of(cls, mounted: np.ndarray, margin: int) -> "Scene":
        """Halves the mounted plate as often as the smallest views may need."""
        levels = [mounted]
        for _ in range(2):
            size = [max(n // 2, 1) for n in levels[-1].shape[1::-1]]
            levels.append(cv2.resize(levels[-1], size, interpolation=cv2.INTER_AREA))
        return cls(tuple(levels), margin)

    def project(self, view: View, scale: int) -> np.ndarray:
        """Warps the scene into a crop, at `scale` samples per pixel: [H * scale, W * scale, 3].

        The coarsest level is taken whose plate has nine tenths of the crop's samples.
        """
        height, width = self.levels[0].shape[:2]
        samples, plate = view.size[1] * scale, width - 2 * self.margin
        level = max(k for k in range(len(self.levels)) if not k or plate >= 0.9 * samples * 2**k)
        image, m = self.levels[level], self.margin
        box = np.array([[m, m], [width - m, m], [width - m, height - m], [m, height - m]])
        source = box * image.shape[1::-1] / (width, height) - 0.5
        warp = cv2.getPerspectiveTransform(
            source.astype(np.float32), (view.corners * scale - 0.5).astype(np.float32)
        )
        size = view.size[1] * scale, view.size[0] * scale
        return cv2.warpPerspective(image, warp, size, borderMode=cv2.BORDER_REPLICATE)


def take(
    plate: np.ndarray,
    bolts: tuple,
    model: CameraModel[float],
    num_frames: int,
    rng: np.random.Generator,
    scale: float = 1.0,
) -> Photographs:
    """Photographs a plate several times from afar and once from near.

    Args:
      plate: uint8 RGBA [H, W, 4].
      bolts: centres of the bolts, (x, y) in millimetres.
      model: the conditions of the camera.
      num_frames: the number of far frames.
      rng: everything that differs between moments, noise included.
      scale: pixels per millimetre of `plate`.
    """
    plate = surface.wear(plate, model.wear, rng, scale)
    if model.dirt > 0:
        plate = surface.dirt(plate, model.dirt, rng, scale)
    plate = surface.bolt(plate, bolts, rng, scale)
    ambient = 2.0 ** -max(model.night, 0.0)
    light = _light(plate.shape, model.unevenness, rng)
    scene = surface.mount(plate, light, ambient, rng, scale)
    if model.occlusion > 0:
        scene = surface.occlude(scene, model.occlusion, rng, scale)
    return shoot(scene, scale, model, num_frames, rng)


def shoot(
    scene: np.ndarray,
    scale: float,
    model: CameraModel[float],
    num_frames: int,
    rng: np.random.Generator,
) -> Photographs:
    """Photographs a mounted plate several times from afar and once from near.

    Args:
      scene: linear light, float32 RGB [H + 2 m, W + 2 m, 3], of the plate and m pixels around it;
        see `surface`.
      scale: pixels per millimetre of the plate; m is `surface.margin(scale)`.
      model, num_frames, rng: as `take` takes them.
    """
    _keep_memory()
    m = surface.margin(scale)
    size = ((scene.shape[1] - 2 * m) / scale / 1000.0, (scene.shape[0] - 2 * m) / scale / 1000.0)
    pictured = Scene.of(scene, m)
    tint = model.tint * rng.standard_normal(2)
    far, near = views(model, size, num_frames, rng)
    frames = _record(pictured, far, model, tint, rng)
    # The ground truth is the frame that was chosen for being clear.
    clear = dataclasses.replace(model, electrons=model.electrons + model.near_light)
    target = photograph(pictured, near, clear, _gains(model.near_gain, 0.5 * tint), rng)
    corners = tuple(view.corners / np.array(view.size[::-1]) for view in (*far, near))
    return Photographs(frames, codec.jpeg(codec.enlarge(target, near.stored), 95, rng), corners)


@functools.cache
def _keep_memory() -> None:
    """Lets a process keep the 3 MB that a group needs, instead of asking for them each time.

    glibc gives free memory back to the system beyond twice the largest block that was freed. After
    this one of 16 MB, which is never touched, a group no longer costs 600 page faults.
    """
    np.empty(2**24, np.uint8)


def _record(
    scene: Scene,
    far: list[View],
    model: CameraModel[float],
    tint: np.ndarray,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Takes the far frames in their order: camera and recorder look back at the one before."""
    frames: list[np.ndarray] = []
    seen = coded = np.zeros((1, 1, 3), np.uint8)  # replaced before the first look back
    for before, view in zip([None, *far], far, strict=False):
        gain = model.gain + model.flicker * rng.standard_normal()
        image = photograph(scene, view, model, _gains(gain, tint), rng)
        if before is not None and model.ghost > 0:
            image = codec.mix(image, _followed(seen, before, view, rng), model.ghost)
        seen = image
        if model.comb > 0:
            image = codec.interlace(image, model.comb)
        reference = None
        if before is not None and model.change > 0:
            reference = _followed(coded, before, view, rng)
        coded = codec.video(image, model.qp, rng, reference, model.change)
        stored = codec.enlarge(coded, view.stored)
        frames.append(codec.jpeg(stored, round(model.quality), rng))
    return frames


def _followed(image: np.ndarray, before: View, view: View, rng: np.random.Generator) -> np.ndarray:
    """Moves the frame before to where the plate is now, but for an error of a quarter pixel."""
    places = [v.corners[:3].astype(np.float32) for v in (before, view)]
    places[1] = places[1] + rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    size = view.size[1], view.size[0]
    return cv2.warpAffine(
        image, cv2.getAffineTransform(*places), size, borderMode=cv2.BORDER_REPLICATE
    )


def _light(shape: tuple[int, ...], unevenness: float, rng: np.random.Generator) -> np.ndarray:
    """Returns light that changes over the plate, float32 [H, W, 3]."""
    corners = 1.0 - unevenness * rng.random((2, 2))
    return cv2.merge([cv2.resize(corners.astype(np.float32), shape[1::-1])] * 3)


def _gains(stops: float, tint: np.ndarray) -> np.ndarray:
    """Returns the gains of red, green and blue, float32 [3]."""
    return np.exp2([stops + tint[0], stops, stops + tint[1]]).astype(np.float32)


def views(
    model: CameraModel[float], size: tuple[float, float], num_frames: int, rng: np.random.Generator
) -> tuple[list[View], View]:
    """Places the plate in every picture of one approach.

    Args:
      model: the conditions of the camera.
      size: (width, height) of the plate, metres.
      num_frames: the number of far frames.
      rng: the generator of the detector's box and the vibration.

    Returns:
      The far views and the near one.
    """
    focal = model.focal * 1000.0 / PIXEL
    far, near = focal * size[0] / model.far_width, focal * size[0] / model.near_width
    approach = Approach(
        focal=focal, height=model.height, lateral=model.lateral, heading=model.heading,
        tilt=model.tilt, lean=model.lean, aim=1.3 * near, speed=model.speed,
    )  # fmt: skip
    # The interval is cut where a fast car would leave the far end within the far frames.
    step = min(model.speed * model.interval, 0.2 * far / num_frames)
    moments = [far - k * step for k in range(num_frames)]
    enlargement = max(model.stored_width / model.far_width, 1.0)
    return [_view(approach, d, size, model, enlargement, rng) for d in moments], _view(
        approach, near, size, model, 1.0, rng
    )


def _view(
    approach: Approach,
    distance: float,
    size: tuple[float, float],
    model: CameraModel[float],
    enlargement: float,
    rng: np.random.Generator,
) -> View:
    """Projects the plate at a distance and cuts the detector's box around it."""
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(size) / 2
    # A pole swings as a sine does: the shutter opens at any phase of it.
    swing = np.cos(rng.uniform(0.0, 2.0 * np.pi, 2)) * (1.0, 0.25)
    shake = swing * model.vibration * 1e-3 * approach.focal
    velocity = approach.velocity(distance) + shake
    corners = skew(approach.project(half, distance), velocity, model.row_time)
    slack = np.maximum(model.slack + _UNDERCUT + rng.normal(0.0, model.jitter, (2, 2)), -0.5)
    slack += model.margin * approach.focal * size[1] / distance
    low, high = corners.min(axis=0) - slack[0], corners.max(axis=0) + slack[1]
    shape = np.maximum(np.round(high - low).astype(int), 8)
    motion = velocity * model.exposure_time
    return View(
        corners=corners - low,
        size=(int(shape[1]), int(shape[0])),
        motion=(float(motion[0]), float(motion[1])),
        distance=distance,
        stored=(round(shape[1] * enlargement * model.stretch), round(shape[0] * enlargement)),
    )


def photograph(
    scene: Scene,
    view: View,
    model: CameraModel[float],
    gains: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Takes one picture: air, lens, sensor, picture processing; uint8 RGB of the view's size."""
    scale = 4 if view.size[1] < 64 else 2
    light = scene.project(view, scale)
    if model.shimmer > 0 and scale > 2:
        light = weather.shimmer(light, model.shimmer * scale, SHIMMER_GRAIN * scale, rng)
    light = _air(light, view, model, scale, rng)
    sigma = np.hypot(model.aberration, optics.diffraction(model.f_number, PIXEL))
    focus = model.focus * model.focal * 0.44 / (PIXEL * model.near_width) * 1000.0
    disc = optics.defocus(view.distance, focus, model.focal, model.f_number, PIXEL)
    light = optics.blur(light, float(sigma), disc, view.motion, scale)
    rows = light.reshape(len(light), -1)
    rows *= surface.in_row(gains, light.shape[1])
    raw = sensor.mosaic(optics.sample(light, scale // _BINNING))
    raw = sensor.expose(raw, 10.0**model.electrons / _BINNING**2, model.read_noise / _BINNING, rng)
    light = optics.sample(sensor.demosaic(raw), _BINNING)
    image = sensor.tone(light, contrast=model.contrast)
    image = sensor.denoise(image, model.luma_denoise, model.chroma_denoise)
    image = sensor.saturate(image, 0.0 if model.grey > 0 else model.saturation)
    image = sensor.sharpen(image, model.sharpen, model.radius, model.overshoot)
    return np.clip(np.round(image * 255.0), 0, 255).astype(np.uint8)


def _air(
    light: np.ndarray, view: View, model: CameraModel[float], scale: int, rng: np.random.Generator
) -> np.ndarray:
    """Adds what lies between the car and the lens."""
    passed = weather.transmission(view.distance, 3912.0 / max(model.extinction, 1e-6))
    light = weather.haze(light, passed, model.airlight * np.array([0.95, 0.98, 1.0]))
    if model.rain > 0:
        per_mm = view.size[1] * scale / 480.0
        light = weather.rain(light, model.rain, per_mm, model.exposure_time, rng)
    if model.glare > 0:
        centre = tuple(rng.uniform((-0.1, -0.2), (1.1, 0.8)))
        light = weather.glare(light, model.glare, centre)
    return light
