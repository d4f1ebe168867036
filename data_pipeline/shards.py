"""ArrayRecord shards of groups with an index, written and read without TensorFlow.

A directory of shards holds `<split>-<i>-of-<n>.array_record` files and `index.json`, which is
written last: a directory without it is not a data set. A record is a msgpack map of a group's name,
its encoded frames and ground truth (the files' own bytes), and its text.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
from array_record.python import array_record_module
from array_record.python.array_record_data_source import ArrayRecordDataSource

from data_pipeline.errors import DataError
from data_pipeline.example import Example

INDEX_FILE = "index.json"
FORMAT = "lpdiff-shards-1"


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
    """The example of a record made by `pack`."""
    fields = msgpack.unpackb(record)
    return Example(fields["name"], tuple(fields["frames"]), fields["target"], fields["text"])


class ShardSource:
    """The groups of one split of a shard directory; picklable, safe to read from many threads."""

    def __init__(self, root: Path, split: str) -> None:
        index = read_index(root)
        if split not in index["splits"]:
            raise DataError(f"{root}: no split {split!r}; it has {', '.join(index['splits'])}")
        shards = index["splits"][split]
        missing = [s["file"] for s in shards if not (root / s["file"]).is_file()]
        if missing:
            raise DataError(f"{root / missing[0]}: missing; run `lpdiff prepare` again")
        self.root = root
        self._records = ArrayRecordDataSource([str(root / s["file"]) for s in shards])
        if len(self._records) != sum(s["groups"] for s in shards):
            raise DataError(f"{root}: shards and {INDEX_FILE} disagree; prepare it again")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        return unpack(self._records[index])


def is_shards(root: Path) -> bool:
    """Whether `root` is a finished directory of shards."""
    return (root / INDEX_FILE).is_file()


def read_index(root: Path) -> dict[str, Any]:
    """Reads the index of a shard directory."""
    path = root / INDEX_FILE
    try:
        index = json.loads(path.read_bytes())
        if index["format"] != FORMAT:
            raise DataError(f"{path}: format {index['format']!r}, this program reads {FORMAT!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a readable index of shards: {error!r}") from error
    return index


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of shard `index` of `count`."""
    return f"{split}-{index:05d}-of-{count:05d}.array_record"


def write_shard(path: Path, examples: Iterable[Example]) -> Shard:
    """Writes one shard, whole or not at all."""
    part = path.with_name(path.name + ".part")
    # group_size:1 makes every record readable on its own, which random access needs.
    writer = array_record_module.ArrayRecordWriter(str(part), "group_size:1")
    try:
        groups = 0
        for example in examples:
            writer.write(pack(example))
            groups += 1
    finally:
        writer.close()
    os.replace(part, path)
    return Shard(path.name, groups, path.stat().st_size, sha256_of(path))


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)
