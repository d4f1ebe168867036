"""The builder under TFDS's own testing class, which needs TensorFlow and dill: skipped without."""

import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TFDS's testing class needs TensorFlow")
pytest.importorskip("dill", reason="TFDS's testing class needs dill")

import tensorflow_datasets as tfds

from data_pipeline.mdlp_dataset_builder import Builder


def write_tree(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, groups in {"train": {"0": 3, "1": 1, "2": 4}, "val": {"3": 2}}.items():
        for name, count in groups.items():
            for k in range(count + 1):
                kind = "gt" if k == count else "inputs"
                path = root / split / kind / name / f"img_{k}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), rng.integers(0, 256, (20, 44, 3), np.uint8))
    (root / "labels.json").write_text(json.dumps({"0": "皖A12345"}))


class UnpackedTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 3, "val": 1}  # noqa: RUF012
    # The raw tree is read where it lies, with pathlib and os.
    MOCK_OUT_FORBIDDEN_OS_FUNCTIONS = False

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = cls._folder.name
        cls.write(Path(cls._folder.name))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._folder.cleanup()

    @classmethod
    def write(cls, manual: Path) -> None:
        write_tree(manual / "MDLP")

    def _make_builder(self, config: str | None = None) -> Builder:
        # The class reads through tf.data, which TFDS refuses for array_record.
        return Builder(data_dir=self.tmp_dir, config=config, file_format="tfrecord")


class ZippedTest(UnpackedTest):
    @classmethod
    def write(cls, manual: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_tree(Path(folder) / "MDLP")
            shutil.make_archive(str(manual / "MDLP"), "zip", folder)
