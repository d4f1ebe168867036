"""The raw MDLP tree: find its groups, pair inputs with ground truth by folder, check, read.

    <root>/<split>/inputs/<group>/img_<k>.jpg    frames, k sorted as a number, far to near
    <root>/<split>/gt/<group>/<one file>.jpg     the ground truth, exactly one
    <root>/labels.json                           {group name or "split/group": plate text}, optional

Layout: LP-Diff (Gong et al., CVPR 2025), its released program's `train` and `val` folders.
"""

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.images import IMAGE_SUFFIXES, read_bytes

LABELS_FILE = "labels.json"
_LITTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Problem:
    """Something in a tree that keeps a group from being used."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Group:
    """The files of one group; frames far to near, target None in a split without gt."""

    name: str
    frames: tuple[Path, ...]
    target: Path | None
    text: str | None = None

    def read(self) -> Example:
        """Reads the files; raises DataError naming the one that cannot be read."""
        target = None if self.target is None else read_bytes(self.target)
        return Example(self.name, tuple(map(read_bytes, self.frames)), target, self.text)


class MdlpSource:
    """The good groups of one split of a raw tree, read when asked for."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = tuple(groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Example:
        return self.groups[index].read()


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts img_2 before img_10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


def is_mdlp(root: Path) -> bool:
    """Whether `root` looks like a raw tree: some folder in it holds an `inputs` folder."""
    return bool(find_splits(root))


def find_splits(root: Path) -> list[str]:
    """Names of the splits under `root`: the folders that hold an `inputs` folder."""
    return sorted(path.parent.name for path in root.glob("*/inputs") if path.is_dir())


def find_groups(root: Path, split: str) -> tuple[list[Group], list[Problem]]:
    """Finds the groups of a split, in natural order, without opening the images.

    Args:
      root: the tree's root.
      split: `train`, `val` or another folder of the root.

    Returns:
      The groups whose folders are in order, and a problem for each one that is not.

    Raises:
      DataError: when the split or a readable labels.json is not there.
    """
    inputs, ground_truth = root / split / "inputs", root / split / "gt"
    if not inputs.is_dir():
        have = ", ".join(find_splits(root)) or "none"
        raise DataError(f"{inputs}: no such folder; splits found under {root}: {have}")
    labels = read_labels(root)
    groups: list[Group] = []
    problems: list[Problem] = []
    for name in _names(inputs):
        target_folder = ground_truth / name if ground_truth.is_dir() else None
        text = labels.get(f"{split}/{name}", labels.get(name))
        group, faults = _find_group(name, inputs / name, target_folder, text)
        problems += faults
        if not faults:
            groups.append(group)
    problems += _unpaired(inputs, ground_truth)
    return groups, problems


def open_split(root: Path, split: str) -> MdlpSource:
    """Opens one split for reading; groups that are not in order are left out, with a warning."""
    groups, problems = find_groups(root, split)
    if not groups:
        first = f", for example {problems[0]}" if problems else ""
        raise DataError(f"{root / split}: no group can be used{first}")
    if problems:
        logging.getLogger(__name__).warning(
            "%s: %d groups used, %d problems, the first: %s (`lpdiff prepare` lists them all)",
            root / split, len(groups), len(problems), problems[0],
        )  # fmt: skip
    return MdlpSource(groups)


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


def _names(folder: Path) -> list[str]:
    """What is in a folder, in natural order, without the litter of file managers."""
    names = (name for name in os.listdir(folder) if not name.startswith("."))
    return sorted((n for n in names if n.lower() not in _LITTER), key=natural_key)


def _find_group(
    name: str, inputs: Path, target_folder: Path | None, text: str | None
) -> tuple[Group, list[Problem]]:
    """One group, and what is wrong with it."""
    frames, problems = _image_files(inputs)
    if not frames and not problems:
        problems = [Problem(inputs, "no frame: at least one image is needed")]
    if target_folder is None:
        return Group(name, tuple(frames), None, text), problems
    targets, faults = _image_files(target_folder)
    if not faults and len(targets) != 1:
        reason = f"{len(targets)} ground-truth images; there must be exactly one"
        faults = [Problem(target_folder, reason)]
    return Group(name, tuple(frames), next(iter(targets), None), text), problems + faults


def _image_files(folder: Path) -> tuple[list[Path], list[Problem]]:
    if not folder.exists():
        return [], [Problem(folder, "no such folder")]
    try:
        paths = [folder / name for name in _names(folder)]
    except OSError as error:
        return [], [Problem(folder, f"cannot be listed: {error.strerror or error}")]
    wrong = [p for p in paths if p.suffix.lower() not in IMAGE_SUFFIXES or not p.is_file()]
    kinds = ", ".join(IMAGE_SUFFIXES)
    return paths, [Problem(path, f"not an image file ({kinds})") for path in wrong]


def _unpaired(inputs: Path, ground_truth: Path) -> list[Problem]:
    """Ground truths without a group of frames."""
    if not ground_truth.is_dir():
        return []
    extra = set(_names(ground_truth)) - set(_names(inputs))
    return [
        Problem(ground_truth / name, f"no frames: {inputs / name} does not exist")
        for name in sorted(extra, key=natural_key)
    ]
