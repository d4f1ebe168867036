"""The channel median in ONNX, which cannot express the bisection over bits that finds it in JAX."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpdiff_jax.export.onnx_conversion import Converter, Graph, Value, ints
from lpdiff_jax.models.median import lower_median


def _convert(graph: Graph, equation: Any, x: str) -> Value:
    """The largest of the smaller half."""
    inner = equation.params["jaxpr"].jaxpr
    (axis,) = next(e for e in inner.eqns if e.primitive.name == "reduce_max").params["axes"]
    size = equation.invars[0].aval.shape[axis]
    count = (size - 1) // 2 + 1
    smallest, _ = graph.nodes_of("TopK", 2, x, ints(count), axis=axis, largest=0)
    return graph.node("Gather", smallest, np.asarray(count - 1), axis=axis)


def _name(function: Any) -> str:
    return str(function.__name__)


# What `to_onnx` is handed: converters of whole jitted functions by their names.
CONVERTERS: Mapping[str, Converter] = {_name(lower_median): _convert}
