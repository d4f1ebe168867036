"""Where examples come from: a raw tree or a directory of shards, behind one function."""

from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.example import Example, Source
from data_pipeline.mdlp import find_splits, is_mdlp, open_split
from data_pipeline.shards import ShardSource, is_shards, read_index

__all__ = ["Example", "Source", "list_splits", "open_source"]


def open_source(path: str | Path, split: str) -> Source:
    """Opens one split of a data set.

    Args:
      path: a raw tree in MDLP's layout, or a directory that `lpdiff prepare` wrote.
      split: `train`, `val`, ...

    Raises:
      DataError: when `path` is neither, or lacks the split.
    """
    root = Path(path)
    if is_shards(root):
        return ShardSource(root, split)
    if is_mdlp(root):
        return open_split(root, split)
    what = "does not exist" if not root.exists() else "is neither shards nor an MDLP tree"
    raise DataError(
        f"{root}: {what}; expected <split>/inputs/<group>/ and <split>/gt/<group>/, "
        "or the output of `lpdiff prepare`"
    )


def list_splits(path: str | Path) -> list[str]:
    """Names of the splits of a data set that `open_source` can open."""
    root = Path(path)
    return sorted(read_index(root)["splits"]) if is_shards(root) else find_splits(root)
