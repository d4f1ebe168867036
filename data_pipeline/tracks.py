"""Trees of five-frame tracks: UFPR-SR-Plates, and LRLPR-26 of the ICPR 2026 competition.

    [<split>/]<any folders>/<track>/lr-001.png ..      the far frames, in the order of their numbers
                                    hr-001.png ..      the near frames (training only)
                                    annotations.json   {"plate_text": .., "plate_layout": .., ..}

LRLPR-26 has `train/Scenario-A/Brazilian/track_00001/..` and `test/track_..`; its Scenario A is the
UFPR-SR-Plates set (Nascimento et al., JBCS 2025), which comes without folders of splits. Where the
root has a `*split*.txt` of lines `<text>;<path of a track>;training|validation|testing`, that
decides; where there is nothing, all is `train` and `lpdiff prepare --split` divides it.

The ground truth is the last near frame, the nearest of the track.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.files import read_bytes, read_json
from data_pipeline.images import IMAGE_SUFFIXES
from data_pipeline.labels import NotAPlate, plate_text
from data_pipeline.tree import Group, Problem, list_names, short_name, unique_names, walk

_ANNOTATIONS = "annotations.json"
_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def find_splits(root: Path) -> list[str]:
    """Names of the splits under `root`; empty where it holds no tracks."""
    return sorted(_tracks_by_split(root))


def find_groups(root: Path, split: str) -> tuple[list[Group], list[Problem]]:
    """Finds the tracks of a split, in natural order, without opening the images.

    Returns:
      The tracks that are in order, named by their path below the root, and what is wrong with the
      others. A split without any near frame (a test set) has no ground truth.

    Raises:
      DataError: when the split is not there.
    """
    tracks = _tracks_by_split(root).get(split)
    if tracks is None:
        have = ", ".join(find_splits(root)) or "none"
        raise DataError(f"{root}: no tracks of split {split!r}; splits found: {have}")
    wants_target = any(_numbered(track, "hr") for track in tracks)
    groups: list[Group] = []
    problems: list[Problem] = []
    names = unique_names(short_name("_".join(t.relative_to(root).parts)) for t in tracks)
    for name, track in zip(names, tracks, strict=True):
        near = _numbered(track, "hr")
        text, faults = _read_text(f"{split}/{name}", track)
        if wants_target and not near:
            faults.append(Problem(f"{split}/{name}", track, "no ground truth: no hr-* image"))
        problems += faults
        if not any(fault.group for fault in faults):
            groups.append(Group(name, _numbered(track, "lr"), near[-1] if near else None, text))
    return groups, problems


def side_files(root: Path) -> list[Path]:
    """The lists of splits, the tracks' annotations, and the near frames that are no target."""
    tracks = list(_find_tracks(root))
    near = [path for track in tracks for path in _numbered(track, "hr")]
    return [*root.glob("*split*.txt"), *(track / _ANNOTATIONS for track in tracks), *near]


def _tracks_by_split(root: Path) -> dict[str, list[Path]]:
    tracks = list(_find_tracks(root))
    listed = _read_split_lists(root)
    splits: dict[str, list[Path]] = {}
    for track in tracks:
        top = track.relative_to(root).parts[0]
        split = listed.get(os.path.realpath(track)) if listed else _SPLITS.get(top.lower(), "train")
        if split is not None:
            splits.setdefault(split, []).append(track)
    return splits


def _find_tracks(root: Path) -> Iterable[Path]:
    """Folders below `root` that hold lr-* images, in natural order."""
    for folder, _, files in walk(root):
        if folder != root and any(_is_frame(name, "lr") for name in files):
            yield folder


def _is_frame(name: str, kind: str) -> bool:
    return name.lower().startswith(f"{kind}-") and name.lower().endswith(IMAGE_SUFFIXES)


def _numbered(track: Path, kind: str) -> tuple[Path, ...]:
    return tuple(track / name for name in list_names(track) if _is_frame(name, kind))


def _read_split_lists(root: Path) -> dict[str, str]:
    """Track -> split, from the `*split*.txt` files of the root; their paths may begin above it."""
    listed: dict[str, str] = {}
    for path in sorted(root.glob("*split*.txt")):
        for number, line in enumerate(read_bytes(path).decode(errors="replace").splitlines(), 1):
            if not line.strip():
                continue
            fields = line.strip().split(";")
            if len(fields) != 3 or fields[2].lower() not in _SPLITS or "\0" in line:
                raise DataError(
                    f"{path}, line {number}: expected '<text>;<track>;training|validation|testing'"
                )
            for base in (root, root.parent):
                listed[os.path.realpath(base / fields[1])] = _SPLITS[fields[2].lower()]
    return listed


def _read_text(key: str, track: Path) -> tuple[str | None, list[Problem]]:
    """The plate's text from a track's annotations; None where there are none.

    A text that cannot be a plate's is listed, and costs the track nothing but its text.
    """
    path = track / _ANNOTATIONS
    if not path.exists():
        return None, []
    try:
        annotations = read_json(path)
    except DataError as error:
        return None, [Problem(key, path, f"not a readable annotation: {error}")]
    if not isinstance(annotations, dict):
        return None, [Problem(key, path, "not a readable annotation: it must be an object")]
    if not annotations.get("plate_text"):
        return None, []
    try:
        return plate_text(annotations["plate_text"]), []
    except NotAPlate as error:
        return None, [Problem("", path, f"plate_text: {error}")]
