import json
import os
import shutil

import pytest

from data_pipeline import tracks
from data_pipeline.errors import DataError
from data_pipeline.sources import list_splits, open_source


@pytest.fixture
def write_track(write_picture):
    """A function that writes one track of five far frames and `near` near ones."""

    def write(folder, text="ABC1D23", near=5, suffix=".png"):
        for k in range(1, 6):
            write_picture(folder / f"lr-{k:03d}{suffix}", seed=k, size=(17, 33))
        for k in range(1, near + 1):
            write_picture(folder / f"hr-{k:03d}{suffix}", seed=50 + k, size=(40, 90))
        if text is not None:
            annotation = {"plate_layout": "Mercosur", "plate_text": text, "corners": {}}
            (folder / "annotations.json").write_text(json.dumps(annotation))

    return write


@pytest.fixture
def competition(tmp_path, write_track):
    """The tree of LRLPR-26: two scenarios, two layouts; test tracks without near frames."""
    root = tmp_path / "lrlpr"
    write_track(root / "train/Scenario-A/Brazilian/track_00001", "AVL5215")
    write_track(root / "train/Scenario-A/Mercosur/track_00010", "BRA2E19")
    write_track(root / "train/Scenario-B/Mercosur/track_00002", "BRA2E20", suffix=".jpg")
    write_track(root / "test/track_00003", None, near=0)
    return root


def test_the_competition_tree(competition):
    assert list_splits(competition) == ["test", "train"]
    source = open_source(competition, "train")
    assert [(source[i].name, source[i].text) for i in range(len(source))] == [
        ("train_Scenario-A_Brazilian_track_00001", "AVL5215"),
        ("train_Scenario-A_Mercosur_track_00010", "BRA2E19"),
        ("train_Scenario-B_Mercosur_track_00002", "BRA2E20"),
    ]
    folder = competition / "train/Scenario-A/Brazilian/track_00001"
    frames = [(folder / f"lr-00{k}.png").read_bytes() for k in range(1, 6)]
    assert list(source[0].frames) == frames
    assert source[0].target == (folder / "hr-005.png").read_bytes()
    test = open_source(competition, "test")[0]
    assert test.target is None and test.text is None and len(test.frames) == 5


def test_ufpr_sr_plates_has_no_folders_of_splits(tmp_path, write_track):
    root = tmp_path / "UFPR-SR-Plates"
    for resolution in ("1280_960", "1920_1080"):
        for layout in ("Brazilian", "Mercosur"):
            write_track(root / resolution / layout / "track_00001")
    assert list_splits(root) == ["train"]
    assert len(open_source(root, "train")) == 4


def test_a_list_of_splits_decides(tmp_path, write_track):
    root = tmp_path / "UFPR-SR-Plates"
    for k in range(4):
        write_track(root / "1280_960/Brazilian" / f"track_{k}", f"ABC000{k}")
    (root / "split_all.txt").write_text(
        "ABC0000;1280_960/Brazilian/track_0;training\n"
        "ABC0001;UFPR-SR-Plates/1280_960/Brazilian/track_1;validation\n\n"
        "ABC0002;1280_960/Brazilian/track_2;testing\n"
    )
    found = {s: [g.text for g in tracks.find_groups(root, s)[0]] for s in list_splits(root)}
    assert found == {"train": ["ABC0000"], "val": ["ABC0001"], "test": ["ABC0002"]}
    (root / "split_all.txt").write_text("ABC0000;1280_960/Brazilian/track_0\n")
    with pytest.raises(DataError, match=r"split_all\.txt, line 1: expected"):
        open_source(root, "train")


def test_each_fault_costs_its_own_track_alone(competition, write_track):
    folder = competition / "train/Scenario-B/Brazilian"
    write_track(folder / "track_1", near=0)
    write_track(folder / "track_2")
    (folder / "track_2/annotations.json").write_text("{")
    write_track(folder / "track_3", text=7)
    groups, problems = tracks.find_groups(competition, "train")
    assert [g.text for g in groups if g.name.endswith("track_3")] == [None]
    assert len(groups) == 4
    reasons = [(p.path.relative_to(folder).as_posix(), p.reason) for p in problems]
    assert reasons[0] == ("track_1", "no ground truth: no hr-* image")
    assert reasons[1][0] == "track_2/annotations.json" and "not a readable" in reasons[1][1]
    assert reasons[2] == ("track_3/annotations.json", "plate_text: 7 is not a text")


def test_a_split_that_is_not_there(competition):
    with pytest.raises(DataError, match="no tracks of split 'val'; splits found: test, train"):
        open_source(competition, "val")


def test_tracks_whose_paths_give_one_name_stay_two(tmp_path, write_track):
    write_track(tmp_path / "a" / "b", "ABC0001")
    write_track(tmp_path / "a_b", "ABC0002")
    groups, problems = tracks.find_groups(tmp_path, "train")
    assert {group.name: group.text for group in groups} == {"a_b": "ABC0001", "a_b~2": "ABC0002"}
    assert not problems


def test_links_are_followed_once_and_any_depth_is_walked(tmp_path, write_track):
    root = tmp_path / "root"
    root.mkdir()
    write_track(tmp_path / "elsewhere", "ABC0002")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    below = [f"{root}{'/d' * depth}" for depth in range(1, 1201)]
    for folder in below:
        os.mkdir(folder)
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "copy")
    os.rename(tmp_path / "copy", f"{below[-1]}/deep")
    try:
        groups, _ = tracks.find_groups(root, "train")
        assert len(groups) == 2 and all(len(group.name.encode()) < 200 for group in groups)
        assert len(groups[0].read().frames) == len(groups[1].read().frames)
    finally:  # not every tool can take away what is so deep
        os.rename(f"{below[-1]}/deep", tmp_path / "deep")
        for folder in reversed(below):
            os.rmdir(folder)
