import json

import cv2
import numpy as np
import pytest

from lpdiff_jax.cli import main


@pytest.fixture
def tree(tmp_path):
    """An MDLP tree of 8 groups in train and 2 in val, one of them broken."""
    rng = np.random.default_rng(0)
    labels = {}
    for k in range(10):
        split = "train" if k < 8 else "val"
        for kind, name in (("inputs", "img_0.jpg"), ("inputs", "img_1.jpg"), ("gt", "img_2.jpg")):
            path = tmp_path / "raw" / split / kind / f"g{k}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (4, 8, 3), np.uint8), (48, 16)))
        labels[f"g{k}"] = f"皖A0000{k}"
    (tmp_path / "raw/labels.json").write_text(json.dumps(labels))
    (tmp_path / "raw/val/gt/g9/img_2.jpg").write_bytes(b"broken")
    return tmp_path / "raw"


def run(*arguments):
    return main(["prepare", *map(str, arguments)])


def test_bad_groups_are_listed_left_out_and_counted(tree, tmp_path, capsys):
    assert run(tree, tmp_path / "out") == 0
    output = capsys.readouterr()
    assert f"{tree}/val/gt/g9/img_2.jpg: not an image of a known kind" in output.err
    assert output.out.splitlines() == [
        "train: 8 groups in 1 shards",
        "val: 1 groups in 1 shards",
        "left out: 1 groups (1 problems)",
    ]
    assert run("--verify", tmp_path / "out") == 0
    assert capsys.readouterr().out.endswith("out: sound (train: 8 groups, val: 1 groups)\n")


def test_strict_writes_nothing(tree, tmp_path, capsys):
    assert run(tree, tmp_path / "out", "--strict") == 2
    assert "1 problems, listed above; nothing was written" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_json(tree, tmp_path, capsys):
    assert run(tree, tmp_path / "out", "--json", "--groups-per-shard", 3, "--decode") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["groups"] == {"train": 8, "val": 1} and result["left_out"] == 1
    assert len(result["problems"]) == 1 and len(list((tmp_path / "out").glob("train-*"))) == 3
    assert run("--verify", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"train": 8, "val": 1}


def test_split_divides_all_groups_anew(tree, tmp_path, capsys):
    assert run(tree, tmp_path / "out", "--split", "5,2,2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["groups"] == {"train": 5, "val": 2, "test": 2}


def test_a_leak_is_a_problem(tree, tmp_path, capsys):
    copy = tree / "val/gt/g8/img_2.jpg"
    copy.write_bytes((tree / "train/gt/g0/img_2.jpg").read_bytes())
    assert run(tree, tmp_path / "out", "--strict") == 2
    assert f"gt/g0/img_2.jpg: nearly the same picture as {copy}" in capsys.readouterr().err


def test_verify_finds_a_flipped_byte(tree, tmp_path, capsys):
    assert run(tree, tmp_path / "out") == 0
    shard = tmp_path / "out/train-00000-of-00001.array_record"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 4
    shard.write_bytes(data)
    assert run("--verify", tmp_path / "out") == 2
    assert f"{shard}: damaged: its checksum" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["raw"], "where should the shards go?"),
        (["raw", "out", "--split", "1,1"], "--split '1,1': give three shares"),
        (["raw", "out", "--split=-1,1,1"], "give three shares"),
        (["nowhere", "out"], "nowhere: does not exist"),
        (["raw", "out", "--layout", "tracks"], "raw: no group in the layout"),
        (["raw", "raw"], "raw: exists already"),
        (["--verify", "raw"], "index.json: not a readable index"),
    ],
)
def test_mistakes_get_one_clear_message(tree, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert message in output.err.splitlines()[-1] and "Traceback" not in output.err
