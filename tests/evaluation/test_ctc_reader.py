"""The reader's decoding, its restriction to plate characters, and a user's own model."""

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

    def run(self, _, feed):
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


@pytest.fixture
def own_model(tmp_path):
    """An ONNX file that gives the same logits for every plate of 4 x 8 pixels: "AB"."""
    onnx = pytest.importorskip("onnx")
    logits = np.array([[[0, 5, 0], [5, 0, 0], [0, 0, 5]]], np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["logits"], ["y"])],
        "own",
        [helper.make_tensor_value_info("x", kind, [1, 3, 4, 8])],
        [helper.make_tensor_value_info("y", kind, [1, 3, 3])],
        [onnx.numpy_helper.from_array(logits, "logits")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "own.onnx")
    return tmp_path / "own.onnx"


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
