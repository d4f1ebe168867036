import os
import signal
import subprocess
import sys

import pytest

from data_pipeline.errors import DataError
from data_pipeline.prepare import check_tree, divide, write_shards
from data_pipeline.shards import is_shards, verify
from data_pipeline.sources import open_source


def quiet(_):
    """Stands for the report of progress."""


def test_bad_images_and_texts_are_listed_with_their_path(make_tree):
    root = make_tree(val=dict.fromkeys("abcdef", 2))
    (root / "val/inputs/a/img_1.jpg").write_bytes(b"")
    (root / "val/gt/b/img_2.jpg").write_bytes(b"no image")
    (root / "labels.json").write_text('{"c": "%s", "d": "x", "nobody": "y"}' % ("x" * 40))
    checked = check_tree(root)
    assert [g.name for g in checked.splits["val"]] == ["c", "d", "e", "f"]
    assert [g.text for g in checked.splits["val"][:2]] == [None, "X"]
    assert checked.left_out == 2
    listed = [str(p).removeprefix(str(root)) for p in checked.problems]
    assert listed == [
        f"/labels.json: 'c': plate text '{'x' * 40}' is longer than 32 bytes of UTF-8",
        "/labels.json: 'nobody' is labelled, but there is no such group",
        "/val/inputs/a/img_1.jpg: the file is empty",
        "/val/gt/b/img_2.jpg: not an image of a known kind (JPEG, PNG, BMP, WEBP, TIFF)",
    ]


def test_a_label_for_groups_of_two_splits_is_listed_once(make_tree):
    root = make_tree(train={"a": 1}, val={"a": 1})
    problems = check_tree(root).problems
    assert [p.reason for p in problems] == [
        "'a' is a group of train and val: label it as '<split>/a'"
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from data_pipeline.prepare import check_tree, write_shards

def report(line):
    if line.startswith("train-00001"):
        os.kill(os.getpid(), signal.SIGKILL)

root, out = map(Path, sys.argv[1:])
write_shards(out, check_tree(root).splits, groups_per_shard=2, report=report)
"""


def test_a_killed_run_leaves_nothing_finished_and_is_taken_up(make_tree, tmp_path):
    root, out = make_tree(train={str(k): 1 for k in range(7)}), tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root), str(out)])
    assert killed.returncode == -signal.SIGKILL
    part = tmp_path / "out.part"
    assert not out.exists() and not is_shards(part)
    with pytest.raises(DataError):
        open_source(out, "train")
    old = {path.name: path.stat().st_ino for path in part.glob("*.array_record")}
    assert len(old) == 2
    write_shards(out, check_tree(root).splits, groups_per_shard=2, report=quiet)
    assert not part.exists() and verify(out) == [] and len(open_source(out, "train")) == 7
    assert {name: (out / name).stat().st_ino for name in old} == old
    assert sorted(os.listdir(out)) == sorted({*old, "index.json", *(
        f"train-0000{i}-of-00004.array_record" for i in (2, 3)
    )})  # fmt: skip


def test_an_interrupted_run_of_other_data_is_not_taken_up(make_tree, tmp_path):
    root, out = make_tree(train={str(k): 1 for k in range(4)}), tmp_path / "out"

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(out, check_tree(root).splits, groups_per_shard=2, report=stop)
    changed = root / "train/inputs/0/img_0.jpg"
    changed.write_bytes((root / "train/inputs/1/img_0.jpg").read_bytes())
    write_shards(out, check_tree(root).splits, groups_per_shard=2, report=quiet)
    assert open_source(out, "train")[0].frames[0] == changed.read_bytes()
    assert verify(out) == []


def test_two_runs_at_once_refuse_each_other(make_tree, tmp_path):
    splits = check_tree(make_tree(train={str(k): 1 for k in range(4)})).splits
    refused = []

    def report(_):
        with pytest.raises(DataError, match="another process is preparing it") as caught:
            write_shards(tmp_path / "out", splits, report=quiet)
        refused.append(caught.value)

    write_shards(tmp_path / "out", splits, groups_per_shard=2, report=report)
    assert len(refused) == 2 and verify(tmp_path / "out") == []


def test_what_exists_is_not_overwritten(make_tree, tmp_path):
    splits = check_tree(make_tree(train={"a": 1})).splits
    for name in ("file", "folder"):
        out = tmp_path / name
        if name == "file":
            out.write_text("mine")
        else:
            out.mkdir()
            (out / "mine").write_text("mine")
        with pytest.raises(DataError, match="exists already"):
            write_shards(out, splits, report=quiet)
    (tmp_path / "empty").mkdir()
    write_shards(tmp_path / "empty", splits, report=quiet)
    assert is_shards(tmp_path / "empty")


def test_nothing_to_write(make_tree, tmp_path):
    root = make_tree(train={"a": 1})
    (root / "train/gt/a/img_1.jpg").unlink()
    with pytest.raises(DataError, match="no good group"):
        write_shards(tmp_path / "out", check_tree(root).splits, report=quiet)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


def test_a_folder_that_cannot_be_made(make_tree, tmp_path):
    (tmp_path / "file").write_text("x")
    splits = check_tree(make_tree(train={"a": 1})).splits
    with pytest.raises(DataError, match="cannot be made: Not a directory"):
        write_shards(tmp_path / "file" / "out", splits, report=quiet)


def test_dividing_anew_pools_all_splits(make_tree):
    root = make_tree(train={"a": 1, "b": 1}, val={"a": 1, "c": 1})
    divided = divide(check_tree(root), {"train": 3, "test": 1}, seed=1).splits
    names = {split: {group.name for group in groups} for split, groups in divided.items()}
    assert names["train"] | names["test"] == {"train_a", "b", "val_a", "c"}
    # The label "a" names both groups called so: one plate, so they are not divided.
    together = [split for split, members in names.items() if "train_a" in members]
    assert "val_a" in names[together[0]]
