"""MDLP as a tensorflow-datasets builder, for those whose programs read through TFDS.

    from data_pipeline.mdlp_dataset_builder import Builder
    builder = Builder(data_dir="data/tfds")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir="raw"))
    source = tfds.data_source("mdlp", split="val", data_dir="data/tfds", download=False)

Neither writing nor reading needs TensorFlow: images are handed on as their files' bytes, and the
file format is array_record. `open_source("data/tfds/mdlp/1.0.0", "val")` reads it as the pipeline's
own examples.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from etils import epath

from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.labels import text_or_none
from data_pipeline.mdlp import find_groups, find_splits
from data_pipeline.tree import is_file_name, printable


class Encoded(tfds.decode.SkipDecoding):
    """Leaves images as the bytes that were stored, in sequences too, which TFDS's own cannot."""

    def decode_batch_example_np(self, example: Any) -> Any:
        return example


ENCODED = {"frames": Encoded(), "target": Encoded()}

_CITATION = """\
@inproceedings{gong2025lpdiff,
  title = {{LP-Diff}: Towards Improved Restoration of Real-World Degraded License Plate},
  author = {Gong and others},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2025},
}
"""
_DESCRIPTION = """\
Multi-frame degraded licence plates: a few frames of one vehicle from far away, and one from near as
the ground truth; the pair is not aligned. Texts where the tree has a labels.json, else empty.
"""


class Builder(tfds.core.GeneratorBasedBuilder):
    """DatasetBuilder of MDLP; all splits that the tree has, any number of frames a group."""

    name = "mdlp"
    # Found out by TFDS otherwise, with a package that it does not declare.
    code_path = epath.Path(__file__)
    pkg_dir_path = epath.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    MDLP is handed out by the authors of LP-Diff; it cannot be downloaded by a program. Put the
    archive as `MDLP.zip`, or the unpacked tree as a folder `MDLP`, into the manual folder. In it:
    <split>/inputs/<group>/img_<k>.jpg, <split>/gt/<group>/<one>.jpg, and labels.json if you have
    texts.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"file_format": "array_record", **kwargs})

    def download_and_prepare(self, **kwargs: Any) -> None:
        """See `tfds.core.DatasetBuilder`; an archive is unpacked for as long as this takes."""
        with tempfile.TemporaryDirectory(prefix="mdlp-") as folder:
            self._unpacked = Path(folder)
            super().download_and_prepare(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            disable_shuffling=True,  # in the tree's order, as our own shards are
            features=tfds.features.FeaturesDict(
                {
                    "name": tfds.features.Text(),
                    "frames": tfds.features.Sequence(tfds.features.Image()),
                    "target": tfds.features.Image(),
                    "text": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        root = self._find_tree(dl_manager)
        return {split: self._generate_examples(root, split) for split in find_splits(root)}

    def _generate_examples(self, root: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        groups, problems = find_groups(root, split)
        if problems:
            raise DataError(f"{problems[0]} ({len(problems)} problems in all): mend or remove them")
        for i, group in enumerate(groups):
            example = group.read()
            yield (
                i,
                {
                    "name": example.name,
                    "frames": list(example.frames),
                    "target": example.target,
                    "text": example.text or "",
                },
            )

    def _find_tree(self, dl_manager: tfds.download.DownloadManager) -> Path:
        """The raw tree in the manual folder, unpacked if need be."""
        manual = Path(dl_manager.manual_dir)
        if (manual / "MDLP.zip").is_file():
            self._unpack(manual / "MDLP.zip")
        # An archive may hold the tree, or a folder with the tree in it.
        for root in (manual / "MDLP", manual, self._unpacked, self._unpacked / "MDLP"):
            if find_splits(root):
                return root
        raise DataError(f"{manual}: no MDLP in it.\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}")

    def _unpack(self, archive: Path) -> None:
        # TFDS would unpack it by itself, with TensorFlow.
        try:
            with zipfile.ZipFile(archive) as file:
                file.extractall(self._unpacked)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{archive}: cannot be unpacked: {error}") from error


class TfdsDirectory:
    """What `Builder` has written, in `<data_dir>/mdlp/<version>`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._builder = tfds.builder_from_directory(root)
        self.splits = sorted(self._builder.info.splits)

    def open_split(self, split: str) -> "TfdsSource":
        """The examples of a split; raises DataError when there is no such split."""
        if split not in self.splits:
            raise DataError(f"{self.root}: no split {split!r}; it has {', '.join(self.splits)}")
        return TfdsSource(self._builder, split)


class TfdsSource:
    """A split that was built with TFDS, as the pipeline reads it; the files' bytes, untouched."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str) -> None:
        self._records = builder.as_data_source(split, decoders=ENCODED)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        name, text = record["name"].decode(), record["text"].decode()
        if not is_file_name(name):  # results are written under it
            raise DataError(f"{printable(name[:100])!r} is no name of a group")
        return Example(name, tuple(record["frames"]), record["target"], text_or_none(text))
