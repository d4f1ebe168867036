import dataclasses
import json
import pickle

import numpy as np
import pytest

from data_pipeline import shards
from data_pipeline.errors import DataError
from data_pipeline.example import Example
from data_pipeline.images import decode_image
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.sources import list_splits, open_source


@pytest.fixture
def prepared(make_tree, tmp_path):
    """A raw tree of 7 + 2 groups and the same as shards of 3 groups."""
    root = make_tree(train={str(k): 1 + k % 3 for k in range(7)}, val={"a": 2, "b": 1})
    write_shards(
        tmp_path / "out", check_tree(root).splits, groups_per_shard=3, report=lambda _: None
    )
    return root, tmp_path / "out"


def test_shards_give_the_same_examples_as_the_tree(prepared):
    root, out = prepared
    assert list_splits(out) == ["train", "val"] == list_splits(root)
    for split in ("train", "val"):
        tree, packed = open_source(root, split), open_source(out, split)
        assert len(tree) == len(packed)
        assert [packed[i] for i in range(len(packed))] == [tree[i] for i in range(len(tree))]
    names = [shard.file for shard in shards.read_index(out)["train"]]
    assert names == [f"train-0000{i}-of-00003.array_record" for i in range(3)]


def test_decoded_shards_hold_the_pixels_of_the_files(prepared, tmp_path):
    root, out = prepared
    write_shards(tmp_path / "pixels", check_tree(root).splits, decode=True, report=lambda _: None)
    files, pixels = open_source(out, "train"), open_source(tmp_path / "pixels", "train")
    assert shards.verify(tmp_path / "pixels") == []
    for i in range(len(files)):
        assert (files[i].name, files[i].text) == (pixels[i].name, pixels[i].text)
        for a, b in zip(files[i].images, pixels[i].images, strict=True):
            assert b.startswith(b"P6")
            np.testing.assert_array_equal(decode_image(a, ""), decode_image(b, ""))


def test_a_source_can_be_sent_to_another_process(prepared):
    source = open_source(prepared[1], "train")
    first = source[0]
    assert pickle.loads(pickle.dumps(source))[0] == first


def test_packing_keeps_every_field():
    for example in (Example("a", (b"x", b""), b"t", "皖A"), Example("b", (b"x",), None, None)):
        assert shards.unpack(shards.pack(example)) == example


@pytest.mark.parametrize(
    "record",
    [
        Example("../escape", (b"x",), b"t", None),
        Example("/etc/x", (b"x",), b"t", None),
        Example("..", (b"x",), b"t", None),
        Example("x" * 300, (b"x",), b"t", None),
        Example("a", (), b"t", None),
        Example("a", ("x",), b"t", None),
        Example(7, (b"x",), b"t", None),
    ],
)
def test_a_hostile_record_is_refused(record):
    with pytest.raises(ValueError, match=r"is no name of a group|none of a group"):
        shards.unpack(shards.pack(record))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file", "../out/train-00000-of-00003.array_record"), ("file", "/dev/zero"),
        ("file", ".hidden"), ("groups", -1), ("groups", 10**12), ("groups", "3"), ("groups", 2.5),
        ("bytes", None), ("sha256", 7), ("more", 1),
    ],
)  # fmt: skip
def test_a_consistent_but_hostile_index_is_refused(prepared, field, value):
    path = prepared[1] / "index.json"
    index = json.loads(path.read_bytes())
    index.pop("sha256")
    index["splits"]["train"][0][field] = value
    path.write_text(json.dumps({**index, "sha256": shards._digest_of(index)}))
    with pytest.raises(DataError, match=r"index\.json: "):
        open_source(prepared[1], "train")


def test_an_index_that_counts_other_groups_is_refused_at_once(prepared):
    path = prepared[1] / "index.json"
    index = json.loads(path.read_bytes())
    index.pop("sha256")
    index["splits"]["val"][0]["groups"] = 1
    path.write_text(json.dumps({**index, "sha256": shards._digest_of(index)}))
    with pytest.raises(DataError, match=r"hold 2 groups, and index\.json says 1"):
        open_source(prepared[1], "val")


def test_sound_shards_verify(prepared):
    assert shards.verify(prepared[1]) == []


@pytest.mark.parametrize("place", [0, 100, 66_000, -1, -66_000])
def test_a_flipped_byte_is_found(prepared, place):
    path = prepared[1] / "train-00001-of-00003.array_record"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    problems = shards.verify(prepared[1])
    assert [p.path for p in problems] == [path] and "checksum" in problems[0].reason


def test_a_flipped_byte_in_the_index_is_found(prepared):
    path = prepared[1] / "index.json"
    sound = path.read_bytes()
    for place in range(len(sound)):
        data = bytearray(sound)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"index\.json: (damaged|format|not a readable)"):
            shards.verify(prepared[1])


def test_a_cut_and_a_missing_file_are_found(prepared):
    out = prepared[1]
    first, second = (out / f"train-0000{i}-of-00003.array_record" for i in range(2))
    first.write_bytes(first.read_bytes()[:-1000])
    second.unlink()
    (out / "stray.txt").write_text("x")
    problems = {p.path.name: p.reason for p in shards.verify(out)}
    assert "bytes, written with" in problems[first.name]
    assert problems[second.name] == "missing"
    assert problems["stray.txt"] == "not in the index" and len(problems) == 3
    with pytest.raises(DataError, match=r"train-00000.*bytes, written with"):
        open_source(out, "train")
    assert len(open_source(out, "val")) == 2


def test_a_damaged_record_names_the_remedy(prepared):
    path = prepared[1] / "val-00000-of-00001.array_record"
    data = bytearray(path.read_bytes())
    for place in range(2000, 3000):
        data[place] ^= 255
    path.write_bytes(data)
    source = open_source(prepared[1], "val")
    with pytest.raises(DataError, match=r"group 0 cannot be read .*lpdiff prepare --verify"):
        source[0]


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "not a readable index"),
        ("[]", "not a readable index"),
        ('{"splits": {}}', "not a readable index"),
        ('{"format": "other-9", "splits": {}, "sha256": ""}', "format 'other-9'"),
        ('{"format": "lpdiff-shards-1", "splits": {"x": []}, "sha256": ""}', "damaged"),
    ],
)
def test_an_index_that_is_none(tmp_path, content, reason):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(DataError, match=f"index.json: .*{reason}"):
        open_source(tmp_path, "train")


def test_an_index_of_other_counts_is_found(prepared):
    out = prepared[1]
    index = shards.read_index(out)
    wrong = dataclasses.replace(index["val"][0], groups=3)
    shards.write_index(out, {**index, "val": [wrong]})
    assert "2 groups, and 3 in the index" in shards.verify(out)[0].reason


def test_a_split_that_is_not_there(prepared):
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        open_source(prepared[1], "test")


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "x.json"
    shards.write_json(path, {"a": "皖"})
    with pytest.raises(TypeError):
        shards.write_json(path, {"a": object()})
    assert json.loads(path.read_bytes()) == {"a": "皖"}
