"""Functions of JAX as ONNX graphs, for the operations that this project's models consist of.

The function is traced by JAX alone, for any batch; each primitive of the trace becomes a few ONNX
nodes. What does not depend on an input is computed now: in a sampler, whose noise levels are known,
the whole noise embedding. Loops are unrolled, their weights shared.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.extend
import numpy as np

from lpdiff_jax.errors import UserError

OPSET = 18
_LONGEST_LOOP = 100
_END = 2**63 - 1  # of a slice that goes to the end, however long the axis is

# A value is a name in the graph, or an array that is known already.
Value = str | np.ndarray
Specs = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def to_onnx(
    call: Callable[..., jax.Array],
    inputs: Specs,
    output: str,
    converters: Mapping[str, "Converter"] | None = None,
) -> Any:
    """Converts a function to an `onnx.ModelProto`.

    Args:
      call: takes the inputs in their order, each with a leading batch; returns one array.
      inputs: the shape without the batch, and the dtype, of each input by its name.
      output: the name of the output.
      converters: the converters of whole jitted functions, by the functions' names, for functions
        whose operations cannot be converted one by one.

    Raises:
      UserError: onnx is not installed, or ONNX does not have what the function needs.
    """
    try:
        from onnx import checker, helper
    except ImportError as error:
        raise UserError("ONNX needs the extra: pip install 'lpdiff-jax[export]'") from error

    (batch,) = jax.export.symbolic_shape("batch")
    specs = [jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in inputs.values()]
    traced = jax.make_jaxpr(call)(*specs)
    graph = Graph(next(iter(inputs)), converters or {})
    (result,) = graph.run(traced.jaxpr, traced.consts, list(inputs))
    graph.nodes.append(helper.make_node("Identity", [graph.name(result)], [output]))
    described = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(dtype), ["batch", *shape]
        )
        for name, (shape, dtype) in inputs.items()
    ]
    out: Any = traced.out_avals[0]
    outputs = [
        helper.make_tensor_value_info(
            output, helper.np_dtype_to_tensor_dtype(out.dtype), ["batch", *out.shape[1:]]
        )
    ]
    body = helper.make_graph(graph.nodes, "lpdiff", described, outputs, graph.initializers)
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="lpdiff"
    )
    if model.ByteSize() < 2**31 - 2**20:  # beyond it protocol buffers cannot be checked in memory
        checker.check_model(model)
    return model


class Graph:
    """Nodes and constants under construction.

    Attributes:
      nodes: the nodes, in an order in which they can run.
      initializers: the constants, each array once.
    """

    def __init__(self, first_input: str, whole: Mapping[str, "Converter"]) -> None:
        self._whole = whole
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._first_input = first_input
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._batch: str | None = None
        self._count = 0

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Adds a jaxpr's equations; returns its outputs."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, args, strict=True))
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            known[var] = np.asarray(const)

        def read(atom: Any) -> Value:
            if isinstance(atom, jax.extend.core.Literal):
                aval: Any = atom.aval
                return np.asarray(atom.val, aval.dtype)
            return known[atom]

        for equation in jaxpr.eqns:
            outputs = self._add(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _add(self, equation: Any, values: list[Value]) -> list[Value]:
        primitive = equation.primitive.name
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if primitive == "scan":
            return self._unroll(equation, values)
        whole = self._whole.get(equation.params.get("name"))
        if whole is not None and isinstance(values[0], str):
            return _listed(whole(self, equation, *values))
        if inner is not None:
            return self.run(inner.jaxpr, inner.consts, values)
        shapes_known = all(_is_static(var.aval.shape) for var in equation.outvars)
        if shapes_known and not any(isinstance(value, str) for value in values):
            results = equation.primitive.bind(*values, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
            return [np.asarray(result) for result in results]
        if primitive in _SIMPLE:
            return [self.node(_SIMPLE[primitive], *values)]
        if primitive not in _CONVERTERS:
            raise UserError(f"no conversion to ONNX of the operation {primitive!r}")
        return _listed(_CONVERTERS[primitive](self, equation, *values))

    def _unroll(self, equation: Any, values: list[Value]) -> list[Value]:
        params = equation.params
        if params["length"] > _LONGEST_LOOP:
            raise UserError(
                f"a loop of {params['length']} steps; ONNX gets loops of at most {_LONGEST_LOOP} "
                "steps, as they are unrolled: restore in fewer steps"
            )
        consts, carry = _scan_bounds(params)
        state, body = values[consts:carry], params["jaxpr"]
        if len(equation.outvars) > len(state):
            raise UserError("no conversion to ONNX of a loop that collects outputs")
        order = range(params["length"])
        for i in reversed(order) if params["reverse"] else order:
            slices = [self._row(value, i) for value in values[carry:]]
            state = self.run(body.jaxpr, body.consts, [*values[:consts], *state, *slices])
        return state

    def _row(self, value: Value, index: int) -> Value:
        if isinstance(value, np.ndarray):
            return value[index]
        return self.node("Gather", value, np.asarray(index), axis=0)

    def name(self, value: Value) -> str:
        """A value's name in the graph; an array becomes an initializer, equal ones the same."""
        if isinstance(value, str):
            return value
        array = np.asarray(value, order="C")
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            from onnx import numpy_helper

            self._constants[key] = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def nodes_of(self, op: str, count: int, *inputs: Value, **attributes: Any) -> list[str]:
        """Adds a node with several outputs."""
        from onnx import helper

        outputs = [f"value_{self._count + i}" for i in range(count)]
        self._count += count
        names = [self.name(value) for value in inputs]
        self.nodes.append(helper.make_node(op, names, outputs, **attributes))
        return outputs

    def node(self, op: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns its name."""
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def dimension(self, dim: Any) -> Value:
        """A dimension as a one-element tensor; a multiple of the batch is computed."""
        if isinstance(dim, int):
            return np.asarray([dim], np.int64)
        if self._batch is None:
            shape = self.node("Shape", self._first_input)
            self._batch = self.node("Slice", shape, ints(0), ints(1))
        match = re.fullmatch(r"(?:(\d+)\*)?batch", str(dim))
        if match is None:
            raise UserError(f"no conversion to ONNX of the dimension {dim}")
        return self.node("Mul", self._batch, ints(int(match[1] or 1)))

    def reshape(self, value: Value, shape: Sequence[Any]) -> str:
        """Reshapes; the one dimension that depends on the batch is left to ONNX."""
        if math.prod(d for d in shape if isinstance(d, int)) == 0:
            raise UserError("no conversion to ONNX of empty arrays")
        target = ints(*(d if isinstance(d, int) else -1 for d in shape))
        return self.node("Reshape", value, target)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def _is_static(shape: Sequence[Any]) -> bool:
    return all(isinstance(dim, int) for dim in shape)


# --- one converter a primitive ---------------------------------------------------------------

_SIMPLE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "pow": "Pow", "neg": "Neg", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin",
    "cos": "Cos", "tanh": "Tanh", "erf": "Erf", "logistic": "Sigmoid", "eq": "Equal", "lt": "Less",
    "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
    "stop_gradient": "Identity", "copy": "Identity", "floor": "Floor",
}  # fmt: skip


def _square(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.node("Mul", x, x)


def _rsqrt(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.node("Reciprocal", graph.node("Sqrt", x))


def _integer_pow(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.node("Pow", x, np.asarray(equation.params["y"], equation.invars[0].aval.dtype))


def _cast(graph: Graph, equation: Any, x: Value) -> Value:
    return _cast_to(graph, x, equation.params["new_dtype"])


def _cast_to(graph: Graph, x: Value, dtype: Any) -> str:
    from onnx import helper

    return graph.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _reshape(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.reshape(x, equation.outvars[0].aval.shape)


def _broadcast(graph: Graph, equation: Any, x: Value) -> Value:
    """Dimensions are inserted by a reshape; those that grow need their size."""
    have = equation.invars[0].aval.shape
    want = equation.params["shape"]
    at = dict(zip(equation.params["broadcast_dimensions"], have, strict=True))
    inserted = [at.get(axis, 1) for axis in range(len(want))]
    x = graph.reshape(x, inserted)
    if inserted == list(want):
        return x
    sizes = [
        graph.dimension(1 if before == after else after)  # 1 leaves an axis as it is
        for before, after in zip(inserted, want, strict=True)
    ]
    return graph.node("Expand", x, graph.node("Concat", *sizes, axis=0))


def _transpose(graph: Graph, equation: Any, x: Value) -> Value:
    return graph.node("Transpose", x, perm=list(equation.params["permutation"]))


def _concatenate(graph: Graph, equation: Any, *xs: Value) -> Value:
    return graph.node("Concat", *xs, axis=equation.params["dimension"])


def _stack(graph: Graph, equation: Any, *xs: Value) -> Value:
    axis = equation.params["axis"]
    parts = [graph.node("Unsqueeze", x, ints(axis)) for x in xs]
    return graph.node("Concat", *parts, axis=axis)


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    params, shape = equation.params, equation.invars[0].aval.shape
    ends = [
        _END if limit == size else limit
        for limit, size in zip(params["limit_indices"], shape, strict=True)
    ]
    steps = params["strides"] or (1,) * len(shape)
    axes = ints(*range(len(shape)))
    return graph.node("Slice", x, ints(*params["start_indices"]), ints(*ends), axes, ints(*steps))


def _split(graph: Graph, equation: Any, x: Value) -> list[Value]:
    sizes, axis = equation.params["sizes"], equation.params["axis"]
    return [*graph.nodes_of("Split", len(sizes), x, ints(*map(int, sizes)), axis=axis)]


def _pad(graph: Graph, equation: Any, x: Value, value: Value) -> Value:
    low, high, interior = zip(*equation.params["padding_config"], strict=True)
    if any(interior):
        raise UserError("no conversion to ONNX of padding between elements")
    return graph.node("Pad", x, ints(*map(int, (*low, *high))), value)


def _reverse(graph: Graph, equation: Any, x: Value) -> Value:
    axes = equation.params["dimensions"]
    count = len(axes)
    starts, ends, steps = ints(*[-1] * count), ints(*[-_END] * count), ints(*[-1] * count)
    return graph.node("Slice", x, starts, ends, ints(*axes), steps)


def _select(graph: Graph, equation: Any, which: Value, if_false: Value, if_true: Value) -> Value:
    return graph.node("Where", which, if_true, if_false)


def _reduction(op: str) -> Callable[..., Value]:
    def reduce(graph: Graph, equation: Any, x: Value) -> Value:
        return graph.node(op, x, ints(*equation.params["axes"]), keepdims=0)

    return reduce


def _argmax(graph: Graph, equation: Any, x: Value) -> Value:
    (axis,) = equation.params["axes"]
    if equation.invars[0].aval.dtype == np.dtype(bool):
        x = _cast_to(graph, x, np.int32)
    index = graph.node("ArgMax", x, axis=axis, keepdims=0)
    return _cast_to(graph, index, equation.params["index_dtype"])


def _dot(graph: Graph, equation: Any, a: Value, b: Value) -> Value:
    """A product as Einsum: batch axes, then the free ones of a, then of b."""
    (contract_a, contract_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_a = [next(letters) for _ in equation.invars[0].aval.shape]
    of_b = [next(letters) for _ in equation.invars[1].aval.shape]
    for i, j in zip((*contract_a, *batch_a), (*contract_b, *batch_b), strict=True):
        of_b[j] = of_a[i]
    batch = [of_a[i] for i in batch_a]
    free_a = [x for i, x in enumerate(of_a) if i not in (*contract_a, *batch_a)]
    free_b = [x for i, x in enumerate(of_b) if i not in (*contract_b, *batch_b)]
    rank_b = len(of_b)
    if not batch and rank_b == 2 and contract_b == (0,) and contract_a == (len(of_a) - 1,):
        return graph.node("MatMul", a, b)
    equation_text = f"{''.join(of_a)},{''.join(of_b)}->{''.join(batch + free_a + free_b)}"
    return graph.node("Einsum", a, b, equation=equation_text)


def _convolution(graph: Graph, equation: Any, x: Value, kernel: Value) -> Value:
    params = equation.params
    if params["feature_group_count"] != 1 or any(d != 1 for d in params["rhs_dilation"]):
        raise UserError("no conversion to ONNX of grouped or dilated convolutions")
    if isinstance(kernel, str):
        raise UserError("no conversion to ONNX of a convolution whose kernel is computed")
    numbers = params["dimension_numbers"]
    x = graph.node("Transpose", x, perm=list(numbers.lhs_spec))  # to batch, channels, space
    weight = kernel.transpose(numbers.rhs_spec)  # to out, in, space
    low, high = zip(*params["padding"], strict=True)
    if all(d == 1 for d in params["lhs_dilation"]):
        strides = list(params["window_strides"])
        y = graph.node("Conv", x, weight, strides=strides, pads=[*low, *high])
    else:
        # Zeros between the input's elements: a transposed convolution with the kernel turned.
        space = tuple(range(2, weight.ndim))
        turned = np.flip(weight, space).swapaxes(0, 1)
        sizes = weight.shape[2:]
        pads = [k - 1 - p for k, p in zip((*sizes, *sizes), (*low, *high), strict=True)]
        strides = list(params["lhs_dilation"])
        if min(pads) < 0 or any(s != 1 for s in params["window_strides"]):
            raise UserError("no conversion to ONNX of this transposed convolution")
        y = graph.node("ConvTranspose", x, turned, strides=strides, pads=pads)
    return graph.node("Transpose", y, perm=np.argsort(numbers.out_spec).tolist())


def _gather(graph: Graph, equation: Any, x: Value, index: Value) -> Value:
    """Indexing along one axis: by constants, or by an index for each element of the batch."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    (axis,) = numbers.start_index_map
    collapsed = tuple(numbers.collapsed_slice_dims)
    if tuple(numbers.operand_batching_dims) == (0,) and collapsed == (axis,) == (1,):
        return graph.node("GatherND", x, _cast_to(graph, index, np.int64), batch_dims=1)
    index_shape = equation.invars[1].aval.shape
    if numbers.operand_batching_dims or (collapsed and collapsed != (axis,)):
        raise UserError("no conversion to ONNX of this indexing")
    index = graph.reshape(index, index_shape[:-1])
    if not collapsed:
        rows = np.arange(sizes[axis], dtype=equation.invars[1].aval.dtype)
        index = graph.node("Add", index, rows)
    return graph.node("Gather", x, index, axis=axis)


# (graph, equation of the trace, its inputs) -> its output.
Converter = Callable[..., Value | list[Value]]

_CONVERTERS: dict[str, Converter] = {
    "square": _square,
    "rsqrt": _rsqrt,
    "integer_pow": _integer_pow,
    "convert_element_type": _cast,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "stack": _stack,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "select_n": _select,
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_max": _reduction("ReduceMax"),
    "argmax": _argmax,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "gather": _gather,
}


def _listed(result: Value | list[Value]) -> list[Value]:
    return result if isinstance(result, list) else [result]


def _scan_bounds(params: Mapping[str, Any]) -> tuple[int, int]:
    """Where a scan's constants end, and its carry: JAX 0.12 keeps a tree where older ones count."""
    if "num_consts" in params:
        return params["num_consts"], params["num_consts"] + params["num_carry"]
    consts, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
    return consts, consts + carry
