"""What an evaluation has computed so far, on disk: nothing is lost, and processes can share it.

Each process appends to files of its own in `parts/`; in the end one of them gathers all parts, in
the order of the plates, and removes them. After a crash they are still there.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.files import explained

Record = dict[str, Any]
# Row -> (positions [n] of the plates in the source, their features [n, D]).
RowFeatures = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class Part:
    """One process's share of the results."""

    directory: Path
    process: int = 0
    features: dict[str, tuple[list[int], list[np.ndarray]]] = field(default_factory=dict)

    def append(self, records: Sequence[Record]) -> None:
        """Adds plates' records to the part's file, one JSON object a line."""
        path = self.directory / f"records-{self.process}.jsonl"
        with explained(path), path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def add_features(self, row: str, positions: Sequence[int], features: np.ndarray) -> None:
        """Keeps features [n, D] of a row's images of the plates at `positions`."""
        known = self.features.setdefault(row, ([], []))
        known[0].extend(positions)
        known[1].extend(features)

    def close(self) -> None:
        """Writes the features."""
        arrays: dict[str, Any] = {}
        for number, (positions, features) in enumerate(self.features.values()):
            arrays |= {f"positions{number}": positions, f"features{number}": features}
        names = np.array(list(self.features), str)
        path = self.directory / f"features-{self.process}.npz"
        with explained(path):
            np.savez(path, names=names, **arrays)


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
            records += [json.loads(line) for line in file]
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
