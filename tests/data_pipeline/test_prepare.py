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
        "/val/gt/b/img_2.jpg: not an image of a known kind (JPEG, PNG, BMP, WEBP, TIFF, GIF)",
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
    assert sorted(os.listdir(out)) == sorted({*old, "croissant.json", "index.json", *(
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
    with pytest.raises(DataError, match="cannot be written: Not a directory"):
        write_shards(tmp_path / "file" / "out", splits, report=quiet)


def test_dividing_anew_pools_all_splits(make_tree):
    root = make_tree(train={"a": 1, "b": 1}, val={"a": 1, "c": 1})
    divided = divide(check_tree(root), {"train": 3, "test": 1}, seed=1).splits
    names = {split: {group.name for group in groups} for split, groups in divided.items()}
    assert names["train"] | names["test"] == {"train_a", "b", "val_a", "c"}
    # The label "a" names both groups called so: one plate, so they are not divided.
    together = [split for split, members in names.items() if "train_a" in members]
    assert "val_a" in names[together[0]]


def test_litter_is_no_data_and_what_is_not_used_is_noted(make_tree):
    root = make_tree(val={"a": 1})
    for name in ("@eaDir", "__MACOSX", ".hidden"):
        (root / "val/inputs" / name).mkdir()
    (root / "val/inputs/a/.DS_Store").write_bytes(b"x")
    (root / "val/inputs/a/Thumbs.db").write_bytes(b"x")
    (root / "__MACOSX/inputs/a").mkdir(parents=True)
    for name in ("one.heic", "two.HEIC", "read.me"):
        (root / name).write_bytes(b"x")
    checked = check_tree(root)
    assert [group.name for group in checked.splits["val"]] == ["a"] and not checked.problems
    assert [note.split(", the first")[0] for note in checked.notes] == [
        "not used: 2 files .heic",
        "not used: 1 files .me",
    ]


def test_a_full_disk_is_told_in_a_sentence_and_the_next_run_goes_on(make_tree, tmp_path):
    root, out = make_tree(train={str(k): 20 for k in range(9)}), tmp_path / "out"
    limited = f"ulimit -f 16; exec {sys.executable} -m lpdiff_jax prepare {root} {out}"
    failed = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    assert "cannot be written" in failed.stderr and "make room" in failed.stderr
    assert not out.exists() and not list(tmp_path.glob("out.part/*.array_record*"))
    write_shards(out, check_tree(root).splits, report=quiet)
    assert verify(out) == []


def test_a_damaged_plan_begins_anew(make_tree, tmp_path):
    root, out = make_tree(train={"a": 1}), tmp_path / "out"
    work = tmp_path / "out.part" / ".prepare"
    work.mkdir(parents=True)
    for name in ("plan.json", "train-00000-of-00001.array_record.json"):
        (work / name).write_text("{" * 10**5)
    write_shards(out, check_tree(root).splits, report=quiet)
    assert verify(out) == []


def test_a_link_that_lies_in_wait_is_not_written_through(make_tree, tmp_path):
    root, out = make_tree(train={"a": 1}), tmp_path / "out"
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out.part").mkdir()
    for name in ("index.json", "index.json.part", "train-00000-of-00001.array_record.part"):
        (tmp_path / "out.part" / name).symlink_to(victim)
    write_shards(out, check_tree(root).splits, report=quiet)
    assert victim.read_text() == "precious" and not (out / "index.json").is_symlink()


def test_names_of_divided_groups_stay_unique(make_tree):
    checked = check_tree(make_tree(train={"a": 1, "val_a": 1}, val={"a": 1}))
    divided = divide(checked, {"train": 1}, seed=0)
    assert sorted(g.name for g in divided.splits["train"]) == ["train_a", "val_a", "val_a~2"]
