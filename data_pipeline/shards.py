"""ArrayRecord shards of groups with an index, written and read without TensorFlow.

A directory of shards holds `<split>-<i>-of-<n>.array_record` files and `index.json`, which is
written last: a directory without it is not a data set. A record is a msgpack map of a group's name,
its encoded frames and ground truth (the files' own bytes, or PPM), and its text.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from data_pipeline.errors import DataError
from data_pipeline.example import Example, as_quads
from data_pipeline.files import explained, read_json, write_json
from data_pipeline.images import decode_image, encode_ppm
from data_pipeline.labels import text_or_none
from data_pipeline.schema import Many, Map, Number, Object, Text, check
from data_pipeline.tree import Problem, is_file_name, printable

INDEX_FILE = "index.json"
# Written beside the shards for others; not read by this program.
CROISSANT_FILE = "croissant.json"
FORMAT = "lpdiff-shards-1"
SHARD = Object(
    {
        "file": Text(300),
        "groups": Number(0, 10**9),
        "bytes": Number(0, 2**50),
        "sha256": Text(64),
    }
)
_INDEX = Object(
    {"format": Text(), "splits": Map(Many(SHARD, 1, 100_000))}, optional={"plan": Text(64)}
)
# A file beside the index: no path, nothing hidden.
_BESIDE = re.compile(r"[^./\0][^/\0]*")


@dataclass(frozen=True)
class Shard:
    """One file of a split: its name, its number of groups, its bytes and their sha256."""

    file: str
    groups: int
    bytes: int
    sha256: str


def pack(example: Example) -> bytes:
    """One example as a record."""
    return msgpack.packb(asdict(example))


def unpack(record: bytes) -> Example:
    """The example of a record made by `pack`; raises ValueError for any other."""
    fields = msgpack.unpackb(record)
    name, frames, target = fields["name"], fields["frames"], fields["target"]
    images = [*frames, *([] if target is None else [target])]
    if not (isinstance(name, str) and frames and all(isinstance(i, bytes) for i in images)):
        raise ValueError("the record is none of a group")
    if not is_file_name(name):  # results are written under it
        raise ValueError(f"{printable(name[:100])!r} is no name of a group")
    corners = fields.get("corners")  # older shards know of none
    quads = None if corners is None else as_quads(corners)
    return Example(name, tuple(frames), target, text_or_none(fields["text"]), quads)


class ShardSource:
    """The groups of one split of a shard directory; picklable, safe to read from many threads."""

    def __init__(self, root: Path, split: str) -> None:
        index = read_index(root)
        if split not in index:
            raise DataError(f"{root}: no split {split!r}; it has {', '.join(index)}")
        self.root = root
        self.shards = index[split]
        for shard in self.shards:
            fault = fault_of_size(root, shard)
            if fault:
                raise DataError(f"{root / shard.file}: {fault}; prepare the data again")
        self._records = _open_records([root / shard.file for shard in self.shards])
        if len(self._records) != len(self):
            raise DataError(
                f"{root}: its shards of {split!r} hold {len(self._records)} groups, and "
                f"{INDEX_FILE} says {len(self)}; prepare the data again"
            )

    def __len__(self) -> int:
        return sum(shard.groups for shard in self.shards)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"group {index} of {len(self)}")
        try:
            return unpack(self._records[index])
        except Exception as error:  # of the reader (a checksum) or of msgpack
            raise DataError(
                f"{self.root}: group {index} cannot be read ({error}); "
                f"`lpdiff prepare --verify {self.root}` tells which file is damaged"
            ) from error


def _open_records(paths: Sequence[Path]) -> ArrayRecordDataSource:
    try:
        return ArrayRecordDataSource([str(path) for path in paths])
    except Exception as error:  # the reader raises RuntimeError and ValueError alike
        raise DataError(f"{paths[0].parent}: its shards cannot be opened: {error}") from error


def fault_of_size(root: Path, shard: Shard) -> str | None:
    """What a glance tells of a shard: missing, or of another size than when it was written."""
    path = root / shard.file
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    return None if size == shard.bytes else f"{size} bytes, written with {shard.bytes}"


def is_shards(root: Path) -> bool:
    """Whether `root` is a finished directory of shards."""
    return (root / INDEX_FILE).is_file()


def write_index(root: Path, splits: Mapping[str, Sequence[Shard]], plan: str = "") -> None:
    """Writes the index; it carries its own checksum, and a digest of what the shards come from."""
    content = {split: [asdict(shard) for shard in shards] for split, shards in splits.items()}
    index = {"format": FORMAT, "splits": content} | ({"plan": plan} if plan else {})
    write_json(root / INDEX_FILE, {**index, "sha256": _digest_of(index)})


def read_index(root: Path) -> dict[str, list[Shard]]:
    """Reads the index of a shard directory: the shards of each split.

    Raises:
      DataError: when it is missing, damaged, or of another version's format.
    """
    index = _checked_index(root)
    return {s: [Shard(**shard) for shard in index["splits"][s]] for s in index["splits"]}


def plan_of(root: Path) -> str:
    """The digest of what the shards were made from, as `write_index` was given it; else empty."""
    return str(_checked_index(root).get("plan", ""))


def _checked_index(root: Path) -> dict[str, Any]:
    path = root / INDEX_FILE
    try:
        index: dict[str, Any] = read_json(path)
        check(Object({"sha256": Text(64)}, open=True), index, path)
    except DataError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: not a readable index of shards: {why}") from error
    if index.get("format") != FORMAT:
        raise DataError(f"{path}: format {index.get('format')!r}; this program reads {FORMAT!r}")
    checksum = index.pop("sha256")
    if checksum != _digest_of(index):
        raise DataError(f"{path}: damaged: its checksum does not fit; prepare the data again")
    check(_INDEX, index, path)
    for name in (shard["file"] for shards in index["splits"].values() for shard in shards):
        if not _BESIDE.fullmatch(name):
            raise DataError(f"{path}: {printable(name)!r} is no name of a shard beside it")
    return index


def _digest_of(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def verify(root: Path) -> list[Problem]:
    """Reads a shard directory whole: every file's size and checksum, every image of every record.

    Returns:
      What is wrong; empty when all is as it was written.

    Raises:
      DataError: when the index cannot be read.
    """
    index = read_index(root)
    problems = []
    for shard in (shard for shards in index.values() for shard in shards):
        fault = fault_of_size(root, shard) or _fault_of_content(root / shard.file, shard)
        if fault:
            problems.append(Problem("", root / shard.file, fault))
    known = {shard.file for shards in index.values() for shard in shards} | {
        INDEX_FILE,
        CROISSANT_FILE,
    }
    extra = sorted(
        name for name in os.listdir(root) if name not in known and not name.startswith(".")
    )
    return problems + [Problem("", root / name, "not in the index") for name in extra]


def _fault_of_content(path: Path, shard: Shard) -> str | None:
    if sha256_of(path) != shard.sha256:
        return "damaged: its checksum is not that of the file that was written"
    try:
        records = _open_records([path])
        if len(records) != shard.groups:
            return f"{len(records)} groups, and {shard.groups} in the index"
        for i in range(len(records)):
            example = unpack(records[i])
            for image in example.images:
                decode_image(image, f"group {example.name!r}")
    except DataError as error:
        return str(error)
    except Exception as error:  # of the reader or of msgpack
        return f"a record cannot be read: {printable(str(error)[:300])}"
    return None


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of shard `index` of `count`."""
    return f"{split}-{index:05d}-of-{count:05d}.array_record"


def write_shard(path: Path, examples: Iterable[Example], decode: bool = False) -> Shard:
    """Writes one shard, whole or not at all; `decode` stores pixels instead of the files' bytes."""
    part = path.with_name(path.name + ".part")
    # group_size:1 makes every record readable on its own, which random access needs.
    # Pixels are not compressed again: that would cost most of what decoding did.
    options = "group_size:1,uncompressed" if decode else "group_size:1"
    with explained(path):
        part.unlink(missing_ok=True)  # a link there would be written through
        try:
            groups = _write_records(part, examples, decode, options)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        return Shard(path.name, groups, path.stat().st_size, sha256_of(path))


def _write_records(part: Path, examples: Iterable[Example], decode: bool, options: str) -> int:
    """Writes the records of a shard; returns their number."""
    groups = 0
    try:
        with contextlib.closing(array_record_module.ArrayRecordWriter(str(part), options)) as file:
            for example in examples:
                file.write(pack(_decoded(example) if decode else example))
                groups += 1
                if not file.ok():
                    break  # closing it tells why
    except RuntimeError as error:  # of the writer: a full disk, a quota, a folder that went
        why = str(error).partition(";")[0]
        raise DataError(
            f"{part}: cannot be written: {why}; make room, and run the same command again"
        ) from error
    return groups


def _decoded(example: Example) -> Example:
    def pixels(data: bytes) -> bytes:
        return encode_ppm(decode_image(data, f"group {example.name!r}"))

    target = None if example.target is None else pixels(example.target)
    return replace(example, frames=tuple(map(pixels, example.frames)), target=target)


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
