import json
import os
from pathlib import Path

import pytest

from data_pipeline import mdlp
from data_pipeline.errors import DataError
from data_pipeline.sources import list_splits, open_source


def test_groups_and_frames_come_in_natural_order(make_tree):
    root = make_tree(train={"10": 12, "9": 1, "2": 3})
    groups, problems = mdlp.find_groups(root, "train")
    assert problems == []
    assert [g.name for g in groups] == ["2", "9", "10"]
    assert [p.name for p in groups[2].frames] == [f"img_{k}.jpg" for k in range(12)]
    assert groups[2].target == root / "train/gt/10/img_12.jpg"
    assert [g.text for g in groups] == ["皖A00002", "皖A00001", "皖A00000"]


def test_a_label_may_name_the_split(make_tree):
    root = make_tree(train={"a": 1}, val={"a": 1})
    (root / "labels.json").write_text(json.dumps({"train/a": "T", "val/a": "V"}))
    assert [open_source(root, s)[0].text for s in ("train", "val")] == ["T", "V"]


def test_each_fault_is_listed_and_costs_its_own_group_alone(make_tree):
    root = make_tree(val=dict.fromkeys("abcdefgh", 2))
    inputs, gt = root / "val/inputs", root / "val/gt"
    (inputs / "a/notes.txt").write_text("x")
    (gt / "b/second.jpg").write_bytes((gt / "b/img_2.jpg").read_bytes())
    (gt / "c/img_2.jpg").unlink()
    for path in list((inputs / "d").iterdir()):
        path.unlink()
    (gt / "e").rename(gt / "nobody")
    os.mkfifo(inputs / "f/img_9.jpg")
    (inputs / "stray.jpg").write_bytes(b"x")
    (inputs / "g/.DS_Store").write_bytes(b"litter is no fault")
    groups, problems = mdlp.find_groups(root, "val")
    assert [g.name for g in groups] == ["g", "h"]
    listed = {p.path.relative_to(root / "val").as_posix(): p.reason for p in problems}
    assert listed.keys() == {
        "inputs/a/notes.txt", "gt/b", "gt/c", "inputs/d", "gt/e", "inputs/f/img_9.jpg",
        "gt/nobody", "inputs/stray.jpg", "gt/stray.jpg",
    }  # fmt: skip
    assert "2 ground-truth images" in listed["gt/b"] and "0 ground" in listed["gt/c"]
    assert "frames are missing" in listed["gt/nobody"]


def test_a_split_without_ground_truth_has_none(make_tree):
    root = make_tree(test={"a": 2})
    (root / "test/gt/a/img_2.jpg").unlink()
    (root / "test/gt/a").rmdir()
    (root / "test/gt").rmdir()
    example = open_source(root, "test")[0]
    assert example.target is None and len(example.frames) == 2


def test_examples_are_the_files_bytes(make_tree):
    root = make_tree(val={"a": 3})
    example = open_source(root, "val")[0]
    files = [root / f"val/inputs/a/img_{k}.jpg" for k in range(3)]
    assert list(example.frames) == [f.read_bytes() for f in files]
    assert example.target == (root / "val/gt/a/img_3.jpg").read_bytes()


@pytest.mark.parametrize("content", ["[]", "{", "[" * 10**5, '{"a": "A1", "a": "A2"}'])
def test_labels_that_are_no_map_of_texts(make_tree, content):
    root = make_tree(val={"a": 1})
    (root / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels\.json: (not valid JSON|must be an object)"):
        open_source(root, "val")


def test_what_is_no_data_set_is_told_apart(make_tree, tmp_path):
    root = make_tree(val={"a": 1}, train={"b": 1})
    (root / ".test.partial" / "inputs").mkdir(parents=True)  # hidden: being made
    assert list_splits(root) == ["train", "val"]
    with pytest.raises(DataError, match=r"no such folder; splits found under .*: train, val"):
        open_source(root, "tset")
    with pytest.raises(DataError, match="nowhere: does not exist"):
        open_source(tmp_path / "nowhere", "val")
    with pytest.raises(DataError, match="is no data set that can be read"):
        open_source(root / "val" / "inputs", "val")


def test_faults_do_not_stop_reading(make_tree, caplog):
    root = make_tree(val={"a": 1, "b": 1})
    (root / "val/gt/a/img_1.jpg").unlink()
    source = open_source(root, "val")
    assert [source[i].name for i in range(len(source))] == ["b"]
    assert "1 groups used, 1 problems" in caplog.text
    (root / "val/gt/b/img_1.jpg").unlink()
    with pytest.raises(DataError, match="no group can be used, for example"):
        open_source(root, "val")


@pytest.mark.skipif("LPDIFF_SHARED" not in os.environ, reason="needs the sample of real groups")
def test_the_real_sample():
    root = Path(os.environ["LPDIFF_SHARED"]) / "data" / "mdlp_sample"
    source = open_source(root, "val")
    assert len(source) == 18
    assert all(len(source[i].frames) == 3 and source[i].text for i in range(18))
    assert source[17].name == "18" and source[17].text == "辽CAB523"
