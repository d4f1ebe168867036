"""Boxes and corners, and plates cut out by them."""

import cv2
import numpy as np
import pytest

from data_pipeline.errors import DataError
from lpdiff_jax.restoring.regions import Region, cut, overlap


def test_a_box_is_cut_out_to_the_pixel():
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    np.testing.assert_array_equal(cut(image, Region.of_box(4, 3, 10, 6), "x"), image[3:9, 4:14])
    # What lies outside is left away.
    assert cut(image, Region.of_box(-5, 10, 20, 100), "x").shape == (10, 15, 3)


def test_corners_in_any_order_undo_the_perspective():
    flat = np.zeros((40, 120, 3), np.uint8)
    flat[:20, ::10] = 255
    flat[:, :60] = (200, 0, 0)
    flat = cv2.GaussianBlur(flat, (0, 0), 2)  # sampling twice softens edges
    corners = np.array([[30, 20], [160, 40], [150, 85], [35, 60]], np.float32)
    edges = np.array([[0, 0], [120, 0], [120, 40], [0, 40]], np.float32)
    matrix = cv2.getPerspectiveTransform(edges - 0.5, corners - 0.5)
    scene = cv2.warpPerspective(flat, matrix, (200, 120))
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        plate = cut(scene, Region.of_corners(corners[order]), "x")
        again = cv2.resize(plate, (120, 40), interpolation=cv2.INTER_AREA)
        assert np.abs(again.astype(int) - flat).mean() < 5
    # As it stands in the scene it is far from the plate.
    upright = cv2.resize(cut(scene, Region.of_box(30, 20, 130, 65), "x"), (120, 40))
    assert np.abs(upright.astype(int) - flat).mean() > 15


def test_a_region_outside_or_too_small_is_named():
    image = np.zeros((20, 30, 3), np.uint8)
    for box, message in (((40, 0, 10, 5), "outside"), ((1, 1, 3, 3), "3 x 3 pixels")):
        with pytest.raises(DataError, match=f"shot.png.*{message}"):
            cut(image, Region.of_box(*box), "shot.png")


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, -3, 5), (float("nan"), 0, 3, 3)])
def test_what_is_no_box_is_refused(box):
    with pytest.raises(ValueError, match="no box"):
        Region.of_box(*box)


def test_corners_on_a_line_are_refused():
    with pytest.raises(ValueError, match="no area"):
        Region.of_corners([[0, 0], [1, 0], [2, 0], [3, 0]])


def test_overlap():
    one = Region.of_box(0, 0, 10, 10)
    assert overlap(one, one) == 1
    assert overlap(one, Region.of_box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap(one, Region.of_box(12, 0, 10, 10)) == 0
    assert overlap(one, Region.of_box(12, 0, 10, 10), margin=1.0) > 0.4
