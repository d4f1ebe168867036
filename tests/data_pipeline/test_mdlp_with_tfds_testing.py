"""The builder under TFDS's own testing class, which needs TensorFlow and dill: skipped without."""

import shutil
import tempfile

import pytest

pytest.importorskip("tensorflow", reason="TFDS's testing class needs TensorFlow")
pytest.importorskip("dill", reason="TFDS's testing class needs dill")

import tensorflow_datasets as tfds

from data_pipeline.mdlp.mdlp_dataset_builder import Builder

DUMMY_DATA = Builder.pkg_dir_path / "dummy_data"


class UnpackedTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    EXAMPLE_DIR = DUMMY_DATA
    SPLITS = {"train": 4, "val": 2}  # noqa: RUF012
    # The raw tree is read where it lies, with pathlib and os.
    MOCK_OUT_FORBIDDEN_OS_FUNCTIONS = False

    def _make_builder(self, config: str | None = None) -> Builder:
        # The class reads through tf.data, which TFDS refuses for array_record.
        return Builder(data_dir=self.tmp_dir, config=config, file_format="tfrecord")


class ZippedTest(UnpackedTest):
    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        shutil.make_archive(f"{cls._folder.name}/MDLP", "zip", DUMMY_DATA)
        cls.EXAMPLE_DIR = cls._folder.name
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._folder.cleanup()
