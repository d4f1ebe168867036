"""MDLP as a tensorflow-datasets builder, for those whose programs read through TFDS.

    from data_pipeline.mdlp.mdlp_dataset_builder import Builder
    builder = Builder(data_dir="data/tfds")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir="raw"))
    source = tfds.data_source("mdlp", split="val", data_dir="data/tfds", download=False)

or `python -m data_pipeline.mdlp --help`. Neither writing nor reading needs TensorFlow: images are
handed on as their files' bytes, and the file format is array_record.
`open_source("data/tfds/mdlp/1.0.0", "val")` reads it as the pipeline's own examples.
"""

import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.download.checksums import compute_url_info

from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.labels import text_or_none
from data_pipeline.mdlp.reader import find_groups, find_splits
from data_pipeline.tree import is_file_name, printable


class Encoded(tfds.decode.SkipDecoding):
    """Leaves images as the bytes that were stored, in sequences too, which TFDS's own cannot."""

    def decode_batch_example_np(self, example: Any) -> Any:
        return example


ENCODED = {"frames": Encoded(), "target": Encoded()}

# What its authors give: a file of Google Drive. How it is packed is not stated.
DRIVE_ID = "1UpECGcWcF92z-P6pJ9couzGTXb1TMHqk"
URL = f"https://drive.google.com/uc?export=download&id={DRIVE_ID}"
ARCHIVES = ("MDLP.zip", "MDLP.tar", "MDLP.tar.gz", "MDLP.tgz")
_FOLDER = epath.Path(__file__).parent


class Builder(tfds.core.GeneratorBasedBuilder):
    """DatasetBuilder of MDLP; all splits that the tree has, any number of frames per group.

    Args:
      allow_download: try the authors' file, if the manual folder has neither archive nor tree.
      kwargs: as `tfds.core.DatasetBuilder` takes it.
    """

    name = "mdlp"
    # Found out by TFDS otherwise, with a package that it does not declare.
    code_path = epath.Path(__file__)
    pkg_dir_path = _FOLDER
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}
    URL = URL
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""\
    MDLP's authors give it out without a licence, as a file of Google Drive and of Baidu:
    https://drive.google.com/file/d/{DRIVE_ID}/view
    https://pan.baidu.com/s/1Aphb_jIx_0tRR71BBbwVwA (access code 1ebm)
    Download it with a browser. Put the archive as `MDLP.zip` (or MDLP.tar, MDLP.tar.gz), or the
    unpacked tree as a folder `MDLP`, into the manual folder. In it:
    <split>/inputs/<group>/img_<k>.jpg, <split>/gt/<group>/<one>.jpg, and labels.json if you have
    texts. Or let TFDS try to download it: Builder(allow_download=True).
    """

    def __init__(self, *, allow_download: bool = False, **kwargs: Any) -> None:
        self._allow_download = allow_download
        super().__init__(**{"file_format": "array_record", **kwargs})

    def download_and_prepare(self, **kwargs: Any) -> None:
        """See `tfds.core.DatasetBuilder`; an archive is unpacked for as long as this takes."""
        with tempfile.TemporaryDirectory(prefix="mdlp-") as folder:
            self._unpacked = Path(folder)
            super().download_and_prepare(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=(_FOLDER / "README.md").read_text(),
            citation=(_FOLDER / "CITATIONS.bib").read_text(),
            homepage="https://github.com/haoyGONG/LP-Diff",
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
        """The raw tree: of the manual folder, else downloaded; unpacked if need be."""
        manual = self._manual_folder(dl_manager)
        if manual:
            for name in ARCHIVES:
                if (manual / name).is_file():
                    self._unpack(manual / name)
                    break
        found = self._tree_in(manual, self._unpacked)
        if found is None and self._allow_download:
            self._unpack(self._download(dl_manager))
            found = self._tree_in(None, self._unpacked)
        if found is None:
            raise DataError(f"{manual}: no MDLP in it.\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return found

    def _manual_folder(self, dl_manager: tfds.download.DownloadManager) -> Path | None:
        # TFDS raises, with our instructions, where the folder is missing or empty.
        try:
            return Path(dl_manager.manual_dir)
        except AssertionError:
            if not self._allow_download:
                raise
            return None

    def _tree_in(self, manual: Path | None, unpacked: Path) -> Path | None:
        # An archive may hold the tree, or a folder with the tree in it.
        places = [unpacked, *(path for path in unpacked.glob("[!.]*") if path.is_dir())]
        if manual:
            places = [manual / "MDLP", manual, *places]
        return next((root for root in places if find_splits(root)), None)

    def _download(self, dl_manager: tfds.download.DownloadManager) -> Path:
        try:
            return Path(dl_manager.download(self.URL))
        except Exception as error:  # of TFDS, requests, or the parser of Drive's question
            raise DataError(
                f"{self.URL}: cannot be downloaded: {error}\n{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            ) from error

    def _unpack(self, archive: Path) -> None:
        # TFDS would unpack it by itself, with TensorFlow.
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as file:
                    file.extractall(self._unpacked)
                return
            with tarfile.open(archive) as file:
                file.extractall(self._unpacked, filter="data")
        except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise DataError(
                f"{archive}: cannot be unpacked as zip or tar ({error}); unpack it yourself, and "
                "put the tree as a folder `MDLP` into the manual folder"
            ) from error


def register_checksum(archive: Path, table: Path = Path(_FOLDER) / "checksums.tsv") -> str:
    """Records size and sha256 of the authors' file in `checksums.tsv`, for whoever has it.

    From then on TFDS refuses a download of any other content.

    Returns:
      The line that was written.

    Raises:
      DataError: when the archive cannot be read, or the table not written.
    """
    try:
        info = compute_url_info(archive)
        table.write_text(line := f"{URL}\t{int(info.size)}\t{info.checksum}\t{archive.name}\n")
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    return line


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
