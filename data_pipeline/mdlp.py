"""The raw MDLP tree: find its groups, pair inputs with ground truth by folder, check.

    <root>/<split>/inputs/<group>/img_<k>.jpg    frames, k sorted as a number, far to near
    <root>/<split>/gt/<group>/<one file>.jpg     the ground truth, exactly one
    <root>/labels.json                           {group name or "split/group": plate text}, optional

Layout: LP-Diff (Gong et al., CVPR 2025), its released program's `train` and `val` folders.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.images import read_bytes
from data_pipeline.tree import Group, Problem, image_files, list_names, natural_key

LABELS_FILE = "labels.json"


def find_splits(root: Path) -> list[str]:
    """Names of the splits under `root`: the folders, not hidden, that hold an `inputs` folder."""
    return sorted(path.parent.name for path in root.glob("[!.]*/inputs") if path.is_dir())


def find_groups(root: Path, split: str) -> tuple[list[Group], list[Problem]]:
    """Finds the groups of a split, in natural order, without opening the images.

    Args:
      root: the tree's root.
      split: `train`, `val` or another folder of the root.

    Returns:
      The groups whose folders are in order, and what is wrong with the others.

    Raises:
      DataError: when the split is not there, or labels.json cannot be read.
    """
    inputs, ground_truth = root / split / "inputs", root / split / "gt"
    if not inputs.is_dir():
        have = ", ".join(find_splits(root)) or "none"
        raise DataError(f"{inputs}: no such folder; splits found under {root}: {have}")
    labels = read_labels(root)
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
            groups.append(Group(name, frames, target, labels.get(key, labels.get(name))))
    problems += _unpaired(split, inputs, ground_truth) + _stray_labels(root, split, labels)
    return groups, problems


def read_labels(root: Path) -> dict[str, str]:
    """Reads `labels.json`; empty where there is none."""
    path = root / LABELS_FILE
    if not path.exists():
        return {}
    try:
        labels = json.loads(read_bytes(path))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise DataError(f"{path}: must be an object of group name -> plate text")
    return labels


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


def _stray_labels(root: Path, split: str, labels: Mapping[str, str]) -> list[Problem]:
    """Labels that belong to no group, or to groups of several splits.

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
    return problems
