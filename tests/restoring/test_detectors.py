"""Heads of detectors are decoded; networks here are constants in ONNX files."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.detectors import load_detector

# The plate in a picture of 200 x 100, shown to a network of 128 x 128 at a scale of 0.64.
BOX = (50.0, 25.0, 100.0, 40.0)
SCALE = 0.64


def write_network(path, **outputs):
    """A network that says the same of every picture."""
    nodes, infos = [], []
    for name, value in outputs.items():
        value = np.asarray(value, np.float32)
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 128, 128])
    graph = helper.make_graph(nodes, "constant", [picture], infos)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def corners(scale=SCALE):
    x, y, w, h = BOX
    return [x * scale, y * scale, (x + w) * scale, (y + h) * scale]


def centred():
    x, y, w, h = (value * SCALE for value in BOX)
    return [x + w / 2, y + h / 2, w, h]


def yolov8(extra=()):
    """Three boxes that matter among many that do not."""
    rows = np.zeros((1200, 4 + len(extra) + 1))
    rows[:, :4] = (10, 10, 5, 5)
    rows[3] = [*centred(), *extra, 0.9]
    rows[4] = [centred()[0] + 1, *centred()[1:], *extra, 0.8]  # the same plate once more
    rows[5] = [110, 50, 12, 6, *extra, 0.6]
    return rows


HEADS = {
    "end2end": {"out": [[[0, *corners(), 0, 0.9], [0, 1, 1, 9, 9, 0, 0.1]]]},
    "nms": {"out": [[[*corners(), 0.9, 0], [1, 1, 9, 9, 0.1, 0]]]},
    "yolov8": {"out": yolov8().T[None]},
    "yolov5": {"out": yolov8(extra=(1.0,))[None]},
    "ssd": {"scores": [[[0.1, 0.9], [0.95, 0.05]]], "boxes": [[corners(SCALE / 128), [0] * 4]]},
}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_finds_the_plate(tmp_path, head):
    detector = load_detector(write_network(tmp_path / "d.onnx", **HEADS[head]))
    found = detector(np.zeros((100, 200, 3), np.uint8))
    assert found[0].region.box == pytest.approx(BOX, abs=1e-3)
    assert found[0].score == pytest.approx(0.9, abs=1e-3)
    # The twin is dropped, what stands apart is kept.
    assert len(found) == (2 if head.startswith("yolo") else 1)


def test_prior_boxes_with_landmarks_give_corners(tmp_path):
    # One stride of 64: 2 x 2 places; the box at the place (32, 32) + (64, 0).
    x, y, w, h = (value * SCALE for value in BOX)
    edge, near, far = 50.0, 0.1, 0.2
    offsets = np.zeros((1, 4, 4))
    offsets[0, 1] = [
        (x + w / 2 - 96) / edge / near, (y + h / 2 - 32) / edge / near,
        np.log(w / edge) / far, np.log(h / edge) / far,
    ]  # fmt: skip
    points = np.array([[x, y + 3], [x + w, y], [x + w, y + h - 3], [x, y + h]])
    marks = np.zeros((1, 4, 8))
    marks[0, 1] = ((points - [96, 32]) / edge / near).reshape(-1)
    scores = np.array([[[1, 0], [0.1, 0.9], [1, 0], [1, 0]]])
    path = write_network(tmp_path / "d.onnx", loc=offsets, conf=scores, landms=marks)
    (tmp_path / "d.json").write_text(json.dumps({"priors": [[50]], "strides": [64]}))
    (found,) = load_detector(path)(np.zeros((100, 200, 3), np.uint8))
    np.testing.assert_allclose(np.array(found.region.corners) * SCALE, points, atol=1e-3)


def test_classes_and_threshold_are_the_users(tmp_path):
    path = write_network(tmp_path / "d.onnx", out=[[[*corners(), 0.6, 2], [1, 1, 50, 30, 0.9, 0]]])
    (tmp_path / "d.json").write_text(json.dumps({"classes": [2], "threshold": 0.55}))
    (found,) = load_detector(path)(np.zeros((100, 200, 3), np.uint8))
    assert found.region.box == pytest.approx(BOX, abs=1e-3)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ('{"head": "magic"}', "magic"),
        ('{"colour": 1}', "colour"),
        ("[]", "object"),
        ("{", "JSON|prop"),
    ],
)
def test_a_description_that_does_not_fit_is_named(tmp_path, beside, message):
    path = write_network(tmp_path / "d.onnx", **HEADS["nms"])
    (tmp_path / "d.json").write_text(beside)
    with pytest.raises(UserError, match=f"d.json.*({message})"):
        load_detector(path)


def test_what_is_no_detector_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not onnx")
    for name, message in (("missing.onnx", "no such"), ("x.onnx", "not an ONNX file")):
        with pytest.raises(UserError, match=f"{name}.*{message}"):
            load_detector(tmp_path / name)
    odd = load_detector(write_network(tmp_path / "odd.onnx", out=np.zeros((2, 2, 2, 2))))
    with pytest.raises(UserError, match="no head that is known"):
        odd(np.zeros((10, 20, 3), np.uint8))
