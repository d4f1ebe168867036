"""Programs as they were traced, kept on disk: a later start need not trace them again.

Tracing the packaged model's networks takes longer than to restore a plate. What is kept is
StableHLO, in the format of `jax.export`; what it compiles to is for JAX's own cache to keep. A
program is found by all that it depends on: the method, the shapes, JAX's settings, the versions,
and the very source of this package. What does not fit, is damaged, or could have been written by
another user is never read: it is traced and written anew.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import platform
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from jax import export

from lpdiff_jax import __version__

_SUFFIX = ".stablehlo"
_LARGEST = 100_000_000  # bytes
_DIGEST = hashlib.sha256().digest_size
_PLAIN = (type(None), bool, int, float, str, bytes, np.generic, np.dtype)


def kept(name: str, function: Callable[..., Any], method: Any, folder: Path) -> Callable[..., Any]:
    """The same function of arrays, whose program is taken from a folder, or traced and put there.

    Args:
      name: the function's name among those of the method.
      function: takes trees of arrays, and choices by name; to be called while it is traced.
      method: the frozen object that the function belongs to; with the choices it says all that the
        program depends on, but for shapes and code.
      folder: the place of the programs. Where it cannot be read or written, they are traced.
    """

    @functools.wraps(function)
    def call(*args: Any, **choices: Any) -> Any:
        # Sharded arrays would want programs of their own; an accelerator takes long anyway.
        if jax.default_backend() != "cpu" or jax.local_device_count() > 1:
            return function(*args, **choices)
        try:
            place = folder / f"{name}-{_key((name, method, choices), args)}{_SUFFIX}"
            program = _read(place) or _trace(function, args, choices, place)
        except (NotImplementedError, TypeError, ValueError):
            # Something in it has no place in a file. If it is the caller's mistake, it comes again.
            return function(*args, **choices)
        return program.call(*args)

    return call


def _trace(
    function: Callable[..., Any], args: tuple, choices: Mapping[str, Any], place: Path
) -> export.Exported:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    program = export.export(jax.jit(functools.partial(function, **choices)))(*shapes)
    data = bytes(program.serialize())
    with contextlib.suppress(OSError):
        _write(place, hashlib.sha256(data).digest() + data)
    return program


def _write(place: Path, data: bytes) -> None:
    number, temporary = tempfile.mkstemp(dir=place.parent)  # for this user alone
    try:
        with open(number, "wb") as file:
            file.write(data)
        os.replace(temporary, place)
    except OSError:
        os.unlink(temporary)
        raise


def _read(place: Path) -> export.Exported | None:
    """The program of a file; None where there is none, or none that can be trusted."""
    try:
        # Not a file that is waited for without end, nor one behind a link.
        number = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(number, "rb") as file:
        if not _is_own(os.fstat(number)):
            return None
        data = file.read(_LARGEST)
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    try:
        return export.deserialize(bytearray(data[_DIGEST:]))
    except Exception:  # whatever the reader of a foreign file meets
        return None


def _is_own(status: os.stat_result) -> bool:
    """Whether a file is this user's, and nobody else can write to it."""
    writable = stat.S_IWGRP | stat.S_IWOTH
    regular = stat.S_ISREG(status.st_mode)
    return regular and status.st_uid == os.getuid() and not status.st_mode & writable


def _key(values: Any, args: tuple) -> str:
    """What a program is found by; TypeError where that cannot be told by values alone."""
    leaves, structure = jax.tree.flatten(args)
    shapes = [f"{x.dtype}{x.shape}{x.weak_type}" for x in leaves]
    total = hashlib.sha256(_world().encode())
    for part in (*_parts(values), str(structure), *shapes, repr(_settings())):
        total.update(part.encode() + b"\0")
    return total.hexdigest()


def _parts(value: Any) -> Iterator[str]:
    """All that a value is made of, as text."""
    yield f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    elif dataclasses.is_dataclass(value) and _is_ours(type(value)):
        for field in dataclasses.fields(value):
            if field.name != "parent":  # of a network of flax, which leads back
                yield field.name
                yield from _parts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from _parts(tuple(value.items()))
    elif isinstance(value, tuple | list):
        yield str(len(value))
        for part in value:
            yield from _parts(part)
    elif isinstance(value, _PLAIN):
        yield repr(value)
    else:
        raise TypeError(f"a {type(value)} is not told apart by its text")


def _is_ours(kind: type) -> bool:
    """Whether a class's source is part of the key; another's may change unseen."""
    return kind.__module__.partition(".")[0] == "lpdiff_jax"


def _settings() -> dict[str, str]:
    """JAX's settings as they hold here, in this thread."""
    known = {name: getattr(jax.config, name, value) for name, value in jax.config.values.items()}
    return {name: repr(value) for name, value in known.items() if "cache" not in name}


@functools.cache
def _world() -> str:
    """The versions of all that traces, and a digest of this package's source."""
    root, source = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        source.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    jaxlib = importlib.metadata.version("jaxlib")
    packages = (jax.__version__, jaxlib, flax.__version__, np.__version__)
    return repr((__version__, platform.python_version(), packages, source.hexdigest()))
