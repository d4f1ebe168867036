from dataclasses import replace

import cv2
import numpy as np
import pytest

from data_pipeline import splits
from data_pipeline.mdlp import find_groups

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


@pytest.fixture
def groups(make_tree):
    """40 groups; each four in a row have one plate."""
    found, _ = find_groups(make_tree(all={str(k): 1 for k in range(40)}), "all")
    return [replace(group, text=f"plate {i // 4}") for i, group in enumerate(found)]


def names(divided):
    return {split: [group.name for group in members] for split, members in divided.items()}


def test_a_plate_is_in_one_split_only_and_none_is_lost(groups):
    divided = splits.split_groups(groups, SHARES, seed=0)
    texts = {split: {g.text for g in members} for split, members in divided.items()}
    assert not texts["train"] & texts["val"] | texts["train"] & texts["test"]
    assert not texts["val"] & texts["test"]
    assert {split: len(members) for split, members in divided.items()} == {
        "train": 32, "val": 4, "test": 4,
    }  # fmt: skip
    assert sorted(g.name for m in divided.values() for g in m) == sorted(g.name for g in groups)


def test_a_split_depends_on_the_seed_and_not_on_the_order(groups):
    once = names(splits.split_groups(groups, SHARES, seed=3))
    assert names(splits.split_groups(groups[::-1], SHARES, seed=3)) == once
    assert any(names(splits.split_groups(groups, SHARES, seed=s)) != once for s in (4, 5, 6))


def copy_picture(source, target):
    """The same photograph, compressed harder, smaller and brighter."""
    image = cv2.imread(str(source.target))
    image = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    image = np.clip(image * 1.1 + 8, 0, 255).astype(np.uint8)
    cv2.imwrite(str(target.target), image, [cv2.IMWRITE_JPEG_QUALITY, 60])


def test_without_texts_copies_of_a_photograph_stay_together(groups):
    unlabelled = [replace(group, text=None) for group in groups]
    for i in range(1, 8):
        copy_picture(unlabelled[0], unlabelled[i])
    for seed in range(5):
        divided = splits.split_groups(unlabelled, {"train": 1, "val": 1}, seed)
        copies = {g.name for g in unlabelled[:8]}
        homes = [s for s, members in names(divided).items() if copies & set(members)]
        assert len(homes) == 1
        assert all(len(members) == 20 for members in divided.values())


def test_leaks_are_listed(groups):
    given = {"train": groups[:20], "val": groups[20:]}
    assert splits.find_leaks(given) == []
    copy_picture(groups[3], groups[30])
    same_text = replace(groups[25], text=groups[8].text)
    given["val"] = [same_text if g.name == same_text.name else g for g in given["val"]]
    listed = {(p.path, p.reason) for p in splits.find_leaks(given)}
    assert listed == {
        (groups[3].target, f"nearly the same picture as {groups[30].target}"),
        *((g.target, "the plate 'plate 2' is also in val/25") for g in groups[8:12]),
    }


def test_flat_pictures_are_like_no_other(groups):
    for group in groups[:2]:
        cv2.imwrite(str(group.target), np.full((20, 60, 3), 90, np.uint8))
    assert splits.find_leaks({"a": [groups[0]], "b": [replace(groups[1], text="x")]}) == []
