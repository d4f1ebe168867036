"""Plate texts in every spelling are one text, for the tree, the shards and the tracks alike."""

import json

import pytest

from data_pipeline.errors import DataError
from data_pipeline.labels import CHARSET, NotAPlate, plate_text, text_or_none, unknown_to
from data_pipeline.mdlp import find_groups
from data_pipeline.prepare import check_tree, write_shards
from data_pipeline.sources import open_source

SPELLINGS = [
    "苏A5L231", "苏A·5L231", "苏A•5L231", " 苏A 5L231", "苏a5l231", "苏Ａ５Ｌ２３１", "苏A5L231\n",
    "苏A-5L231", "苏A・5L231", "苏\u200bA5L231", "\ufeff苏A5L231", "苏A_5L231", "苏A\u30005L231",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_one_text(spelling):
    assert plate_text(spelling) == "苏A5L231"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (None, "null is not a text"),
        (7, "7 is not a text"),
        (["A1"], "a list is not a text"),
        ("", "empty"),
        (" · ", "empty"),
        ("苏A?5L23", r"'苏A\?5L23' cannot be a plate: '\?' \(QUESTION MARK\)"),
        ("<b>", "LESS-THAN SIGN"),
        ("\ud800", "cannot be a plate"),
        ("unknown", "there is no text"),
        ("A" * 33, "longer than 32 bytes"),
        ("苏" * 11, "longer than 32 bytes"),
    ],
)
def test_what_cannot_be_a_plate_says_why(label, reason):
    with pytest.raises(NotAPlate, match=reason):
        plate_text(label)
    assert text_or_none(label) is None


def test_letters_that_look_alike_are_told_apart():
    assert unknown_to(CHARSET, "苏A5L231") is None
    assert unknown_to(CHARSET, "苏А5L231") == "А"  # the Cyrillic one


def write_labels(root, labels):
    (root / "labels.json").write_text(json.dumps(labels))


def test_tree_and_shards_have_the_one_spelling(make_tree, tmp_path):
    root = make_tree(val={str(k): 1 for k in range(len(SPELLINGS))})
    write_labels(root, {str(k): text for k, text in enumerate(SPELLINGS)})
    checked = check_tree(root)
    assert not checked.problems and not checked.notes
    write_shards(tmp_path / "out", checked.splits, report=lambda _: None)
    for place in (root, tmp_path / "out"):
        source = open_source(place, "val")
        assert {source[i].text for i in range(len(source))} == {"苏A5L231"}


def test_a_label_that_is_no_text_is_named_with_its_entry_and_costs_no_group(make_tree):
    root = make_tree(val={"a": 1, "b": 1, "c": 1})
    write_labels(root, {"a": None, "val/b": "苏A??231", "c": "苏A 12345"})
    groups, problems = find_groups(root, "val")
    assert [group.text for group in groups] == [None, None, "苏A12345"]
    reasons = [problem.reason for problem in problems]
    assert reasons[0] == "'a': null is not a text"
    assert reasons[1].startswith("'val/b': '苏A??231' cannot be a plate")
    assert not any(problem.group for problem in problems)


def test_labels_in_gbk_are_named_with_the_line(make_tree):
    root = make_tree(val={"a": 1})
    text = json.dumps({"b": "A1", "a": "苏A12345"}, ensure_ascii=False, indent=1)
    (root / "labels.json").write_bytes(text.encode("gbk"))
    with pytest.raises(DataError, match=r"labels\.json: not UTF-8: line 3, in GBK .*苏A12345"):
        open_source(root, "val")
    for encoding in ("utf-8-sig", "utf-16"):  # these tell what they are
        (root / "labels.json").write_bytes(text.encode(encoding))
        assert open_source(root, "val")[0].text == "苏A12345"


def test_labels_in_another_file_are_not_passed_over_in_silence(make_tree):
    root = make_tree(val={"a": 1})
    (root / "labels.json").rename(root / "labels.csv")
    (problem,) = check_tree(root).problems
    assert problem.path.name == "labels.csv" and "labels.json alone" in problem.reason


def test_characters_that_the_model_does_not_know_are_noted(make_tree):
    root = make_tree(val={"a": 1, "b": 1})
    write_labels(root, {"a": "苏А12345", "b": "苏A12345"})
    (note,) = check_tree(root).notes
    assert "CYRILLIC CAPITAL LETTER A" in note and "val/a" in note
