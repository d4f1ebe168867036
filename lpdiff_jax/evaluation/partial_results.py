"""What an evaluation has computed so far, on disk: nothing is lost, and processes can share it.

Each process appends to files of its own in `parts/`; in the end one of them gathers all parts, in
the order of the plates, and removes them. After a crash they are still there, and a run of the same
plan goes on from them.
"""

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import explained, read_json, write_json, write_whole

Record = dict[str, Any]
# Row -> (positions [n] of the plates in the source, their features [n, D]).
RowFeatures = dict[str, tuple[np.ndarray, np.ndarray]]
_PLAN = "plan.json"


@dataclass(frozen=True)
class Part:
    """One process's share of the results; what is written of a batch is there as a whole or not."""

    directory: Path
    process: int = 0

    def append(self, records: Sequence[Record]) -> None:
        """Adds the records of a batch to the part's file, as one line of JSON."""
        with explained(self._records), self._records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(records, ensure_ascii=False) + "\n")

    def write_features(self, features: RowFeatures) -> None:
        """Writes the features of a batch, before its records: with those it counts as done."""
        arrays: dict[str, Any] = {"names": np.array(list(features), str)}
        for number, (positions, vectors) in enumerate(features.values()):
            arrays |= {f"positions{number}": positions, f"features{number}": vectors}
        first = min(int(positions[0]) for positions, _ in features.values())
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_whole(self.directory / f"features-{self.process}-{first}.npz", buffer.getvalue())

    def done(self) -> set[int]:
        """The positions of the plates that an earlier run has recorded; a cut line goes."""
        try:
            data = self._records.read_bytes()
        except FileNotFoundError:
            return set()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_whole(self._records, whole)
        return {record["position"] for line in whole.splitlines() for record in json.loads(line)}

    @property
    def _records(self) -> Path:
        return self.directory / f"records-{self.process}.jsonl"


def take_up(directory: Path, plan: Mapping[str, Any] | None) -> None:
    """Makes the directory ready: what a run of the same plan has left in it stays, all else goes.

    Args:
      directory: the directory of the parts.
      plan: what the results depend on, as JSON has it; None begins anew.
    """
    if plan is not None and not directory.is_symlink() and _plan_in(directory) == plan:
        return
    clear(directory)
    if plan is not None:
        write_json(directory / _PLAN, plan)


def _plan_in(directory: Path) -> Any:
    try:
        return read_json(directory / _PLAN)
    except DataError:
        return None


def clear(directory: Path) -> None:
    """Makes an empty directory for the parts."""
    with explained(directory):
        if directory.is_symlink():
            directory.unlink()  # what it leads to is somebody else's
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)


def gather(directory: Path) -> tuple[list[Record], RowFeatures]:
    """Reads all parts; the plates in the order of their positions in the source.

    Raises:
      RuntimeError: a plate was judged twice, which would count it twice.
    """
    records: list[Record] = []
    for path in sorted(directory.glob("records-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            records += [record for line in file for record in json.loads(line)]
    records.sort(key=lambda record: record["position"])
    if len({record["position"] for record in records}) != len(records):
        raise RuntimeError(f"{directory}: a plate was judged more than once")
    return records, _gather_features(directory)


def _gather_features(directory: Path) -> RowFeatures:
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for path in sorted(directory.glob("features-*.npz")):
        with np.load(path) as arrays:
            for number, name in enumerate(arrays["names"].tolist()):
                pair = arrays[f"positions{number}"], arrays[f"features{number}"]
                found.setdefault(name, []).append(pair)
    rows: RowFeatures = {}
    for name, pairs in found.items():
        positions, features = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        order = np.argsort(positions)
        rows[name] = positions[order], features[order]
    return rows
