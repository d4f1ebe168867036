"""The trees of image files that can be read, and which one a folder is."""

from pathlib import Path
from typing import Protocol

from data_pipeline import mdlp, tracks
from data_pipeline.errors import DataError
from data_pipeline.tree import Group, Problem


class Layout(Protocol):
    """What a module that reads a tree offers; `find_groups` opens no image.

    `side_files` are those that are read beside the images, or that this program has written.
    """

    def find_splits(self, root: Path) -> list[str]: ...

    def find_groups(self, root: Path, split: str) -> tuple[list[Group], list[Problem]]: ...

    def side_files(self, root: Path) -> list[Path]: ...


LAYOUTS: dict[str, Layout] = {"mdlp": mdlp, "tracks": tracks}


def detect_layout(root: Path) -> Layout:
    """The layout of the tree at `root`; raises DataError when it has none of them."""
    for layout in LAYOUTS.values():
        if layout.find_splits(root):
            return layout
    what = "does not exist" if not root.exists() else "is no data set that can be read"
    raise DataError(
        f"{root}: {what}; expected <split>/inputs/<group>/ and <split>/gt/<group>/ (MDLP), folders "
        "of lr-*.png and hr-*.png (tracks), or the output of `lpdiff prepare`"
    )
