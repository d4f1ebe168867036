"""Where the plate lies in synthetic images, told beside them."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from data_pipeline.pipeline import train_dataset
from data_pipeline.sources import open_source
from data_pipeline.synthetic.camera import draw
from data_pipeline.synthetic.degradation import take
from data_pipeline.synthetic.drawn import DrawnSource
from data_pipeline.synthetic.groups import render_group, synthesize
from data_pipeline.synthetic.photographed import PictureSource
from data_pipeline.synthetic.presets import PRESETS

CLEAN = dataclasses.replace(
    PRESETS["mild"], lateral=(-1, 1), gain=(0, 0), near_gain=(-0.5, -0.5), slack=(2, 4), wear=(0, 0)
)


def test_corners_are_where_the_plate_is():
    """A plate with a white left half and a black right half: its shape is known in the picture."""
    plate = np.full((140, 440, 4), 255, np.uint8)
    plate[:, 220:, :3] = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        seen = take(plate, (), draw(CLEAN, rng), 2, rng)
        assert len(seen.corners) == 3
        for image, quad in zip([*seen.frames, seen.target], seen.corners, strict=True):
            left = np.stack([quad[0], (quad[0] + quad[1]) / 2, (quad[2] + quad[3]) / 2, quad[3]])
            right = np.stack([(quad[0] + quad[1]) / 2, quad[1], quad[2], (quad[2] + quad[3]) / 2])
            assert _mean(image, left) > _mean(image, right) + 100


def _mean(image, quad):
    """The mean brightness within a quad, a fifth smaller."""
    inner = quad.mean(0) + 0.8 * (quad - quad.mean(0))
    mask = np.zeros(image.shape[:2], np.uint8)
    points = np.round(inner * image.shape[1::-1] - 0.5).astype(np.int32)
    cv2.fillConvexPoly(mask, points, 1)
    return image[mask > 0].mean()


def test_corners_lie_on_the_disk_beside_the_labels(tmp_path):
    synthesize(tmp_path, groups=3, seed=5, split="train", num_frames=2)
    synthesize(tmp_path, groups=2, seed=5, split="val", num_frames=2)
    found = json.loads((tmp_path / "corners.json").read_text())
    assert len(found) == 5 and np.shape(found["val-000001"]) == (3, 4, 2)
    example = open_source(tmp_path, "train")[1]
    np.testing.assert_allclose(example.corners, found[example.name])
    batch = next(
        iter(
            train_dataset(
                DrawnSource(num_frames=2), image_size=(16, 32), num_frames=2, global_batch_size=2,
                seed=0,
            )
        )
    )  # fmt: skip
    assert np.isfinite(batch["corners"]).all()


@pytest.mark.parametrize("upright", [0.0, 1.0])
def test_corners_of_pictures_are_those_of_the_plate_not_of_its_box(tmp_path, upright):
    """Of a slanted plate whose corners are known, before the camera straight or as it stands."""
    drawn = render_group(3, num_frames=1, preset="mild", styles=["cn-blue"])
    size = np.array(drawn.target.shape[1::-1])
    slant = np.float32([[1, 0.3, 0], [0, 1, 0]])
    wide = (int(size[0] + 0.3 * size[1]), int(size[1]))
    picture = cv2.warpAffine(drawn.target, slant, wide, borderMode=cv2.BORDER_REPLICATE)
    corners = drawn.corners[-1] * size @ slant[:, :2].T
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    (tmp_path / "labels.json").write_text(json.dumps({"a": drawn.text}))
    (tmp_path / "meta.json").write_text(json.dumps({"a": {"corners": corners.tolist()}}))
    retouch = {"upright": upright, "shift": 0.0, "heading": 0.0, "lean": 0.0, "loose": 0.0}
    source = PictureSource(str(tmp_path), preset="mild", num_frames=1, retouch=retouch)
    group = source.render(np.random.default_rng(0), 0)
    upper_left, upper_right, lower_right, lower_left = group.corners[-1]
    slanted = (upper_left[0] - lower_left[0] + upper_right[0] - lower_right[0]) / 2
    height, width = group.target.shape[:2]
    expected = -0.3 * (lower_left[1] - upper_left[1]) * height / width if upright else 0.0
    assert abs(slanted - expected) < 0.05
