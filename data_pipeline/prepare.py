"""From a raw tree to shards: check every image, leave out what is broken, write, resume.

All files go to `<out>.part`, which becomes `<out>` when everything is in it: what has the final
name is whole. A run that was interrupted is taken up where it stopped, shard by shard.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.example import encode_text
from data_pipeline.images import read_image
from data_pipeline.layouts import Layout, detect_layout
from data_pipeline.shards import FORMAT, Shard, shard_name, write_index, write_json, write_shard
from data_pipeline.splits import split_groups
from data_pipeline.tree import Group, Problem, reason_of

# Narrower than any plate that could be read; such a file is a mistake of the cropping.
MIN_SIDE = 4
# Beside the shards while they are made: the plan, one entry a finished shard, and the lock.
_WORK = ".prepare"

Splits = Mapping[str, Sequence[Group]]
Report = Callable[[str], None]
Progress = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Checked:
    """A tree after checking: its good groups by split, and every problem found."""

    splits: Splits
    problems: tuple[Problem, ...]

    @property
    def left_out(self) -> int:
        """Number of groups that cannot be used."""
        return len({problem.group for problem in self.problems} - {""})

    def with_problems(self, more: Sequence[Problem]) -> "Checked":
        """The same with more problems listed."""
        return Checked(self.splits, (*self.problems, *more))


def check_tree(
    root: Path, layout: Layout | None = None, progress: Progress | None = None
) -> Checked:
    """Finds the groups of a raw tree and decodes every image.

    Args:
      root: the tree.
      layout: how it is laid out; found out when not given.
      progress: called with a split and its number of groups; what it returns, with those done.

    Raises:
      DataError: when `root` has no group in that layout, or its labels cannot be read.
    """
    layout = layout or detect_layout(root)
    splits = layout.find_splits(root)
    if not splits:
        raise DataError(f"{root}: no group in the layout that was asked for")
    good: dict[str, list[Group]] = {}
    problems: list[Problem] = []
    for split in splits:
        groups, faults = layout.find_groups(root, split)
        found = _check_groups(split, groups, progress(split, len(groups)) if progress else None)
        good[split] = [g for g, bad in zip(groups, found, strict=True) if not bad]
        problems += faults + [problem for bad in found for problem in bad]
    return Checked(good, tuple(problems))


def divide(checked: Checked, shares: Mapping[str, float], seed: int) -> Checked:
    """Divides all groups of a tree anew, by plate; see `splits.split_groups`.

    A name that several of the old splits have becomes `<old split>_<name>`.
    """
    pooled = [(split, group) for split, groups in checked.splits.items() for group in groups]
    uses = Counter(group.name for _, group in pooled)
    groups = [
        group if uses[group.name] == 1 else replace(group, name=f"{split}_{group.name}")
        for split, group in pooled
    ]
    return replace(checked, splits=split_groups(groups, shares, seed))


def write_shards(
    out: Path,
    splits: Splits,
    *,
    groups_per_shard: int = 1000,
    decode: bool = False,
    report: Report = print,
) -> dict[str, list[Shard]]:
    """Writes groups as shards with an index; goes on where an interrupted run stopped.

    Args:
      out: a directory that does not exist yet, or is empty.
      splits: the groups of each split; at least one group in all.
      groups_per_shard: how many go into one file.
      decode: store pixels instead of the files' own bytes: larger, and faster to read.
      report: told each finished shard.

    Returns:
      The shards of each split.

    Raises:
      DataError: when there is nothing to write, `out` holds something already, or another process
        is writing to it.
    """
    if not any(splits.values()):
        raise DataError("no good group is left to write")
    _check_vacant(out)
    part = out.with_name(out.name + ".part")
    try:
        (part / _WORK).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{part}: cannot be made: {error.strerror or error}") from error
    with _lock(part / _WORK / "lock", out):
        _start_or_resume(part, _plan(splits, groups_per_shard, decode))
        index = {
            split: _write_split(part, split, groups, groups_per_shard, decode, report)
            for split, groups in splits.items()
            if groups
        }
        write_index(part, index)
        _check_vacant(out)
        os.replace(part, out)
        shutil.rmtree(out / _WORK)
    return index


def _check_groups(
    split: str, groups: Sequence[Group], tell: Callable[[int], None] | None
) -> list[list[Problem]]:
    found = []
    # Decoding releases the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for bad in pool.map(lambda group: _check_group(split, group), groups):
            found.append(bad)
            if tell:
                tell(len(found))
    return found


def _check_group(split: str, group: Group) -> list[Problem]:
    key = f"{split}/{group.name}"
    problems = [
        Problem(key, path, reason)
        for path in group.files
        if (reason := _fault_of_image(path)) is not None
    ]
    try:
        key.encode()
        encode_text(group.text or "")
    except UnicodeEncodeError:
        problems.append(Problem(key, group.frames[0].parent, "its name is not valid UTF-8"))
    except DataError as error:
        problems.append(Problem(key, group.frames[0].parent, str(error)))
    return problems


def _fault_of_image(path: Path) -> str | None:
    try:
        height, width = read_image(path).shape[:2]
    except DataError as error:
        return reason_of(error, path)
    if min(height, width) < MIN_SIDE:
        return f"{width} x {height} pixels are too few; at least {MIN_SIDE} each way are needed"
    return None


def _check_vacant(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists already; remove it, or give another place for the shards")


@contextlib.contextmanager
def _lock(path: Path, out: Path) -> Iterator[None]:
    """Holds a lock that ends with the process, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{out}: another process is preparing it; wait for it") from error
        yield


def _plan(splits: Splits, groups_per_shard: int, decode: bool) -> str:
    """A digest of all that decides the shards' bytes, to tell whether old ones still fit."""
    digest = hashlib.sha256(f"{FORMAT} {groups_per_shard} {decode}".encode())
    for split, groups in splits.items():
        for group in groups:
            stats = [
                (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in group.files
            ]
            digest.update(repr((split, group.name, group.text, stats)).encode())
    return digest.hexdigest()


def _start_or_resume(part: Path, plan: str) -> None:
    """Keeps what an interrupted run of the same plan has written; removes any other's."""
    path = part / _WORK / "plan.json"
    if path.exists() and json.loads(path.read_bytes()) == plan:
        return
    for stale in (*part.glob("*.array_record*"), *(part / _WORK).glob("*.json*")):
        stale.unlink()
    write_json(path, plan)


def _write_split(
    part: Path,
    split: str,
    groups: Sequence[Group],
    groups_per_shard: int,
    decode: bool,
    report: Report,
) -> list[Shard]:
    starts = range(0, len(groups), groups_per_shard)
    shards = []
    for i, start in enumerate(starts):
        name = shard_name(split, i, len(starts))
        done = part / _WORK / f"{name}.json"
        if done.exists():
            shard = Shard(**json.loads(done.read_bytes()))
        else:
            chunk = groups[start : start + groups_per_shard]
            shard = write_shard(part / name, (group.read() for group in chunk), decode)
            write_json(done, asdict(shard))
        report(f"{name}: {shard.groups} groups, {shard.bytes / 1e6:.1f} MB")
        shards.append(shard)
    return shards
