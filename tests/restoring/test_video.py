"""Videos: streamed, in their own time, turned as they ask."""

import numpy as np
import pytest

from data_pipeline.errors import DataError
from lpdiff_jax.errors import UserError
from lpdiff_jax.restoring.video import Clip, parse_time, read_frames
from tests.restoring.scenes import turned, with_frame_durations, write_video

GREYS = range(0, 100, 10)


@pytest.fixture
def video(tmp_path):
    images = [np.full((32, 64, 3), grey, np.uint8) for grey in GREYS]
    return write_video(tmp_path / "100% clip.mp4", images, codec="mp4v")


def times(path, clip=Clip()):  # noqa: B008
    return [round(frame.time, 3) for frame in read_frames(path, clip, [])]


def test_frames_come_in_order_with_their_times(video):
    greys = [frame.image().mean() for frame in read_frames(video, Clip(), [])]
    np.testing.assert_allclose(greys, GREYS, atol=4)
    np.testing.assert_allclose(times(video), np.arange(10) / 10, atol=1e-3)


def test_times_of_a_variable_rate_are_the_containers(video):
    with_frame_durations(video, [1024, 1024, 4096, 1024, 1024, 1024, 512, 512, 1024, 1024])
    assert times(video) == [0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.1]
    # Every 0.2 s of time, not every second frame.
    assert times(video, Clip(0.1, 1.0, 0.2)) == [0.1, 0.6, 0.7, 0.9]


def test_rotation_is_carried_out(video):
    assert {frame.image().shape for frame in read_frames(turned(video), Clip(), [])} == {
        (64, 32, 3)
    }


def test_a_part_is_cut_out_by_time(video):
    assert times(video, Clip(0.25, 0.55)) == [0.3, 0.4, 0.5]
    assert times(video, Clip(every=0.3)) == [0, 0.3, 0.6, 0.9]
    with pytest.raises(UserError, match="before it begins"):
        Clip(2.0, 1.0)


def test_what_breaks_off_is_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 32, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "cut.avi", list(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    problems = []
    assert 20 < len(list(read_frames(path, Clip(), problems))) < 30
    assert "cut.avi: breaks off after" in problems[0] and "of 40 frames" in problems[0]


@pytest.mark.parametrize(
    "content", [b"", b"no video", b"#EXTM3U\nfile:///etc/passwd\n", b"RIFFxxxx"]
)
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"clip\.mp4: not a video"):
        list(read_frames(path, Clip(), []))


@pytest.mark.parametrize(("text", "seconds"), [("12.5", 12.5), ("1:02.5", 62.5), ("1:00:00", 3600)])
def test_times_are_read(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1:", "nan", "²"])
def test_what_is_no_time_is_named(text):
    with pytest.raises(UserError, match="no time"):
        parse_time(text)
