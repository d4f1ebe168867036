"""From a raw tree to shards: check every image, leave out what is broken, write, resume.

All files go to `<out>.part`, which becomes `<out>` when everything is in it: what has the final
name is whole. A run that was interrupted is taken up where it stopped, shard by shard.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_pipeline.croissant import write_croissant
from data_pipeline.errors import DataError
from data_pipeline.files import explained, read_json, write_json
from data_pipeline.images import read_image
from data_pipeline.labels import CHARSET, describe, unknown_to
from data_pipeline.layouts import Layout, detect_layout
from data_pipeline.schema import check
from data_pipeline.shards import (
    FORMAT,
    SHARD,
    Shard,
    is_shards,
    plan_of,
    read_index,
    shard_name,
    write_index,
    write_shard,
)
from data_pipeline.splits import split_groups
from data_pipeline.tree import Group, Problem, printable, reason_of, unique_names, unused_files

# Narrower than any plate that could be read; such a file is a mistake of the cropping.
MIN_SIDE = 4
# Beside the shards while they are made: the plan, and one entry per finished shard.
_WORK = ".prepare"
_PLAN = "plan.json"

Splits = Mapping[str, Sequence[Group]]
Report = Callable[[str], None]
Progress = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Checked:
    """A tree after checking: its good groups by split, and every problem found.

    `notes` tell what costs no group: files that are not used, characters that a model of Chinese
    plates does not know.
    """

    splits: Splits
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> int:
        """Number of groups that cannot be used."""
        return len({problem.group for problem in self.problems} - {""})

    def with_problems(self, more: Sequence[Problem]) -> "Checked":
        """The same with more problems listed."""
        return replace(self, problems=(*self.problems, *more))


def check_tree(
    root: Path, layout: Layout | None = None, progress: Progress | None = None
) -> Checked:
    """Finds the groups of a raw tree and decodes every image.

    Args:
      root: the folder of the tree.
      layout: the layout of the tree; None means that it is detected.
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
    used: list[Path] = []
    for split in splits:
        groups, faults = layout.find_groups(root, split)
        used += [path for group in groups for path in group.files]
        found = _check_groups(split, groups, progress(split, len(groups)) if progress else None)
        good[split] = [g for g, bad in zip(groups, found, strict=True) if not bad]
        problems += faults + [problem for bad in found for problem in bad]
    used += layout.side_files(root)
    notes = unused_files(root, used, [p.path for p in problems]) + _unknown_characters(good)
    return Checked(good, tuple(problems), tuple(notes))


def divide(checked: Checked, shares: Mapping[str, float], seed: int) -> Checked:
    """Divides all groups of a tree anew, by plate; see `splits.split_groups`.

    A name that several of the old splits have becomes `<old split>_<name>`.
    """
    pooled = [(split, group) for split, groups in checked.splits.items() for group in groups]
    uses = Counter(group.name for _, group in pooled)
    names = unique_names(
        group.name if uses[group.name] == 1 else f"{split}_{group.name}" for split, group in pooled
    )
    groups = [replace(group, name=name) for name, (_, group) in zip(names, pooled, strict=True)]
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
      out: a directory that does not exist yet, is empty, or holds the same shards already.
      splits: the groups of each split; at least one group in all.
      groups_per_shard: the number of groups in one file.
      decode: store pixels instead of the files' own bytes: larger, and faster to read.
      report: told each finished shard.

    Returns:
      The shards of each split.

    Raises:
      DataError: when there is nothing to write, `out` holds something already, another process is
        writing to it, or the disk is full.
    """
    if not any(splits.values()):
        raise DataError("no good group is left to write")
    part = out.with_name(out.name + ".part")
    plan = _plan(splits, groups_per_shard, decode)
    with explained(part):
        if is_shards(out) and plan_of(out) == plan:  # a run that was killed had come to its end
            return read_index(out)
        _check_vacant(out)
    with explained(part), _lock(part, out):
        _start_or_resume(part, plan)
        index = {
            split: _write_split(part, split, groups, groups_per_shard, decode, report)
            for split, groups in splits.items()
            if groups
        }
        write_croissant(part, out.name, index)
        write_index(part, index, plan)
        _check_vacant(out)
        os.replace(part, out)
        shutil.rmtree(out / _WORK)
    return index


def _unknown_characters(splits: Splits) -> list[str]:
    """A line for each character of the texts that the usual charset has not."""
    found: dict[str, list[str]] = {}
    for split, groups in splits.items():
        for group in groups:
            strange = unknown_to(CHARSET, group.text or "")
            if strange:
                found.setdefault(strange, []).append(f"{split}/{group.name} ({group.text})")
    return [
        f"{len(names)} plates have {describe(character)}, which the usual charset of the reading "
        f"head has not, so that it learns nothing of them: {printable(names[0])}"
        for character, names in found.items()
    ]


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
    except UnicodeEncodeError:
        problems.append(Problem(key, group.frames[0].parent, "its name is not valid UTF-8"))
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
def _lock(part: Path, out: Path) -> Iterator[None]:
    """Makes `part` and holds a lock on it that ends with the process, however it ends."""
    part.mkdir(parents=True, exist_ok=True)
    folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        work = part / _WORK
        work.mkdir(exist_ok=True)
        if not stat.S_ISDIR(work.lstat().st_mode):
            raise DataError(f"{work}: a link where a folder was expected; remove it")
        yield
    except BlockingIOError as error:
        raise DataError(f"{out}: another process is preparing it; wait for it") from error
    finally:
        os.close(folder)


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
    with contextlib.suppress(DataError):  # there is none, or a power cut left it damaged
        if read_json(part / _WORK / _PLAN) == plan:
            return
    for stale in (*part.glob("*.array_record*"), *(part / _WORK).glob("*.json*")):
        stale.unlink()
    write_json(part / _WORK / _PLAN, plan)


def _finished(path: Path) -> Shard | None:
    """The entry of a shard that an interrupted run has finished."""
    with contextlib.suppress(DataError):
        entry = read_json(path)
        check(SHARD, entry, path)
        return Shard(**entry)
    return None


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
        shard = _finished(done)
        if shard is None:
            chunk = groups[start : start + groups_per_shard]
            shard = write_shard(part / name, (group.read() for group in chunk), decode)
            write_json(done, asdict(shard))
        report(f"{name}: {shard.groups} groups, {shard.bytes / 1e6:.1f} MB")
        shards.append(shard)
    return shards
