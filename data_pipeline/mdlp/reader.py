"""The raw MDLP tree: find its groups, pair inputs with ground truth by folder, check.

    <root>/<split>/inputs/<group>/img_<k>.jpg    frames, k sorted as a number, far to near
    <root>/<split>/gt/<group>/<one file>.jpg     the ground truth, exactly one
    <root>/labels.json                           {group name or "split/group": plate text}, optional
    <root>/corners.json                          {the same: [[[x, y] of 4 corners] of each frame and
                                                 of the ground truth]}, optional: where the plate is

Layout: LP-Diff (Gong et al., CVPR 2025), its released program's `train` and `val` folders.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.example import Quad, as_quads
from data_pipeline.files import read_json
from data_pipeline.labels import NotAPlate, plate_text
from data_pipeline.tree import Group, Problem, image_files, is_litter, list_names, natural_key

LABELS_FILE = "labels.json"
CORNERS_FILE = "corners.json"
LEFT_OUT_FILE = "labels_left_out.json"
# Where people put labels that nothing reads.
_OTHER_LABELS = tuple(f"labels.{kind}" for kind in ("csv", "txt", "tsv", "xlsx", "xml", "yaml"))


def find_splits(root: Path) -> list[str]:
    """Names of the splits under `root`: the folders, not hidden, that hold an `inputs` folder."""
    try:
        names = os.listdir(root)
    except OSError:
        return []
    return sorted(n for n in names if not is_litter(n) and os.path.isdir(root / n / "inputs"))


def find_groups(root: Path, split: str) -> tuple[list[Group], list[Problem]]:
    """Finds the groups of a split, in natural order, without opening the images.

    Args:
      root: the folder of the tree.
      split: `train`, `val` or another folder of the root.

    Returns:
      The groups whose folders are in order; and what is wrong with the others, and with labels. A
      group whose label cannot be a plate's text has none.

    Raises:
      DataError: when the split is not there, or labels.json cannot be read.
    """
    inputs, ground_truth = root / split / "inputs", root / split / "gt"
    if not inputs.is_dir():
        have = ", ".join(find_splits(root)) or "none"
        raise DataError(f"{inputs}: no such folder; splits found under {root}: {have}")
    labels, corners = read_labels(root), read_corners(root)
    texts, faults_of_labels = texts_of(labels)
    groups: list[Group] = []
    problems: list[Problem] = []
    for name in list_names(inputs):
        key = f"{split}/{name}"
        frames, faults = _find_frames(key, inputs / name)
        target = None
        if ground_truth.is_dir():
            target, more = _find_target(key, ground_truth / name)
            faults += more
        problems += faults
        if not faults:
            text, quads = texts.get(key, texts.get(name)), corners.get(key, corners.get(name))
            groups.append(Group(name, frames, target, text, quads))
            if quads is not None and len(quads) != len(groups[-1].files):
                raise DataError(
                    f"{root / CORNERS_FILE}: {key!r} has corners of {len(quads)} images, and "
                    f"{len(groups[-1].files)} files"
                )
    problems += _unpaired(split, inputs, ground_truth) + _unread_labels(root)
    return groups, problems + _stray_labels(root, split, labels, faults_of_labels)


def side_files(root: Path) -> list[Path]:
    """The labels, and what `lpdiff label` lists beside them."""
    return [root / LABELS_FILE, root / LEFT_OUT_FILE]


def read_labels(root: Path) -> dict[str, Any]:
    """What `labels.json` says, as it stands there; empty where there is none.

    Raises:
      DataError: it cannot be read, or is no object of group name -> plate text.
    """
    path = root / LABELS_FILE
    if not os.path.lexists(path):
        return {}
    labels = read_json(path)
    if not isinstance(labels, dict):
        raise DataError(f"{path}: must be an object of group name -> plate text")
    return labels


def read_corners(root: Path) -> dict[str, tuple[Quad, ...]]:
    """Reads `corners.json`: the plate's corners in the images of a group, parts of their sizes.

    Returns:
      By group; empty where there is no such file.
    """
    path = root / CORNERS_FILE
    if not os.path.lexists(path):
        return {}
    corners = read_json(path)
    try:
        return {name: as_quads(quads) for name, quads in corners.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: must be an object of group name -> four [x, y] of each image: {error}"
        ) from error


def texts_of(labels: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """The plate texts of labels, and what is wrong with those that are none, by their names."""
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name, label in labels.items():
        try:
            texts[name] = plate_text(label)
        except NotAPlate as error:
            faults[name] = str(error)
    return texts, faults


def _find_frames(key: str, folder: Path) -> tuple[tuple[Path, ...], list[Problem]]:
    frames, problems = image_files(key, folder)
    if not frames and not problems:
        problems = [Problem(key, folder, "no frame; there must be at least one")]
    return tuple(frames), problems


def _find_target(key: str, folder: Path) -> tuple[Path | None, list[Problem]]:
    targets, problems = image_files(key, folder)
    if len(targets) != 1 and not problems:
        reason = f"{len(targets)} ground-truth images; there must be exactly one"
        problems = [Problem(key, folder, reason)]
    return next(iter(targets), None), problems


def _unpaired(split: str, inputs: Path, ground_truth: Path) -> list[Problem]:
    """Ground truths without a folder of frames."""
    if not ground_truth.is_dir():
        return []
    extra = set(list_names(ground_truth)) - set(list_names(inputs))
    return [
        Problem(f"{split}/{name}", ground_truth / name, f"its frames are missing: {inputs / name}")
        for name in sorted(extra, key=natural_key)
    ]


def _unread_labels(root: Path) -> list[Problem]:
    """Files that look like labels where there is no labels.json."""
    if os.path.lexists(root / LABELS_FILE):
        return []
    reason = f'not read: labels are read from {LABELS_FILE} alone, {{"<group>": "<text>", ...}}'
    return [
        Problem("", root / name, reason) for name in _OTHER_LABELS if os.path.lexists(root / name)
    ]


def _stray_labels(
    root: Path, split: str, labels: Mapping[str, Any], faults: Mapping[str, str]
) -> list[Problem]:
    """Labels that are no plate's text, belong to no group, or to groups of several splits.

    A label without a split is looked at along with the first split, so that it is listed once.
    """
    path, splits = root / LABELS_FILE, find_splits(root)
    groups = {s: set(os.listdir(root / s / "inputs")) for s in splits}
    problems = []
    for label in labels:
        prefix, _, name = label.rpartition("/")
        places = [s for s in splits if name in groups[s] and prefix in ("", s)]
        if split != (prefix if prefix in splits else splits[0]):
            continue
        if not places:
            problems.append(Problem("", path, f"{label!r} is labelled, but there is no such group"))
        elif len(places) > 1:
            reason = f"{label!r} is a group of {' and '.join(places)}: label it as '<split>/{name}'"
            problems.append(Problem("", path, reason))
        if label in faults:
            problems.append(Problem("", path, f"{label!r}: {faults[label]}"))
    return problems
