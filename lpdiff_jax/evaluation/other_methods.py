"""Another method's restored plates, from a folder: one image a group."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.files import local_path
from data_pipeline.images import IMAGE_SUFFIXES, read_image, resize
from lpdiff_jax.errors import UserError
from lpdiff_jax.evaluation.rows import Images, is_built_in


@dataclass(frozen=True)
class Folder:
    """A folder of results: `<group>.<suffix>`, `<group>/<one image>`, or below `restored/`."""

    name: str
    path: Path

    @classmethod
    def parse(cls, argument: str) -> "Folder":
        """Reads NAME=DIR; raises UserError for another form, a row's own name, or no such folder."""
        name, separator, path = argument.partition("=")
        if not (name and separator):
            raise UserError(f"{argument!r}: expected NAME=DIR, for example SRCNN=results/srcnn")
        if is_built_in(name):
            raise UserError(
                f"{argument!r}: {name!r} is a row of every table; give the other method its own name"
            )
        folder = local_path(path)
        if not folder.is_dir():
            raise UserError(f"{path}: no such folder (of results to compare with)")
        return cls(name, folder)

    def find(self, group: str) -> Path:
        """The path of a group's image; raises DataError when there is none, or more than one."""
        for place in (self.path / "restored", self.path):
            found = [place / f"{group}{suffix}" for suffix in IMAGE_SUFFIXES]
            found += sorted((place / group).glob("*")) if (place / group).is_dir() else []
            found = [path for path in found if path.is_file() and path.suffix in IMAGE_SUFFIXES]
            if len(found) > 1:
                raise DataError(f"{self.path}: {len(found)} images for group {group!r}, not one")
            if found:
                return found[0]
        raise DataError(f"{self.path}: no image for group {group!r}")

    def read(
        self, groups: Sequence[str], image_size: tuple[int, int], problems: list[list[str]]
    ) -> Images:
        """Reads the groups' images, resized.

        What is wrong with a group's image is added to its list in `problems`; it is then absent.
        """
        images = np.zeros((len(groups), *image_size, 3), np.uint8)
        present = np.zeros(len(groups), bool)
        for i, group in enumerate(groups):
            try:
                images[i] = resize(read_image(self.find(group)), image_size)
                present[i] = True
            except DataError as error:
                problems[i].append(f"{self.name}: {error}")
        return Images(images, present)
