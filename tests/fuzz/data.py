"""Entry points that read data: trees, shards, labels, styles, pictures; and the command line."""

import functools
import io
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from array_record.python import array_record_module
from hypothesis import strategies as st
from PIL import Image

from data_pipeline import shards
from data_pipeline.images import decode_image
from data_pipeline.pipeline import Loader
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.sources import list_splits, open_source
from data_pipeline.synthetic.groups import render_group
from data_pipeline.synthetic.styles import STYLE_DIRECTORY
from lpdiff_jax.cli import main
from tests.fuzz.mutations import (
    KINDS,
    NASTY,
    byte_edits,
    edited,
    edited_json,
    json_edits,
    kept_folder,
    put,
)

GROUPS = 3
ODD_NAMES = [
    "²",
    "①",
    "img_①",
    "-",
    "--help",
    " ",
    "a\nb",
    "\udcff\udcfe",
    "x" * 240,
    "é",
    "e\u0301",
    "con",
    "%s%n",
    "*",
    "a'b\"c",
    ".hidden",
    "@eaDir",
    "__MACOSX",
    "…",
    "\u202egnp",
    "01",
    "1",
    "٣",
    "~",
]


@functools.cache
def _picture(kind: str = "JPEG", size: tuple[int, int] = (12, 24)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _write_tree(root: Path) -> None:
    for split in ("train", "val"):
        for k in range(GROUPS):
            for place, name in (("inputs", "img_0"), ("inputs", "img_1"), ("gt", "img_2")):
                path = root / split / place / f"g{k}" / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_picture())
    labels = {f"{split}/g{k}": f"苏A1234{k}" for split in ("train", "val") for k in range(GROUPS)}
    (root / "labels.json").write_text(json.dumps(labels))


def _write_tracks(root: Path) -> None:
    for k in range(GROUPS):
        track = root / "train" / f"track_{k}"
        track.mkdir(parents=True)
        for name in ("lr-001", "lr-002", "hr-001"):
            (track / f"{name}.jpg").write_bytes(_picture())
        (track / "annotations.json").write_text(json.dumps({"plate_text": f"ABC123{k}"}))
    lines = [f"ABC123{k};train/track_{k};training" for k in range(GROUPS)]
    (root / "split.txt").write_text("\n".join(lines))


_SPOILT_FILE = st.one_of(
    st.tuples(st.just("bytes"), st.integers(0, 99), byte_edits),
    st.tuples(st.just("json"), st.just(0), json_edits),
    st.tuples(st.just("json"), st.just(0), json_edits),
    st.tuples(st.just("kind"), st.integers(0, 99), st.sampled_from(KINDS)),
    st.tuples(st.just("rename"), st.integers(0, 99), st.sampled_from(ODD_NAMES)),
    st.tuples(st.just("folder"), st.integers(0, 99), st.sampled_from(ODD_NAMES)),
)
_OPTIONS = st.sampled_from(
    [[], [], ["--strict"], ["--split"], ["--split", "1,1,0"], ["--decode"], ["--json"]]
)
tree_cases = st.tuples(st.lists(_SPOILT_FILE, min_size=1, max_size=3), _OPTIONS)


def _spoil(root: Path, edits: list[tuple[str, int, Any]]) -> None:
    for kind, place, value in edits:
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
        files = [path for path in files if not os.path.islink(path)]
        if not files:
            return
        path = files[place % len(files)]
        if kind == "json":
            texts = [path for path in files if path.suffix == ".json"]
            path = texts[0] if texts else path
            content = _parsed(path.read_bytes().decode(errors="replace")) if texts else {}
            path.write_text(edited_json(content, value), errors="surrogatepass")
        elif kind == "bytes":
            path.write_bytes(edited(path.read_bytes(), value))
        elif kind == "kind":
            put(value, path)
        else:
            old = path if kind == "rename" else path.parent
            new = old.with_name(value + (path.suffix if kind == "rename" else ""))
            if old != root and not os.path.lexists(new):
                old.rename(new)


def _prepared(root: Path, options: list[str]) -> Any:
    """A call of `lpdiff prepare`, of reading the tree as training does, and of what came out."""
    out = root.parent.parent / "out" / "shards"

    def call() -> int:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(f"{out}.part", ignore_errors=True)
        status = main(["prepare", str(root), str(out), *options])
        if status == 0:
            assert main(["prepare", "--verify", str(out)]) == 0
        for split in list_splits(root):
            _load(root, split)
        return status

    return call


def _load(root: Path, split: str) -> None:
    source = open_source(root, split)
    loader = Loader(source, (8, 16), 2)
    loader({"index": np.arange(len(source))})


def tree(case: Any, folder: Path) -> Any:
    """A tree in MDLP's layout with spoilt files and names."""
    _write_tree(folder / "raw")
    _spoil(folder / "raw", case[0])
    return _prepared(folder / "raw", case[1])


def track_tree(case: Any, folder: Path) -> Any:
    """A tree of tracks, likewise."""
    _write_tracks(folder / "raw")
    _spoil(folder / "raw", case[0])
    return _prepared(folder / "raw", case[1])


# --- shards ----------------------------------------------------------------------------------

_RECORDS: list[Any] = [
    b"", b"\xc1", b"\xdf\xff\xff\xff\xff", msgpack.packb([1]), msgpack.packb({"name": 1}),
    msgpack.packb({"name": "a", "frames": [], "target": None, "text": None}),
    msgpack.packb({"name": "a", "frames": ["x"], "target": None, "text": None}),
    msgpack.packb({"name": "a", "frames": [b"x"], "target": b"", "text": 7}),
    msgpack.packb({"name": "x" * 10**5, "frames": [b"x"] * 10**4, "target": b"", "text": "x" * 99}),
    b"\x91" * 5000, b"\x81\xa4name" * 500,
]  # fmt: skip
shard_cases = st.one_of(
    st.tuples(st.just("index"), json_edits),
    st.tuples(st.just("signed"), json_edits),
    st.tuples(st.just("signed"), json_edits),
    st.tuples(st.just("bytes"), byte_edits),
    st.tuples(st.just("measured"), byte_edits),
    st.tuples(st.just("records"), st.lists(st.sampled_from(_RECORDS), max_size=3)),
    st.tuples(st.just("kind"), st.tuples(st.sampled_from(KINDS), st.booleans())),
)


@functools.cache
def _shards() -> Path:
    folder = kept_folder()
    _write_tree(folder / "raw")
    write_shards(folder / "out", check_tree(folder / "raw").splits, report=lambda _: None)
    return folder / "out"


def shard_directory(case: Any, folder: Path) -> Any:
    """A directory of shards: its index, or a shard, damaged or hostile."""
    kind, edits = case
    root = folder / "shards"
    shutil.copytree(_shards(), root)
    index, shard = root / "index.json", root / "train-00000-of-00001.array_record"
    content = json.loads(index.read_bytes())
    content.pop("sha256")
    if kind == "records":
        writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
        for record in edits:
            writer.write(record)
        writer.close()
    elif kind in ("bytes", "measured"):
        shard.write_bytes(edited(shard.read_bytes(), edits))
    elif kind == "kind":
        put(edits[0], index if edits[1] else shard)
    if kind in ("records", "measured"):
        (entry,) = content["splits"]["train"]
        entry |= {"bytes": shard.stat().st_size, "sha256": shards.sha256_of(shard)}
        entry |= {"groups": len(edits)} if kind == "records" else {}
        _sign(index, content)
    elif kind in ("index", "signed"):
        text = edited_json(content if kind == "signed" else _signed(content), edits)
        index.write_text(text, errors="surrogatepass")
        if kind == "signed":
            _sign(index, _parsed(text))

    def call() -> int:
        status = main(["prepare", "--verify", str(root)])
        for split in list_splits(root):
            _load(root, split)
        return status

    return call


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _signed(content: Any) -> Any:
    return (
        {**content, "sha256": shards._digest_of(content)} if isinstance(content, dict) else content
    )


def _sign(index: Path, content: Any) -> None:
    index.write_text(json.dumps(_signed(content)), errors="surrogatepass")


# --- styles, pictures ------------------------------------------------------------------------

style_cases = st.one_of(
    st.tuples(st.just("json"), json_edits),
    st.tuples(st.just("json"), json_edits),
    st.tuples(st.just("bytes"), byte_edits),
    st.tuples(st.just("kind"), st.sampled_from(KINDS)),
)


def style(case: Any, folder: Path) -> Any:
    """A style file of plates."""
    kind, edits = case
    # Another name each time: styles are kept by theirs.
    path = folder / f"{secrets.token_hex(8)}.json"
    data = (STYLE_DIRECTORY / "eu-france.json").read_bytes()
    path.write_bytes(edited(data, edits) if kind == "bytes" else data)
    if kind == "json":
        path.write_text(edited_json(json.loads(data), edits), errors="surrogatepass")
    elif kind == "kind":
        put(edits, path)
    return lambda: render_group(0, num_frames=1, styles=[str(path)]) and None


picture_cases = st.tuples(
    st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM"]), byte_edits
)


def picture(case: Any, folder: Path) -> Any:
    """A picture whose bytes are spoilt."""
    kind, edits = case
    data = edited(_picture(kind), edits)
    return lambda: decode_image(data, f"{folder.name}/x.{kind.lower()}") is None


# --- the command line ------------------------------------------------------------------------

_WORDS = [
    "-1", "0", "1", "2", "99999999999999999999", "1e9", "nan", "²", "", " ", "--", "--help", "x",
    "~", "~/x", "gs://bucket/x", "/dev/null", "/dev/null/x", "/proc/self/mem", "x" * 300,
    "{in}", "{in}/nowhere", "{in}/file.json", "{out}/new", "\udcff", "--seed", "--steps",
    "--groups", "--json", "--model", "--output", "--split", "--samples", "--batch-size", "--dtype",
    "--frames", "--betas", "--image-size", "--norm-groups", "--weights-dir", "--preset", "--style",
]  # fmt: skip
_BEGINNINGS = [
    ["prepare", "{in}"], ["prepare", "--verify"], ["prepare", "{in}/raw", "{out}/s"],
    ["synthesize", "{out}/s", "--groups", "1", "--seed", "0"], ["synthesize", "{out}/s"],
    ["import-torch", "{in}/x_gen.pth", "{out}/m"], ["import-torch"], ["export-torch", "{in}"],
    ["label", "{in}/raw", "--weights-dir", "{in}"], ["fetch-weights", "--weights-dir"], ["pack"],
    ["pack", "{in}", "{out}/p"], ["export", "{in}", "{out}/e"], ["restore"],
    ["restore", "{in}/raw", "--output", "{out}/r", "--model", "{in}"], [],
]  # fmt: skip
command_cases = st.tuples(
    st.sampled_from(_BEGINNINGS), st.lists(st.sampled_from(_WORDS), max_size=4)
)


def command(case: Any, folder: Path) -> Any:
    """A command with arguments that do not fit."""
    beginning, words = case
    _write_tree(folder / "raw")
    (folder / "file.json").write_text("{}")
    places = {"{in}": str(folder), "{out}": str(folder.parent / "out")}

    def filled(word: str) -> str:
        for name, place in places.items():
            word = word.replace(name, place)
        return word

    arguments = [filled(word) for word in [*beginning, *words]]

    def call() -> int:
        here = os.getcwd()
        os.chdir(folder.parent / "out")  # where relative paths lead to
        shutil.rmtree(folder.parent / "out" / "s", ignore_errors=True)
        try:
            return main(arguments)
        finally:
            os.chdir(here)

    return call


assert NASTY
TARGETS = {
    "trees": (tree_cases, tree),
    "trees of tracks": (tree_cases, track_tree),
    "shards": (shard_cases, shard_directory),
    "plate styles": (style_cases, style),
    "pictures": (picture_cases, picture),
    "commands": (command_cases, command),
}
