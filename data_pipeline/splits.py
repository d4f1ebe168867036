"""Train / val / test without leaks: a plate, and a photograph, is in one split only.

Two groups belong together when their plate texts are equal, or their ground truths are nearly the
same picture (their last frames, where there is no ground truth).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import cv2
import numpy as np

from data_pipeline.images import read_image
from data_pipeline.tree import Group, Problem, natural_key

# Cosine of two pictures' descriptors above which they count as one photograph. Measured: of copies
# that were compressed, rescaled by 0.7 to 1.2 and re-exposed by a fifth, 96 to 100 % reach it; the
# most alike of 500 real plates of one city are at 0.83, of 400 synthetic ones at 0.90. A copy that
# is cropped by more than a hundredth is mostly not found.
SIMILAR = 0.95
_THUMBNAIL = (48, 16)
_BLOCK = 2048


def split_groups(
    groups: Sequence[Group], shares: Mapping[str, float], seed: int
) -> dict[str, list[Group]]:
    """Divides groups into splits; those that belong together stay together.

    Args:
      groups: the groups; their names differ.
      shares: split -> its part of the whole, in any unit.
      seed: the seed of the division.

    Returns:
      split -> groups in natural order. Sizes come as near to the shares as clusters allow.
    """
    clusters = _clusters(groups)
    order = np.random.default_rng(seed).permutation(len(clusters))
    missing = {s: len(groups) * share / sum(shares.values()) for s, share in shares.items()}
    splits: dict[str, list[Group]] = {split: [] for split in shares}
    # The largest first: the small ones then even out the sizes.
    for i in sorted(order, key=lambda i: -len(clusters[i])):
        split = max(missing, key=lambda s: missing[s])
        splits[split] += clusters[i]
        missing[split] -= len(clusters[i])
    return {s: sorted(members, key=lambda g: natural_key(g.name)) for s, members in splits.items()}


def find_leaks(splits: Mapping[str, Sequence[Group]]) -> list[Problem]:
    """Lists what two splits have in common: plate texts, and nearly equal ground truths."""
    if len(splits) < 2:
        return []
    described = {split: _describe(groups) for split, groups in splits.items()}
    problems = []
    for a, b in combinations(splits, 2):
        owners = {group.text: group for group in splits[b] if group.text}
        for group in splits[a]:
            if group.text in owners:
                other = f"{b}/{owners[group.text].name}"
                reason = f"the plate {group.text!r} is also in {other}"
                problems.append(Problem("", group.files[-1], reason))
        for i, j in _similar(described[a], described[b]):
            reason = f"nearly the same picture as {splits[b][j].files[-1]}"
            problems.append(Problem("", splits[a][i].files[-1], reason))
    return problems


def _clusters(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups that belong together, in an order that depends on their names alone."""
    groups = sorted(groups, key=lambda group: natural_key(group.name))
    parent = list(range(len(groups)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_of_text: dict[str, int] = {}
    for i, group in enumerate(groups):
        if group.text:
            parent[root(i)] = root(first_of_text.setdefault(group.text, i))
    described = _describe(groups)
    for i, j in _similar(described, described):
        parent[root(i)] = root(j)
    clusters: dict[int, list[Group]] = {}
    for i, group in enumerate(groups):
        clusters.setdefault(root(i), []).append(group)
    return list(clusters.values())


def _describe(groups: Sequence[Group]) -> np.ndarray:
    """[n, d], each of unit length: grey thumbnails without their mean, whatever the exposure."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(_descriptor, groups))
    return np.stack(rows) if rows else np.zeros((0, _THUMBNAIL[0] * _THUMBNAIL[1]), np.float32)


def _descriptor(group: Group) -> np.ndarray:
    grey = cv2.cvtColor(read_image(group.files[-1]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    # A picture of one colour has no detail by which to know it: it is like no other.
    return small / max(float(np.linalg.norm(small)), 1.0)


def _similar(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs (i, j) of rows that are nearly the same; compared with itself, i < j alone."""
    for start in range(0, len(a), _BLOCK):
        cosines = a[start : start + _BLOCK] @ b.T
        for i, j in np.argwhere(cosines > SIMILAR):
            if a is not b or start + i < j:
                yield int(start + i), int(j)
