import pickle
import shutil
import sys

import cv2
import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from data_pipeline.errors import DataError  # noqa: E402
from data_pipeline.mdlp_dataset_builder import ENCODED, Builder, TfdsSource  # noqa: E402
from data_pipeline.pipeline import eval_batches  # noqa: E402
from data_pipeline.prepare import check_tree, write_shards  # noqa: E402
from data_pipeline.sources import list_splits, open_source  # noqa: E402


def build(data_dir, manual_dir):
    builder = Builder(data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=config)
    return builder


@pytest.fixture
def tree(make_tree):
    """`MDLP` in a manual folder; one group's images are of other kinds, ending in zero bytes."""
    root = make_tree("manual/MDLP", train={str(k): 1 + k % 4 for k in range(11)}, val={"a": 2})
    frame = root / "train/inputs/3/img_0.jpg"
    black = np.zeros((4, 8, 3), np.uint8)
    frame.with_suffix(".bmp").write_bytes(cv2.imencode(".bmp", black)[1].tobytes())
    frame.unlink()
    return root


def test_tfds_and_our_shards_give_the_same_bytes(tree, tmp_path):
    builder = build(tmp_path / "tfds", tree.parent)
    assert builder.info.full_name == "mdlp/1.0.0"
    assert {s: i.num_examples for s, i in builder.info.splits.items()} == {"train": 11, "val": 1}
    write_shards(tmp_path / "shards", check_tree(tree).splits, report=lambda _: None)
    for split in ("train", "val"):
        ours, theirs = open_source(tmp_path / "shards", split), TfdsSource(builder, split)
        assert len(ours) == len(theirs)
        assert [theirs[i] for i in range(len(theirs))] == [ours[i] for i in range(len(ours))]
        by_name = tfds.data_source(
            "mdlp", split=split, data_dir=tmp_path / "tfds", download=False, decoders=ENCODED
        )
        assert [record["target"] for record in by_name] == [
            ours[i].target for i in range(len(ours))
        ]
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("inside", [".", "MDLP"])
def test_an_archive_is_unpacked(tree, tmp_path, inside):
    packed = tmp_path / "packed"
    base = tree if inside == "." else tree.parent
    shutil.make_archive(str(packed / "MDLP"), "zip", base, inside)
    source = TfdsSource(build(tmp_path / "tfds", packed), "train")
    assert source[3] == open_source(tree, "train")[3]


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "MDLP.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"MDLP\.zip: cannot be unpacked"):
        build(tmp_path / "tfds", tmp_path)


def test_the_pipeline_reads_what_tfds_wrote(tree, tmp_path):
    folder = build(tmp_path / "tfds", tree.parent).data_dir
    assert list_splits(folder) == ["train", "val"]
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        open_source(folder, "test")
    source = open_source(folder, "val")
    assert pickle.loads(pickle.dumps(source))[0] == source[0]
    batch = next(iter(eval_batches(source, image_size=(8, 16), max_frames=3, batch_size=1)))
    assert batch["frame_mask"].tolist() == [[True, True, False]]


@pytest.mark.parametrize("empty", [True, False])
def test_the_message_says_where_to_put_the_archive(tmp_path, empty):
    manual = tmp_path / "manual"
    manual.mkdir()
    if not empty:
        (manual / "other.txt").write_text("x")
    # TFDS itself refuses an empty folder, with our instructions in its message.
    error = AssertionError if empty else DataError
    with pytest.raises(error, match=r"(?s)manual.*`MDLP\.zip`.* into the manual folder"):
        build(tmp_path / "tfds", manual)


def test_a_broken_tree_is_not_built(tree, tmp_path):
    (tree / "train/gt/0").rename(tree / "train/gt/nobody")
    with pytest.raises(DataError, match=r"train/gt/0: missing \(2 problems in all\)"):
        build(tmp_path / "tfds", tree.parent)
    assert not (tmp_path / "tfds/mdlp/1.0.0").exists()
