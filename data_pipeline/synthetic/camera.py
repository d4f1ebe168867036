"""What a camera does to a plate, as numbers: `CameraModel` holds a value of every effect.

A preset is a model of ranges (`presets`); a group's conditions are a model of numbers drawn from
them. `degradation` takes the pictures.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")
Range = tuple[float, float]


@dataclass(frozen=True)
class CameraModel(Generic[T]):
    """All effects of the far camera: ranges (a preset) or one draw of them.

    Ranges are uniform. One that starts below zero belongs to an effect that is often absent: a
    negative draw means without it, so (-9, 1) is there one time in ten.

    Attributes:
      far_width: plate width on the sensor in the first far frame, pixels.
      near_width: plate width in the ground truth, pixels.
      stored_width: width to which far plates are enlarged when they are stored, pixels; an
        enlargement below 1 is not done.
      stretch: the stretch of all stored pictures in y: MDLP shows plates of 440 x 140 mm as 2.15 to
        2.4 : 1.
      focal: the focal length, millimetres.
      height: the height of the camera above the plate, metres.
      lateral: the place of the car beside the camera's axis, metres.
      heading: the heading of the car against the road, degrees.
      tilt: the tilt of the plate against the vertical, degrees.
      lean: roll of the camera, degrees.
      speed: the speed of the car, metres per second.
      interval: between far frames, seconds.
      slack: surplus of the detector's box over the plate, pixels of the picture, each side.
      exposure_time: the time of the exposure, seconds.
      row_time: the row time of the rolling shutter, seconds per row.
      vibration: the vibration of the camera on its pole, milliradians per second at the peak, in x;
        a quarter of it in y, for a pole sways and twists more than it nods.
      f_number: the f number of the lens.
      focus: focused distance over the ground truth's distance.
      aberration: spread of the lens beyond diffraction, pixels.
      extinction: the extinction of the air, per kilometre; 3.9 over the visibility in kilometres.
      airlight: brightness of the haze, 1 = white.
      shimmer: the shimmer of hot air over the road in far frames, pixels root mean square.
      rain: the rain, millimetres per hour.
      glare: core of a reflected light, 1 = white.
      night: stops by which the surroundings fall behind the lit plate.
      unevenness: the unevenness of the light over the plate, share.
      wear, dirt: amount, 0 to 1.
      occlusion: width of a bar in front of the plate, share of the scene's height.
      gain: exposure error of far frames, stops.
      near_gain: the near gain of the ground truth, stops.
      flicker: the flicker of the exposure between frames, stops, root mean square.
      tint: white-balance error of red and blue, stops, root mean square.
      electrons: the electrons of white on the sensor, logarithm to base 10.
      near_light: the logarithm to base 10 by which the ground truth has more of them.
      read_noise: the noise of reading, electrons.
      luma_denoise, chroma_denoise: spread of the camera's noise filters, pixels.
      contrast: the contrast of the tone curve, 0 to 1.
      saturation: the factor on colourfulness.
      sharpen: amount of unsharp masking.
      radius: the radius of the sharpening, pixels.
      overshoot: limit of its halos, share of white.
      qp: H.264 quantisation parameter of far frames.
      change: below which a block of a far frame repeats the frame before, quantisation steps; 0:
        every frame is coded alone.
      ghost: share of the frame before in the camera's noise reduction over time.
      comb: shift between odd and even rows of an interlaced frame, pixels.
      margin: surplus of the detector's box, share of the plate's height, each side.
      jitter: the jitter of the detector's box between frames, each side, pixels root mean square.
      fade: share of the characters' paint that has gone; `groups` draws the plate with it.
      grey: above 0: the whole group without colour, as by infrared light.
      quality: JPEG quality of far frames as stored.
    """

    far_width: T
    near_width: T
    stored_width: T
    stretch: T
    focal: T
    height: T
    lateral: T
    heading: T
    tilt: T
    lean: T
    speed: T
    interval: T
    slack: T
    exposure_time: T
    row_time: T
    vibration: T
    f_number: T
    focus: T
    aberration: T
    extinction: T
    airlight: T
    shimmer: T
    rain: T
    glare: T
    night: T
    unevenness: T
    wear: T
    dirt: T
    occlusion: T
    gain: T
    near_gain: T
    flicker: T
    tint: T
    electrons: T
    near_light: T
    read_noise: T
    luma_denoise: T
    chroma_denoise: T
    contrast: T
    saturation: T
    sharpen: T
    radius: T
    overshoot: T
    qp: T
    quality: T
    change: T
    ghost: T
    comb: T
    margin: T
    jitter: T
    fade: T
    grey: T


def draw(preset: CameraModel[Range], rng: np.random.Generator) -> CameraModel[float]:
    """Draws one group's conditions; a range of one value takes nothing from the generator."""
    ranges = list(vars(preset).values())
    shares = iter(rng.random(sum(low != high for low, high in ranges)).tolist())
    values = (low if low == high else low + (high - low) * next(shares) for low, high in ranges)
    return CameraModel(*map(float, values))
