"""Plates followed from frame to frame, and the best of their frames."""

import cv2

from lpdiff_jax.restoring.regions import Region
from lpdiff_jax.restoring.tracks import BestFrames, Tracker, merit
from tests.restoring.scenes import plate


def test_two_plates_that_move_keep_their_tracks():
    tracker, near, far = Tracker(), [], []
    for frame in range(20):
        regions = [
            Region.of_box(10 + 15 * frame, 50, 40, 14),
            Region.of_box(400 - 12 * frame, 200, 30, 10),
        ]
        if frame % 2:  # the order within a frame tells nothing
            far_track, near_track = tracker.join(frame, regions[::-1])
        else:
            near_track, far_track = tracker.join(frame, regions)
        near.append(near_track)
        far.append(far_track)
    assert near == [1] * 20 and far == [2] * 20


def test_a_gap_is_bridged_and_a_long_one_ends_the_track():
    box = Region.of_box(10, 10, 40, 14)
    tracker = Tracker(patience=3)
    assert [tracker.join(frame, [box])[0] for frame in (0, 3, 6, 10)] == [1, 1, 1, 2]


def test_the_best_frames_stay_in_the_order_of_time():
    best = BestFrames(3)
    for place, value in enumerate((5.0, 1.0, 7.0, 6.0, 2.0)):
        best.add(value, place)
    assert best.in_order() == [0, 2, 3] and best.seen == 5
    equal = BestFrames(2)
    for place in range(4):
        equal.add(1.0, place)
    assert equal.in_order() == [2, 3]


def test_larger_and_sharper_frames_are_better():
    sharp = plate(width=90)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    assert merit(sharp, (30, 90)) > merit(blurred, (30, 90))
    assert merit(sharp, (60, 180)) > merit(sharp, (30, 90))
