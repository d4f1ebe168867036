"""Where examples come from: a raw tree, shards or a TFDS directory, behind one function."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from data_pipeline.errors import DataError
from data_pipeline.example import Example, Source
from data_pipeline.layouts import detect_layout
from data_pipeline.shards import ShardSource, is_shards, read_index
from data_pipeline.tree import TreeSource

if TYPE_CHECKING:
    from data_pipeline.mdlp.mdlp_dataset_builder import TfdsDirectory

__all__ = ["Example", "Source", "list_splits", "open_source"]


def open_source(path: str | Path, split: str) -> Source:
    """Opens one split of a data set.

    Args:
      path: a directory that `lpdiff prepare` or TFDS wrote, or a tree in one of `layouts.LAYOUTS`.
      split: the name of the split: `train`, `val`, ...

    Raises:
      DataError: when `path` is none of them, or lacks the split.
    """
    root = Path(path)
    if is_shards(root):
        return ShardSource(root, split)
    if _is_tfds(root):
        return _read_tfds(root).open_split(split)
    return _open_tree(root, split)


def list_splits(path: str | Path) -> list[str]:
    """Names of the splits of a data set that `open_source` can open."""
    root = Path(path)
    if is_shards(root):
        return sorted(read_index(root))
    if _is_tfds(root):
        return _read_tfds(root).splits
    return detect_layout(root).find_splits(root)


def _is_tfds(root: Path) -> bool:
    return (root / "dataset_info.json").is_file()


def _read_tfds(root: Path) -> "TfdsDirectory":
    try:
        from data_pipeline.mdlp.mdlp_dataset_builder import TfdsDirectory
    except ImportError as error:
        raise DataError(
            f"{root}: was written by TFDS, which is not installed: pip install 'lpdiff-jax[data]'"
        ) from error
    return TfdsDirectory(root)


def _open_tree(root: Path, split: str) -> TreeSource:
    """Opens a raw tree; groups whose folders are not in order are left out, with a warning."""
    groups, problems = detect_layout(root).find_groups(root, split)
    if not groups:
        first = f", for example {problems[0]}" if problems else ""
        raise DataError(f"{root / split}: no group can be used{first}")
    if problems:
        logging.getLogger(__name__).warning(
            f"{root / split}: {len(groups)} groups used, {len(problems)} problems, "
            f"the first: {problems[0]} (`lpdiff prepare` lists them all)"
        )
    return TreeSource(groups)
