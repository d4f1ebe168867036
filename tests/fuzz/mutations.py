"""Ways to spoil a file: its bytes, what its JSON says, what it is at all."""

import atexit
import copy
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

NASTY: list[Any] = [
    None, True, False, -1, 0, 1, 7, 3.5, -1e9, 1e308, 10**9, 2**40, 2**70, 10**400, float("nan"),
    float("inf"), "", "x", "²", "①", "\ud800", "\0", "../../escape", "/dev/zero", "x" * 20_000,
    "苏A·5L231", [], [[]], {}, {"a": {}}, [0] * 70, ["a"], [1e9, 1e9], {"steps": 10**9},
]  # fmt: skip
_TOKENS = [
    b"\0" * 64,
    b"\xff" * 64,
    b"9" * 5000,
    b"[" * 5000,
    b"(" * 5000,
    b"\n",
    b"\x80\x02",
    b".",
    b"PK",
    b"\xff\xfe\xfd",
    b"-1",
    b"1e999",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
]

_place = st.floats(0, 1, exclude_max=True)
_edit = st.one_of(
    st.tuples(st.just("flip"), _place, st.integers(0, 7)),
    st.tuples(st.just("cut"), _place, st.just(0)),
    st.tuples(st.just("drop"), _place, st.integers(1, 300)),
    st.tuples(st.just("insert"), _place, st.sampled_from(_TOKENS)),
    st.tuples(st.just("overwrite"), _place, st.sampled_from(_TOKENS)),
    st.tuples(st.just("random"), _place, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("repeat"), _place, st.integers(1, 2000)),
)
byte_edits = st.lists(_edit, min_size=1, max_size=4)

_json_edit = st.one_of(
    st.tuples(st.just("set"), _place, st.sampled_from(NASTY)),
    st.tuples(st.just("delete"), _place, st.just(None)),
    st.tuples(st.just("add"), _place, st.sampled_from(NASTY)),
    st.tuples(st.just("scale"), _place, st.sampled_from([-1, 0, 0.5, 3, 1e6, 1e18])),
    st.tuples(st.just("wrap"), _place, st.integers(1, 2000)),
)
json_edits = st.lists(_json_edit, min_size=1, max_size=3)

# What may stand where a file is expected.
KINDS = ("missing", "empty", "folder", "pipe", "zeros", "loop", "dead link", "memory", "huge")


def edited(data: bytes, edits: list[tuple[str, float, Any]]) -> bytes:
    """Bytes with some edits."""
    for kind, share, value in edits:
        at = int(share * len(data))
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << value]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + value :]
        elif kind == "insert":
            data = data[:at] + value + data[at:]
        elif kind in ("overwrite", "random"):
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + value] * 3 + data[at + value :]
    return data


def edited_json(content: Any, edits: list[tuple[str, float, Any]]) -> str:
    """JSON with some edits to what it says, as text; not always what JSON allows."""
    try:
        content = copy.deepcopy(content)
    except RecursionError:  # of an edit before
        content = {}
    wrapped = 0
    for kind, share, shared in edits:
        value = copy.deepcopy(shared)
        places = list(_places(content))
        if not places:
            return json.dumps(value if value != float("inf") else None)
        holder, key = places[int(share * len(places))]
        if kind == "set":
            holder[key] = value
        elif kind == "delete":
            del holder[key]
        elif kind == "add" and isinstance(holder, dict):
            holder[f"{key}_more"] = value
        elif kind == "add":
            holder.append(value)
        elif kind == "scale" and isinstance(holder[key], int | float):
            holder[key] = holder[key] * value
        elif kind == "wrap":
            holder[key], wrapped = "@@", value
    text = json.dumps(content)
    return text.replace('"@@"', "[" * wrapped + "]" * wrapped)


def _places(node: Any) -> Any:
    if not isinstance(node, dict | list):
        return
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        yield node, key
        yield from _places(value)


def put(kind: str, path: Path) -> None:
    """Puts something else in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**36)  # sparse: takes no room
    elif kind != "missing":
        target = {"zeros": "/dev/zero", "loop": path.name, "memory": "/proc/self/mem"}
        path.symlink_to(target.get(kind, "nowhere"))


def kept_folder() -> Path:
    """A folder for what many cases begin with; it goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="lpdiff-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
