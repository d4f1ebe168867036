"""What is found in folders, what is left aside, and what is said of it."""

import os

import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.inputs import find_sources, local_path
from tests.restoring.scenes import picture


def names(*inputs, **options):
    return [source.name for source in find_sources(inputs, **options).sources]


def test_a_folder_of_images_is_one_source_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        picture(tmp_path / "car" / f"img_{k}.jpg")
    (source,) = find_sources([tmp_path / "car"]).sources
    assert source.name == "car"
    assert [path.name for path in source.files] == ["img_1.jpg", "img_2.jpg", "img_10.jpg"]


def test_a_folder_of_folders_is_many_sources_named_by_their_way(tmp_path):
    picture(tmp_path / "monday" / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    assert names(tmp_path) == ["b", "monday_a"]


def test_digits_of_all_kinds_are_names(tmp_path):
    for name in ("²", "①", "٣", "7"):
        picture(tmp_path / "car" / f"{name}.png")
    assert len(find_sources([tmp_path / "car"]).sources[0].files) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such file"), ("empty", "no images"), ("notes.txt", "neither an image")],
)
def test_what_holds_nothing_to_restore_is_named(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=message) as error:
        find_sources([tmp_path / name])
    assert name in str(error.value)


def test_addresses_and_homes():
    with pytest.raises(UserError, match="copy it"):
        local_path("gs://bucket/plates")
    assert "~" not in str(local_path("~/plates"))


def test_everything_that_is_not_used_is_named(tmp_path):
    picture(tmp_path / "car" / "lr-1.png")
    picture(tmp_path / "car" / "hr-1.png")
    picture(tmp_path / "@eaDir" / "thumb.jpg")
    picture(tmp_path / "val" / "gt" / "x" / "1.png")
    picture(tmp_path / "val" / "inputs" / "x" / "1.png")
    for name in ("Thumbs.db", "notes.txt", "more.txt", "phone.heic"):
        (tmp_path / "car" / name).write_text("")
    os.symlink(tmp_path / "nowhere", tmp_path / "car" / "2.png")
    found = find_sources([tmp_path])
    assert [source.name for source in found.sources] == ["car", "val_inputs_x"]
    assert [path.name for path in found.sources[0].files] == ["lr-1.png"]
    problems, notes = "\n".join(found.problems), "\n".join(found.notes)
    assert "phone.heic" in problems and "2.png: a link that leads nowhere" in problems
    for part in ("hr-1.png", "@eaDir", "gt", "Thumbs.db", "2 x .txt"):
        assert part in notes


def test_links_to_folders_are_followed_and_circles_are_not(tmp_path):
    picture(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "in").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "car")
    os.symlink(tmp_path / "in", tmp_path / "in" / "again")
    found = find_sources([tmp_path / "in"])
    assert [source.name for source in found.sources] == ["car"]
    assert "again" in found.problems[0]


def test_own_results_are_no_inputs(tmp_path):
    picture(tmp_path / "car" / "1.png")
    for output in ("out", "older"):
        picture(tmp_path / output / "restored" / "car.png")
        picture(tmp_path / output / "sheets" / "car.png")
    (tmp_path / "older" / "restore.json").write_text("{}")
    assert names(tmp_path, output=tmp_path / "out") == ["car"]
    assert "earlier restoration" in find_sources([tmp_path], tmp_path / "out").notes[0]


@pytest.fixture
def deep_nest(tmp_path, monkeypatch):
    """Folders within folders, so deep that pytest could not take them away."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("deep")
        os.chdir("deep")
    os.chdir(tmp_path)
    yield tmp_path
    for _ in range(1200):
        os.chdir("deep")
    for _ in range(1200):
        os.chdir("..")
        os.rmdir("deep")


def test_a_deep_nest_is_found_or_named(deep_nest):
    picture(deep_nest / "car" / "1.png")
    found = find_sources([deep_nest])
    assert [source.name for source in found.sources] == ["car"]
    assert found.problems and "deep" in found.problems[0]


def test_names_that_are_not_utf8_can_be_told(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/1.heic", "wb"):
        pass
    with pytest.raises(UserError) as error:
        find_sources([tmp_path])
    str(error.value).encode("utf-8")
