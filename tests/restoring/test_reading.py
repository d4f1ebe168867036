"""Plates out of pictures and videos: crops, boxes, tracks, and what is said of the rest."""

import cv2
import numpy as np
import pytest
from PIL import Image

from data_pipeline.errors import DataError
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.boxes import Box
from lpdiff_jax.restoring.detectors import Detection
from lpdiff_jax.restoring.inputs import find_sources
from lpdiff_jax.restoring.names import Names
from lpdiff_jax.restoring.reading import Choice, check_boxes, digest, read_plates
from lpdiff_jax.restoring.regions import Region
from lpdiff_jax.restoring.video import Clip, read_frames
from tests.restoring.scenes import picture, plate, street, write_video

SIZE = (24, 48)


def read(path, problems=None, **options):
    choice = Choice(options.pop("max_frames", 3), SIZE, **options)
    problems = [] if problems is None else problems
    names = Names()
    return [
        found
        for source in find_sources([path]).sources
        for found in read_plates(source, choice, names, problems)
    ]


def scene(x, y, seed=0):
    """A street with one plate at (x, y)."""
    image, crop = street(seed), plate(seed)
    image[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return image, Region.of_box(x, y, crop.shape[1], crop.shape[0])


def write(path, image):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def test_of_more_frames_the_last_ones_are_used(tmp_path):
    for k, grey in enumerate((10, 50, 90, 130, 170)):
        picture(tmp_path / "car" / f"{k}.png", grey)
    (found,) = read(tmp_path)
    assert found.seen == 5
    assert [frame.mean() for frame in found.frames] == [90, 130, 170]
    assert [origin.path.name for origin in found.origins] == ["2.png", "3.png", "4.png"]
    assert {frame.shape for frame in found.frames} == {(*SIZE, 3)}


def test_a_frame_that_cannot_be_read_makes_room_for_another(tmp_path):
    for k in range(4):
        picture(tmp_path / "car" / f"{k}.png", 40 * k)
    (tmp_path / "car" / "3.png").write_bytes(b"not a png")
    problems = []
    (found,) = read(tmp_path, problems)
    assert [frame.mean() for frame in found.frames] == [0, 40, 80]
    assert len(problems) == 1 and "3.png" in problems[0]


def test_all_pages_of_a_file_are_frames(tmp_path):
    pages = [Image.new("L", (43, 20), grey) for grey in (20, 60, 100)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b.png", save_all=True, append_images=pages[1:])
    for found in read(tmp_path / "a.tiff") + read(tmp_path / "b.png"):
        assert [frame.mean() for frame in found.frames] == [20, 60, 100]
        assert [origin.index for origin in found.origins] == [0, 1, 2]


def test_a_video_of_crops_is_one_plate_of_its_sharpest_frames(tmp_path):
    sharp = plate(width=96)[:30]
    images = [cv2.GaussianBlur(sharp, (0, 0), 0.1 + abs(k - 4)) for k in range(8)]
    (found,) = read(write_video(tmp_path / "clip.avi", images))
    assert [origin.index for origin in found.origins] == [3, 4, 5]
    assert [origin.time for origin in found.origins] == pytest.approx([0.3, 0.4, 0.5])
    assert found.seen == 8


def test_a_scene_is_no_crop(tmp_path):
    problems = []
    assert not read(write(tmp_path / "street.png", scene(200, 100)[0]), problems)
    assert "street.png: 640 x 360 pixels look like a scene" in problems[0]
    assert "--box" in problems[0] and "--force" in problems[0]
    assert len(read(tmp_path / "street.png", force=True)) == 1


def test_a_video_of_scenes_is_refused_early(tmp_path):
    images = [scene(200 + 5 * k, 100)[0] for k in range(12)]
    problems = []
    assert not read(write_video(tmp_path / "clip.avi", images), problems)
    assert "clip.avi at 0.00 s: 640 x 360 pixels look like a scene" in problems[0]


def test_one_box_for_all_frames(tmp_path):
    for k in range(3):
        image, region = scene(200, 100, seed=k)
        write(tmp_path / "car" / f"{k}.png", image)
    (found,) = read(tmp_path, box=region)
    expected = cv2.resize(plate(2), SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(found.frames[2], expected)
    assert found.origins[2].describe()["box"] == [200, 100, *plate(2).shape[1::-1]]


def test_boxes_with_tracks_make_a_plate_each(tmp_path):
    boxes = []
    for k in range(4):
        image, one = scene(50 + 20 * k, 60)
        write(tmp_path / "car" / f"{k}.png", image)
        other = Region.of_box(300 - 20 * k, 200, 60, 20)
        boxes += [Box(f"{k}.png", one, "A"), Box(k, other, "B")]
    found = read(tmp_path, boxes=tuple(boxes), max_frames=2)
    assert [plate.name for plate in found] == ["car_A", "car_B"]
    assert [plate.seen for plate in found] == [4, 4]
    assert all(len(plate.frames) == 2 for plate in found)


def test_boxes_without_tracks_are_joined_by_overlap(tmp_path):
    images, boxes = [], []
    for k in range(6):
        image, region = scene(50 + 20 * k, 60)
        images.append(image)
        boxes += [Box(k, region), Box(k, Region.of_box(400, 200, 60, 20))]
    found = read(write_video(tmp_path / "clip.avi", images), boxes=tuple(boxes))
    assert [plate.name for plate in found] == ["clip_1", "clip_2"]
    assert [plate.seen for plate in found] == [6, 6]


def test_a_track_is_done_before_the_video_is(tmp_path):
    images = [scene(50, 60)[0] for _ in range(30)]
    region = scene(50, 60)[1]
    boxes = (*(Box(k, region, "early") for k in range(3)), Box(29, region, "late"))
    source = find_sources([write_video(tmp_path / "clip.avi", images)]).sources[0]
    seen = []
    plates = read_plates(source, Choice(3, SIZE, boxes=boxes), Names(), seen)
    assert next(plates).name == "clip_early"
    assert next(plates).name == "clip_late"


def test_boxes_of_other_pictures_are_refused(tmp_path):
    write(tmp_path / "a.png", street())
    choice = Choice(3, SIZE, boxes=(Box("b.png", Region.of_box(1, 1, 20, 9)),))
    with pytest.raises(UserError, match=r"b\.png"):
        check_boxes(find_sources([tmp_path]).sources, choice)


def test_a_detector_finds_the_plates(tmp_path):
    image, region = scene(200, 100)
    path = write_video(tmp_path / "clip.avi", [image] * 4)
    (found,) = read(path, detector=lambda frame: [Detection(region, 0.9)], clip=Clip(0.1, 0.25))
    assert found.name == "clip_1"
    assert [origin.index for origin in found.origins] == [1, 2]
    problems = []
    assert not read(path, problems, detector=lambda frame: [])
    assert "no plate found" in problems[0]


def test_one_way_to_find_plates_at_a_time():
    with pytest.raises(UserError, match="one of --box"):
        Choice(3, SIZE, box=Region.of_box(0, 0, 9, 9), detector=lambda frame: [])


def test_nothing_is_read_when_the_time_is_over(tmp_path):
    for k in range(3):
        picture(tmp_path / "car" / f"{k}.png", 40 * k)
    video = write_video(tmp_path / "clip.mp4", [plate(0)] * 3)
    problems = []
    assert read(tmp_path, problems, deadline=0.0) == []
    assert sum("no time is left" in problem for problem in problems) == 2
    # Frames before the clip begins are decoded, too.
    assert [*read_frames(video, Clip(99.0), problems, 0.0)] == []
    assert "clip.mp4 at 0.00 s: no time is left" in problems[-1]


def test_what_is_too_large_is_not_read_to_tell_it_from_others(tmp_path):
    """Files of 64 GB, which take no room on the disk."""
    for name in ("huge.png", "huge.mp4"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(2**36)
    with pytest.raises(DataError, match="no container of a known kind"):
        digest(find_sources([tmp_path / "huge.mp4"]).sources[0])
    assert len(digest(find_sources([tmp_path / "huge.png"]).sources[0])) == 64
