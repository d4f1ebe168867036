"""The builder under TFDS's own testing class, which needs TensorFlow and dill: skipped without."""

import shutil
import tempfile
from pathlib import Path

import cv2
import pytest

pytest.importorskip("tensorflow", reason="TFDS's testing class needs TensorFlow")
pytest.importorskip("dill", reason="TFDS's testing class needs dill")

import tensorflow_datasets as tfds

from data_pipeline.mdlp.mdlp_dataset_builder import Builder

DUMMY_DATA = Builder.pkg_dir_path / "dummy_data"


def write_dummy_data(folder: Path) -> Path:
    """The dummy data with frames of one size in each group: tf.data stacks them, and must."""
    root = Path(shutil.copytree(DUMMY_DATA, folder / "dummy"))
    for group in root.glob("MDLP/*/inputs/*"):
        first, *others = sorted(group.iterdir())
        size = cv2.imread(str(first)).shape[1::-1]
        for path in others:
            assert cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), size))
    return root


class UnpackedTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 4, "val": 2}  # noqa: RUF012
    # The raw tree is read where it lies, with pathlib and os.
    MOCK_OUT_FORBIDDEN_OS_FUNCTIONS = False

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        # Not by EXAMPLE_DIR: TFDS has looked before this, and remembers where.
        cls.dummy_data = tfds.core.Path(cls._example(Path(cls._folder.name)))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._folder.cleanup()

    @classmethod
    def _example(cls, folder: Path) -> Path:
        return write_dummy_data(folder)

    def _make_builder(self, config: str | None = None) -> Builder:
        # The class reads through tf.data, which TFDS refuses for array_record.
        return Builder(data_dir=self.tmp_dir, config=config, file_format="tfrecord")


class ZippedTest(UnpackedTest):
    @classmethod
    def _example(cls, folder: Path) -> Path:
        shutil.make_archive(str(folder / "zipped" / "MDLP"), "zip", write_dummy_data(folder))
        return folder / "zipped"
