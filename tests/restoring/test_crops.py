"""Crops of plates are told from pictures of scenes."""

import cv2
import numpy as np
import pytest

from data_pipeline.synthetic.groups import render_group
from lpdiff_jax.restoring.crops import fault_of_crop
from tests.restoring.scenes import plate, street


def test_crops_near_and_far_pass():
    for seed in range(6):
        frames, near, *_ = render_group(seed)
        for image in (*frames, near, cv2.resize(near, None, fx=3, fy=3)):
            assert fault_of_crop(image) is None


@pytest.mark.parametrize("size", [(360, 640), (720, 1280), (1080, 1920), (480, 640)])
def test_scenes_do_not(size):
    for seed in range(3):
        image = street(seed, size)
        image[100:132, 200:290] = cv2.resize(plate(seed), (90, 32))
        assert "scene" in fault_of_crop(image)


def test_shapes_that_no_plate_has():
    for size in ((100, 40), (10, 100)):
        assert "shape" in fault_of_crop(np.zeros((*size, 3), np.uint8))


def test_an_even_picture_shows_no_scene():
    assert fault_of_crop(np.full((720, 1280, 3), 90, np.uint8)) is None
