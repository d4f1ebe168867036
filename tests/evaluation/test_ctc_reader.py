"""The reader's decoding, its restriction to plate characters, and a user's own model."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.reading import ctc_reader
from lpdiff_jax.evaluation.reading.ctc_reader import CtcReader
from lpdiff_jax.plate_text import Reading


class Session:
    """An onnxruntime session that returns given probabilities and keeps what it was fed."""

    def __init__(self, probabilities):
        self.probabilities = np.asarray(probabilities, np.float32)
        self.fed = None

    def get_inputs(self):
        return [SimpleNamespace(name="x")]

    def run(self, _, feed, options=None):
        self.fed = feed["x"]
        return [self.probabilities[None]]


def make_reader(steps, classes=(0, 1, 2)):
    return CtcReader(Session(steps), np.array(classes), ("", "A", "B"))


def test_repeats_merge_and_blanks_separate():
    blank, a, b = [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]
    result = make_reader([a, a, blank, a, b, b, blank]).read(np.zeros((1, 48, 152, 3), np.uint8))
    assert result[0].text == "AAB"
    assert result[0].character_confidences == pytest.approx((0.8, 0.8, 0.7))
    assert result[0].confidence == pytest.approx(0.8 * 0.8 * 0.7)


def test_confidence_is_the_peak_of_a_run():
    steps = [[0.4, 0.6, 0], [0.1, 0.9, 0], [0.3, 0.7, 0]]
    (result,) = make_reader(steps).read(np.zeros((1, 48, 152, 3), np.uint8))
    assert result == Reading("A", pytest.approx(0.9), (pytest.approx(0.9),))


def test_classes_that_are_not_allowed_are_never_read():
    # The network prefers its class 1, which is not among the classes that may be read.
    steps = [[0.1, 0.6, 0.0, 0.3]]
    (result,) = make_reader(steps, classes=(0, 2, 3)).read(np.zeros((1, 4, 8, 3), np.uint8))
    assert result.text == "B"


def test_nothing_read():
    (result,) = make_reader([[1, 0, 0]] * 4).read(np.zeros((1, 4, 8, 3), np.uint8))
    assert result == Reading("", 0.0, ())


def test_plate_is_scaled_bgr_and_padded_with_zeros():
    reader = make_reader([[1, 0, 0]])
    image = np.zeros((1, 20, 40, 3), np.uint8)
    image[..., 0] = 255  # red
    reader.read(image)
    fed = reader.session.fed
    assert fed.shape == (1, 3, 48, 320)
    np.testing.assert_array_equal(fed[0, :, 0, 0], [-1, -1, 1])
    assert not fed[..., 152:].any()


def test_an_unusable_model_file_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not onnx")
    with pytest.raises(UserError, match=r"model\.onnx"):
        ctc_reader.open_session(path)


def save_model(path, nodes=None, shape=(1, 3, 4, 8), logits=None):
    """An ONNX file; by default it gives the same logits for every plate of 4 x 8 pixels: "AB"."""
    onnx = pytest.importorskip("onnx")
    if logits is None:
        logits = np.array([[[0, 5, 0], [5, 0, 0], [0, 0, 5]]], np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes or [helper.make_node("Identity", ["logits"], ["y"])],
        "own",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", kind, [None, None, None])],
        [onnx.numpy_helper.from_array(logits, "logits")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def endless_loop():
    """The node of a loop without end."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c2"]),
            helper.make_node("Identity", ["v"], ["v2"]),
        ],
        "body",
        [value("i", kinds.INT64, []), value("c", kinds.BOOL, []), value("v", kinds.FLOAT, None)],
        [value("c2", kinds.BOOL, []), value("v2", kinds.FLOAT, None)],
    )
    true = helper.make_node("Constant", [], ["true"], value=onnx.numpy_helper.from_array(
        np.array(True), "true"
    ))  # fmt: skip
    return [true, helper.make_node("Loop", ["", "true", "logits"], ["y"], body=body)]


@pytest.fixture
def own_model(tmp_path):
    return save_model(tmp_path / "own.onnx")


def test_a_model_that_loops_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(ctc_reader, "_SECONDS_A_PLATE", 0.5)
    path = save_model(tmp_path / "own.onnx", endless_loop())
    (tmp_path / "charset.txt").write_text("A\nB\n")
    with pytest.raises(UserError, match=r"own\.onnx: does not run on a plate"):
        ctc_reader.load_onnx_reader(path, tmp_path / "charset.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 3, 48, 200_000)}, r"48, 200000\], expected \[B, 3, H, W\] of at most 512"),
        ({"shape": (1, 3)}, "expected"),
        ({"shape": (1, 3, 48, None)}, "fix both"),
        ({"logits": np.full((1, 2, 3), np.nan, np.float32)}, "finite"),
        ({"logits": np.zeros((1, 0, 3), np.float32)}, "0 steps"),
        ({"logits": np.zeros((3,), np.float32)}, r"not \[1, steps, classes\]"),
    ],
)
def test_models_out_of_bounds_are_named(tmp_path, options, message):
    path = save_model(tmp_path / "own.onnx", **options)
    (tmp_path / "charset.txt").write_text("A\nB\n")
    with pytest.raises(UserError, match=rf"own\.onnx: .*{message}"):
        ctc_reader.load_onnx_reader(path, tmp_path / "charset.txt")


def test_a_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "own.onnx")
    with pytest.raises(UserError, match=r"own\.onnx: not a file"):
        ctc_reader.open_session(tmp_path / "own.onnx")


def test_a_users_own_model(own_model, tmp_path):
    charset = tmp_path / "charset.txt"
    charset.write_text("A\nB\n")
    reader = ctc_reader.load_onnx_reader(own_model, charset)
    assert reader.image_size == (4, 8)
    (result,) = reader.read(np.zeros((1, 20, 40, 3), np.uint8))
    assert result.text == "AB"
    softmax = np.exp(5) / (np.exp(5) + 2)
    assert result.character_confidences == pytest.approx((softmax, softmax))
    charset.write_text("A\nB\nC\n")
    with pytest.raises(UserError, match=r"own\.onnx: its output is \[1, 3, 3\]"):
        ctc_reader.load_onnx_reader(own_model, charset)
    with pytest.raises(UserError, match="cannot be read as a charset"):
        ctc_reader.load_onnx_reader(own_model, tmp_path / "missing.txt")
