"""From a state dict to a network's variables, given how the names correspond.

A system's module says three things: how its files are recognised, which network their names and
shapes describe, and what each of the network's variables is called there (`Names`).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from lpdiff_jax.errors import UserError
from lpdiff_jax.pytorch.names import CONV2D, DENSE, POINTWISE, SAME, Layout

StateDict = Mapping[str, np.ndarray]
Variables = dict[str, Any]
Path = tuple[str, ...]  # e.g. ('params', 'conv1', 'kernel')
_MAX_SIDE = 255  # of a table of offsets: windows of 128, far more than any published
_LISTED = 12  # entries named in a message before it says how many more there are

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "table": "relative_position_bias_table",
}


@dataclass(frozen=True)
class Names:
    """What a network's variables are called in the published program.

    Attributes:
      torch_name: the entry's name of a variable's path.
      ignored: a pattern of entries that a file may hold and that the network has no use for: it
        computes them, or the published program never uses them.
    """

    torch_name: Callable[[Path], str]
    ignored: str = r"(?!)"


def simple_names(modules: Iterable[tuple[str, str]], prefix: str = "") -> Callable[[Path], str]:
    """Names by a list of (pattern of our module's path, what it becomes): the first that matches.

    Paths are joined by '/', leaves become `LEAVES` of it.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in modules]

    def torch_name(path: Path) -> str:
        *parts, leaf = path[1:]
        module = "/".join(parts)
        for pattern, replacement in rules:
            if match := pattern.fullmatch(module):
                return f"{prefix}{match.expand(replacement)}.{LEAVES.get(leaf, leaf)}"
        raise KeyError(module)

    return torch_name


def load(
    state: StateDict, network: nn.Module, names: Names, *inputs: jax.ShapeDtypeStruct, source: str
) -> Variables:
    """Returns a network's variables from a state dict.

    Args:
      state: arrays by name; every one must belong to the network, or be ignored.
      network: the module.
      names: how the names correspond.
      *inputs: shapes that the network is called with.
      source: the file, for messages.

    Raises:
      UserError: entries are missing, extra, of the wrong shape or no numbers: it lists which.
    """
    try:
        expected = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    except (ValueError, ArithmeticError, TypeError) as error:
        raise UserError(f"{source}: no network has the shapes of its entries ({error})") from error
    entries = {
        names.torch_name(path): (path, value.shape)
        for path, value in flax.traverse_util.flatten_dict(expected).items()
    }
    _check(state, entries, names.ignored, source)
    flat = {}
    for name, (path, shape) in entries.items():
        layout = _layout(path, len(shape), state[name].ndim)
        flat[path] = np.ascontiguousarray(layout.from_torch(state[name]))
    return flax.traverse_util.unflatten_dict(flat)


def _layout(path: Path, ours: int, theirs: int) -> Layout:
    """How a variable of `ours` axes is stored there in `theirs` axes.

    A 1 x 1 convolution there may be a dense layer here.
    """
    if path[-1] != "kernel":
        return SAME
    if ours == 4:
        return CONV2D
    return POINTWISE if theirs == 4 else DENSE


def _check(
    state: StateDict, entries: Mapping[str, tuple[Path, tuple[int, ...]]], ignored: str, source: str
) -> None:
    there = {name: entry for name, entry in entries.items() if name in state}
    problems = {
        "missing": [name for name in entries if name not in state],
        "extra": [n for n in state if n not in entries and not re.fullmatch(ignored, n)],
        "of the wrong shape": [
            f"{name} {state[name].shape}"
            for name, (path, shape) in there.items()
            if not _fits(state[name], path, shape)
        ],
        "not of floating point": [
            name for name in there if not jnp.issubdtype(state[name].dtype, jnp.floating)
        ],
        "with values that are no numbers (NaN or infinite)": [
            name for name in there if not np.isfinite(state[name].astype(np.float32)).all()
        ],
    }
    found = [f"  {kind}: {listing(names)}" for kind, names in problems.items() if names]
    if found:
        raise UserError("\n".join([f"{source}: does not fit the network that it is of:", *found]))


def _fits(array: np.ndarray, path: Path, shape: tuple[int, ...]) -> bool:
    layout = _layout(path, len(shape), array.ndim)
    pointwise = layout is POINTWISE and array.shape[2:] == (1, 1)
    if not pointwise and array.ndim != len(shape):
        return False
    # A view: nothing of the array's size is made.
    return layout.from_torch(np.broadcast_to(np.float32(0), array.shape)).shape == shape


def listing(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    names = [name[:200] for name in names]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The numbers that the pattern's group takes among the names, ascending."""
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(pattern, name))})


def shape_of(state: StateDict, name: str, source: str, ndim: int) -> tuple[int, ...]:
    """The shape of an entry without which the network's own shape is unknown.

    Raises:
      UserError: the entry is missing, or has another number of axes.
    """
    if name not in state:
        raise UserError(f"{source}: lacks {name}, without which the network's shape is unknown")
    if state[name].ndim != ndim or 0 in state[name].shape:
        raise UserError(f"{source}: {name} has the shape {state[name].shape}, not {ndim} axes")
    return state[name].shape


def side_of(rows: int, source: str) -> int:
    """The side of the square of offsets that a table of relative positions has rows for.

    Raises:
      UserError: no square of an odd or even side has so many, or none that windows have.
    """
    side = math.isqrt(rows)
    if side * side != rows or side > _MAX_SIDE:
        raise UserError(f"{source}: a table of relative positions has {rows} rows: no window's")
    return side


def image(height: int, width: int, channels: int = 3) -> jax.ShapeDtypeStruct:
    """The shape of one image."""
    return jax.ShapeDtypeStruct((1, height, width, channels), jnp.float32)


def level() -> jax.ShapeDtypeStruct:
    """The shape of one noise level, or of one time."""
    return jax.ShapeDtypeStruct((1,), jnp.float32)
