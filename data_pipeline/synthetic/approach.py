"""One approach: a car drives towards a camera on a gantry, and is seen at several moments.

Road coordinates in metres with the camera in the origin: x to the right, y down, z along the road.
Sizes, tilt, shear, motion blur and rolling-shutter skew of every picture follow from one motion.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Approach:
    """A camera and a car on its way.

    Attributes:
      focal: focal length over pixel pitch, pixels; 16 mm over 3.45 micrometres is 4600.
      height: of the camera above the plate, metres (gantries carry cameras 5 to 7 m high).
      lateral: of the car to the camera's right, metres.
      heading: of the car against the road, degrees.
      tilt: of the plate against the vertical, degrees.
      lean: roll of the camera, degrees.
      aim: distance at which the camera's axis meets the plate's height, metres.
      speed: of the car, metres a second.
    """

    focal: float
    height: float
    lateral: float
    heading: float
    tilt: float
    lean: float
    aim: float
    speed: float

    def project(self, points: np.ndarray, distance: float) -> np.ndarray:
        """Projects points of the plate's plane.

        The pinhole camera: Hartley and Zisserman, "Multiple view geometry", 2004, chapter 6.

        Args:
          points: [N, 2] metres from the plate's centre, x to the right, y down.
          distance: of the plate along the road, metres.

        Returns:
          [N, 2] pixels from the picture's centre.
        """
        plate = points @ self._plate_turn[:, :2].T
        # A car that is not parallel to the road drifts sideways on its way.
        drift = np.tan(np.radians(self.heading)) * (distance - self.aim)
        world = plate + np.array([self.lateral + drift, self.height, distance])
        seen = world @ self._camera_turn.T
        return self.focal * seen[:, :2] / seen[:, 2:]

    @cached_property
    def _plate_turn(self) -> np.ndarray:
        return _turn(math.radians(self.heading), math.radians(self.tilt), 0.0)

    @cached_property
    def _camera_turn(self) -> np.ndarray:
        pan, nod = math.atan2(self.lateral, self.aim), -math.atan2(self.height, self.aim)
        return _turn(-pan, -nod, math.radians(self.lean))

    def velocity(self, distance: float) -> np.ndarray:
        """Returns the speed of the plate's centre in the picture, [2] pixels a second."""
        step = 1e-3
        here, there = (self.project(np.zeros((1, 2)), distance - s) for s in (0.0, step))
        return (there - here)[0] / step * self.speed

    def distance(self, width: float, plate_width: float) -> float:
        """Returns the distance in metres at which a plate (metres) is `width` pixels wide."""
        return self.focal * plate_width / width


def skew(points: np.ndarray, velocity: np.ndarray, row_time: float) -> np.ndarray:
    """Skews points by a rolling shutter, which reads a row `row_time` seconds after the one above.

    Row times of 5 to 20 microseconds are those of 1/2.8-inch CMOS sensors (30 ms over 2,200 rows is
    14); see Liang, Chang and Chen, "Analysis and compensation of rolling shutter effect", IEEE TIP
    2008.

    Args:
      points: [N, 2] pixels.
      velocity: [2] pixels a second.
      row_time: seconds a row.
    """
    delay = (points[:, 1:] - points[:, 1:].mean()) * row_time
    return points + delay * velocity


def _turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The rotation [3, 3] about y (yaw), then x (pitch), then z (roll); radians."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y
