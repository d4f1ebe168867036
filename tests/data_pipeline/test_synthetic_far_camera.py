"""The fit of far frames: it finds a map, a blur, a gain and a noise that are known."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.styles import load_style

# Of the made-up pair, in pixels of the far grid of 48 x 24: stretched, shifted, turned.
STRETCH, SHIFT, RISE = (0.04, -0.05), (1.2, -0.7), 0.05
BLUR, GAIN, OFFSET = (0.026, 0.08), 0.7, 0.12


@pytest.fixture(scope="module")
def camera() -> ModuleType:
    folder = Path(__file__).parents[2] / "benchmarks" / "synthetic"
    sys.path.insert(0, str(folder))  # the script takes `likeness` from beside it
    try:
        spec = importlib.util.spec_from_file_location("camera", folder / "camera.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["camera"] = module  # its dataclass asks for its module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def near() -> np.ndarray:
    plate = draw_plate("苏A58K62", load_style("cn-blue"))[..., :3]
    return cv2.resize(plate, (144, 72), interpolation=cv2.INTER_AREA)


def far(truth: np.ndarray) -> np.ndarray:
    """A far frame made of a ground truth without the script's own code, float32 [24, 48, 3]."""
    light = truth.astype(np.float32) / 255.0
    soft = cv2.GaussianBlur(
        light, (0, 0), BLUR[0] * 144, sigmaY=BLUR[1] * 72, borderType=cv2.BORDER_REFLECT
    )
    ax, ay = 1 + STRETCH[0], 1 + STRETCH[1]
    # From far pixels to near ones, three to one, both about their middles.
    about = np.array([[ax, 0.0], [RISE, ay]]) * 3.0
    centre = np.array([71.5, 35.5]) + 3.0 * np.array(SHIFT) - about @ np.array([23.5, 11.5])
    warp = np.column_stack([about, centre])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    frame = cv2.warpAffine(soft, warp, (48, 24), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(GAIN * frame + OFFSET)


def test_the_map_of_a_made_up_pair_is_found(camera: ModuleType) -> None:
    truth = near()
    frame = np.round(far(truth) * 255).astype(np.uint8)
    fit = camera.fit_map(
        np.ascontiguousarray(camera.planes(truth, camera.NEAR)[..., 0]),
        camera.planes(frame, camera.FAR)[..., 0],
    )
    assert fit.place[[0, 4]] == pytest.approx(STRETCH, abs=0.01)
    assert fit.place[[2, 5]] == pytest.approx(SHIFT, abs=0.15)
    assert fit.place[3] == pytest.approx(RISE, abs=0.01)
    assert fit.blur == pytest.approx(BLUR, rel=0.1)
    assert (fit.gain, fit.offset) == pytest.approx((GAIN, OFFSET), abs=0.04)
    assert fit.explained > 0.99 and fit.remainder < 0.005


def test_the_remainder_is_the_noise_that_was_added(camera: ModuleType) -> None:
    truth, rng = near(), np.random.default_rng(0)
    white = 0.04 * rng.standard_normal((24, 48))
    smooth = cv2.GaussianBlur(white, (0, 0), 1.0)
    found = []
    for noise in (0.0 * white, white, smooth * white.std() / smooth.std()):
        frame = np.clip((far(truth) + noise[..., None]) * 255, 0, 255).astype(np.uint8)
        group = [frame, frame], truth
        found.append(camera.measure_group(group)[0])
    still, rough, soft = found
    assert still["remainder"] < 0.006
    # 83 numbers of 384 pixels are fitted, so some of the noise is taken for signal.
    assert 0.028 < rough["remainder"] < 0.042 and 0.02 < soft["remainder"] < 0.042
    assert abs(rough["remainder: x, 1 pixel"]) < 0.2 < 0.6 < soft["remainder: x, 1 pixel"]
    assert rough["remainder: power above 1/4"] > 0.35 > 0.1 > soft["remainder: power above 1/4"]
    assert rough["frames of a group: remainder alike"] == pytest.approx(1.0)
    assert rough["spread of the far frame"] == pytest.approx(
        float(np.hypot(still["spread of the far frame"], 0.04)), rel=0.1
    )


def test_halos_of_sharpening_show_in_the_filter(camera: ModuleType) -> None:
    truth = near()
    frame = far(truth)
    sharp = frame + 1.5 * (frame - cv2.GaussianBlur(frame, (0, 0), 2.0))
    lobes = []
    for picture in (frame, sharp):
        levels = np.clip(picture * 255, 0, 255).astype(np.uint8)
        lobes.append(camera.measure_group(([levels, levels], truth))[0])
    assert lobes[1]["filter: peak in x"] > 1.3 * lobes[0]["filter: peak in x"]
    assert lobes[1]["filter: x, 4 pixels"] < lobes[0]["filter: x, 4 pixels"] - 0.03


def test_a_range_to_try_replaces_the_preset_s(camera: ModuleType) -> None:
    model = camera.changed("real-like", ["electrons=2.5:3.5", "grey=-1"])
    assert model.electrons == (2.5, 3.5) and model.grey == (-1.0, -1.0)
    with pytest.raises(SystemExit, match="colour_of_the_sky"):
        camera.changed("real-like", ["colour_of_the_sky=0:1"])
    table = camera.report({"real": {"a": np.arange(11.0)}, "other": {"a": np.full(5, 20.0)}})
    assert "| a | 5.000 (1.000 to 9.000) | 20.000 (20.000 to 20.000) * |" in table
