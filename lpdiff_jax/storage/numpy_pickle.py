"""Reads pickles of numpy arrays (in lists, tuples and dicts) as data, executing nothing."""

import io
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.storage import safe_pickle

_MAX_BYTES = 2**30
_PLAIN_DTYPE = re.compile(r"[<>|=]?[biufc][0-9]{1,2}|\?")


def read_numpy_pickle(path: str | Path) -> Any:
    """Returns the content of a pickle file made of Python's containers and numpy arrays.

    Raises:
      UserError: no such file, larger than 1 GiB, damaged, or it holds anything else.
    """
    data = _read_limited(Path(path))
    tree = safe_pickle.load(io.BytesIO(data), _CONSTRUCTORS, source=str(path))
    try:
        return _resolve(tree, {})
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: an array in it is damaged ({error})") from error


def _read_limited(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: larger than 1 GiB; no such file is expected to be")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


class _Dtype:
    def __init__(self, code: str, *_: bool) -> None:
        if not _PLAIN_DTYPE.fullmatch(code):
            raise ValueError("an array is not of plain numbers")
        self.code = code.lstrip("<>|=")
        self.byte_order: Literal["<", ">", "="] = "="

    def set_state(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        self.byte_order = order if order in ("<", ">") else "="

    def value(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.byte_order)


class _Array:
    """An array in the making: `numpy.ndarray.__reduce__` gives its content as a state."""

    def __init__(self, *_: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def set_state(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def value(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")


class _Buffer:
    """An array as protocol 5 writes it."""

    def __init__(self, data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        self.args = (data, dtype, shape, order)

    def value(self) -> np.ndarray:
        return _from_bytes(*self.args)


class _Scalar:
    def __init__(self, dtype: _Dtype, data: bytes) -> None:
        self.dtype, self.data = dtype, data

    def value(self) -> Any:
        return _from_bytes(self.data, self.dtype, (), "C")[()]


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not (isinstance(data, bytes | bytearray) and isinstance(dtype, _Dtype)):
        raise ValueError("an array is not of plain numbers")
    flat = np.frombuffer(data, dtype.value())
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Python 3's protocol 2 writes bytes as text in latin-1."""
    if encoding != "latin1":
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Protocol 2 writes empty bytes as a call without arguments."""
    return b""


def _resolve(node: Any, done: dict[int, Any]) -> Any:
    """Replaces records by arrays; `done` keeps shared parts from being visited twice."""
    if id(node) in done:
        return done[id(node)]
    if isinstance(node, _Array | _Buffer | _Scalar | _Dtype):
        result: Any = node.value()
    elif isinstance(node, dict):
        result = {key: _resolve(value, done) for key, value in node.items()}
    elif isinstance(node, list | tuple):
        result = type(node)(_resolve(value, done) for value in node)
    elif isinstance(node, safe_pickle.Global):
        raise ValueError("a class stands where data is expected")
    else:
        result = node
    done[id(node)] = result
    return result


_CONSTRUCTORS: dict[str, safe_pickle.Constructor | None] = {
    "collections.OrderedDict": safe_pickle.ordered_dict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
    "numpy.dtype": _Dtype,
    "numpy.ndarray": None,
}
# numpy 2 renamed its private package; files of both ages are about.
for _core in ("numpy.core", "numpy._core"):
    _CONSTRUCTORS[f"{_core}.multiarray._reconstruct"] = _Array
    _CONSTRUCTORS[f"{_core}.multiarray.scalar"] = _Scalar
    _CONSTRUCTORS[f"{_core}.numeric._frombuffer"] = _Buffer
