"""The scripts that fit and measure characters: on shapes whose lines and likeness are known."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from data_pipeline.synthetic.lettering import STROKES, glyph
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.styles import load_style


def script(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "synthetic" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fitting() -> ModuleType:
    return script("fit_strokes")


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    return script("lettering_shapes")


def cross() -> np.ndarray:
    """A cross of two strokes 9 mm wide, at 3 pixels a millimetre, and a short bar of its own."""
    ink = np.zeros((270, 135), np.uint8)
    cv2.line(ink, (67, 30), (67, 200), 1, 27)
    cv2.line(ink, (20, 100), (115, 100), 1, 27)
    cv2.line(ink, (60, 250), (75, 250), 1, 20)
    return ink.astype(np.float32)


def test_a_skeleton_is_one_pixel_wide_and_keeps_its_forks(fitting: ModuleType) -> None:
    bone = fitting.thin(cross() > 0.5)
    assert bone.sum() < 400 and (bone & (cross() < 0.5)).sum() == 0
    columns = bone[140:170].sum(axis=1)
    assert (columns == 1).all()
    paths = fitting.trace(bone)
    assert sum(spur for _, spur in paths) >= 4  # the arms of the cross
    assert any(not spur and len(path) < 30 for path, spur in paths)  # the bar


def test_lines_lie_on_the_strokes_and_have_their_widths(fitting: ModuleType) -> None:
    found, widths = fitting.lines(cross())
    lengths = [np.hypot(*np.diff(line, axis=0).T).sum() for line in found]
    assert sum(lengths) == pytest.approx(170 / 3 + 95 / 3, abs=15)
    long = [width for width, length in zip(widths, lengths, strict=True) if length > 12]
    assert long == pytest.approx([9.0] * len(long), abs=1.2)


def test_fitting_covers_the_ink_better(fitting: ModuleType) -> None:
    ink = cross()
    found, widths = fitting.lines(ink)
    found, widths = [line + 2.0 for line in found], [width - 3.0 for width in widths]
    grid = np.argwhere(np.ones((45, 22)))[:, ::-1] * 2.0 + 1.0
    target = ink[(grid[:, 1] * 3).astype(int), (grid[:, 0] * 3).astype(int)]

    def error(lines: list[np.ndarray], breadth: list[float]) -> float:
        points, ends, owner = fitting._segments(lines)
        cover = fitting.coverage(points, np.array(breadth), ends, owner, grid)
        return float(np.abs(np.asarray(cover) - target).mean())

    moved, breadth = fitting.refine(ink, found, widths, steps=60)
    assert error(moved, breadth) < 0.5 * error(found, widths)
    packed = fitting.packed(moved, breadth)
    assert packed[0][0] == round(breadth[0] * 4) and len(packed[0]) == 1 + 2 * len(moved[0])


def test_likeness_sees_through_blur_and_place_but_not_shape(shapes: ModuleType) -> None:
    drawn = shapes.padded(glyph("K", 45, 90, latin=STROKES))
    shift = np.float32([[1.03, 0, -2], [0, 0.98, 1.5]])
    real = cv2.warpAffine(cv2.GaussianBlur(drawn, (0, 0), 2.0), shift, drawn.shape[::-1])
    other = shapes.padded(glyph("H", 45, 90, latin=STROKES))
    assert shapes.likeness(drawn, real) > 0.99
    assert shapes.likeness(other, real) < 0.9


def test_characters_are_cut_from_a_plate_that_is_out_of_place(shapes: ModuleType) -> None:
    text = "皖A58K62"
    plate = draw_plate(text, load_style("cn-blue"))[..., :3]
    warp = np.float32([[0.55, 0.02, 20], [-0.02, 0.6, 22]])
    picture = cv2.warpAffine(plate, warp, (290, 130), borderValue=(40, 40, 40))
    patches = shapes.cut(text, shapes.grey(picture, "cn-blue"), np.array([16, 18, 252, 88.0]))
    assert len(patches) == 7
    for character, patch in zip(text, patches, strict=True):
        drawn = shapes.padded(glyph(character, 45, 90, latin=STROKES))
        assert shapes.likeness(drawn, patch) > 0.9, character
    noisy = [patches[0] + 0.3 * np.random.default_rng(k).standard_normal(patches[0].shape)
             for k in range(9)]  # fmt: skip
    middle = shapes.median([patch.astype(np.float32) for patch in noisy])
    errors = [np.abs(picture - patches[0]).mean() for picture in (middle, noisy[0])]
    assert errors[0] < 0.6 * errors[1]
    assert (
        shapes.cut("京N00000", shapes.grey(picture[::-1], "cn-blue"), np.array([0, 0, 99, 40]))
        == []
    )
