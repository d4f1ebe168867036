"""A user's own pictures: which groups are found, and what is said of those that cannot be read."""

import cv2
import numpy as np
import pytest

from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.inputs import find_groups, load_frames


def picture(path, grey=128, size=(20, 43)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), grey, np.uint8))
    return path


def test_a_folder_of_images_is_one_group_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        picture(tmp_path / "car" / f"img_{k}.jpg")
    (group,) = find_groups([tmp_path / "car"])
    assert group.name == "car"
    assert [path.name for path in group.paths] == ["img_1.jpg", "img_2.jpg", "img_10.jpg"]


def test_a_folder_of_folders_is_many_groups_named_by_their_way(tmp_path):
    picture(tmp_path / "monday" / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    assert [group.name for group in find_groups([tmp_path])] == ["b", "monday_a"]


def test_a_single_image_is_a_group(tmp_path):
    (group,) = find_groups([picture(tmp_path / "plate.webp")])
    frames, problems = load_frames(group, 5)
    assert len(frames) == 1 and frames[0].shape == (20, 43, 3) and not problems


def test_of_a_video_the_last_frames_are_taken(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 32))
    for grey in range(0, 100, 10):
        writer.write(np.full((32, 64, 3), grey, np.uint8))
    writer.release()
    (group,) = find_groups([path])
    frames, problems = load_frames(group, 3)
    assert not problems
    np.testing.assert_allclose([frame.mean() for frame in frames], [70, 80, 90], atol=6)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such file"), ("empty", "no images"), ("notes.txt", "neither an image")],
)
def test_what_holds_nothing_to_restore_is_named(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match=message) as error:
        find_groups([tmp_path / name])
    assert name in str(error.value)


def test_two_groups_of_one_name_are_refused(tmp_path):
    for top in "xy":
        picture(tmp_path / top / "car" / "1.png")
    with pytest.raises(UserError, match="two groups are called 'car'"):
        find_groups([tmp_path / "x", tmp_path / "y"])


def test_an_unreadable_frame_is_left_out_and_named(tmp_path):
    picture(tmp_path / "car" / "1.png")
    (tmp_path / "car" / "2.png").write_bytes(b"not a png")
    (group,) = find_groups([tmp_path / "car"])
    frames, problems = load_frames(group, 5)
    assert len(frames) == 1
    assert len(problems) == 1 and "2.png" in problems[0]


def test_an_unreadable_video_is_named(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video")
    frames, problems = load_frames(find_groups([path])[0], 5)
    assert not frames and "clip.mp4" in problems[0]
