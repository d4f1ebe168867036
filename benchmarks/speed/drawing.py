"""How fast groups are made: seconds of processor time on one core, the other cores left alone.

python benchmarks/speed/drawing.py [--pictures PICS [--corners FILE]]

Also the far camera's share of it, by the profiler: what could be left to an accelerator at most.
"""

import argparse
import cProfile
import time
from collections.abc import Mapping

import cv2
import numpy as np

from data_pipeline.example import Source
from data_pipeline.synthetic import codec, degradation
from data_pipeline.synthetic.drawn import DrawnSource
from data_pipeline.synthetic.photographed import PictureSource
from data_pipeline.synthetic.presets import PRESETS

_WARM, _GROUPS, _RUNS = 400, 60, 9
# The far camera and the recorder behind it, picture by picture.
_CAMERA = {
    degradation.photograph,
    codec.mix,
    codec.interlace,
    codec.video,
    codec.enlarge,
    codec.jpeg,
}


def sources(pictures: str, corners: str) -> Mapping[str, Source]:
    """What is measured: drawn plates of each preset, and pictures as they are and set anew."""
    drawn: dict[str, Source] = {f"drawn, {name}": DrawnSource(preset=name) for name in PRESETS}
    if not pictures:
        return drawn
    anew = {"recombine": 0.6, "colours": {"blue": 0.65, "green": 0.3, "yellow": 0.05}}
    drawn["pictures"] = PictureSource(pictures, corners)
    drawn["pictures, set anew"] = PictureSource(pictures, corners, **anew)
    return drawn


def milliseconds(source: Source) -> list[float]:
    """Milliseconds a group, of several runs over the same groups."""
    for index in range(_WARM):
        source[index]
    times = []
    for _ in range(_RUNS):
        start = time.process_time()
        for index in range(_GROUPS):
            source[index]
        times.append((time.process_time() - start) / _GROUPS * 1e3)
    return times


def camera_share(source: Source) -> float:
    """The share of a group's time that is spent in the far camera and what follows it."""
    profile = cProfile.Profile(time.process_time)  # not the clock: other work
    start = time.process_time()
    with profile:
        for index in range(_GROUPS):
            source[index]
    whole = time.process_time() - start
    camera = {function.__code__ for function in _CAMERA}
    return sum(entry.totaltime for entry in profile.getstats() if entry.code in camera) / whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", default="", help="a folder of clean pictures")
    parser.add_argument("--corners", default="", help="its corners, of `lpdiff locate`")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    for name, source in sources(args.pictures, args.corners).items():
        times = milliseconds(source)
        print(
            f"{name}: {np.median(times):.2f} ms per group, {1e3 / np.median(times):.0f} groups/s "
            f"({1e3 / max(times):.0f} to {1e3 / min(times):.0f}), camera {camera_share(source):.0%}"
        )


if __name__ == "__main__":
    main()
