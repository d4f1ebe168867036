"""Entry points of the evaluation: a user's own recogniser and its charset."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st

from lpdiff_jax.evaluation.reading.ctc_reader import load_onnx_reader
from tests.fuzz.mutations import KINDS, byte_edits, edited, put

_SIDES = st.sampled_from([4, 8, 0, -1, 1, 200_000, 2**40, "h", None])
_OUTPUTS = [
    np.zeros((1, 3, 3)), np.full((1, 3, 3), np.nan), np.zeros((1, 0, 3)), np.zeros((2, 3, 3)),
    np.zeros((1, 10_000, 3)), np.zeros(()), np.zeros((1, 3, 0)), np.ones((1, 3, 99)),
]  # fmt: skip
reader_cases = st.one_of(
    st.tuples(st.just("model"), byte_edits),
    st.tuples(st.just("charset"), byte_edits),
    st.tuples(st.just("shape"), st.tuples(_SIDES, _SIDES)),
    st.tuples(st.just("output"), st.integers(0, len(_OUTPUTS) - 1)),
    st.tuples(st.just("kind"), st.tuples(st.sampled_from(KINDS), st.booleans())),
)


def _model(shape: list[Any], output: np.ndarray) -> bytes:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["out"], ["y"])],
        "own",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [onnx.numpy_helper.from_array(output.astype(np.float32), "out")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def reader(case: Any, folder: Path) -> Any:
    """An ONNX model, its charset, or what both give, spoilt."""
    kind, edits = case
    shape, output = [1, 3, 4, 8], _OUTPUTS[0]
    if kind == "shape":
        shape[2:] = edits
    elif kind == "output":
        output = _OUTPUTS[edits]
    path, charset = folder / "own.onnx", folder / "charset.txt"
    path.write_bytes(_model(shape, output))
    charset.write_bytes("A\n苏\n".encode())
    if kind in ("model", "charset"):
        file = path if kind == "model" else charset
        file.write_bytes(edited(file.read_bytes(), edits))
    elif kind == "kind":
        put(edits[0], path if edits[1] else charset)
    plates = np.zeros((2, 12, 24, 3), np.uint8)
    return lambda: load_onnx_reader(path, charset).read(plates) and None
