"""The far camera: each effect does what its docstring says, in the units that it names."""

import dataclasses
import subprocess
import sys

import cv2
import numpy as np
import pytest

from data_pipeline.synthetic import codec, optics, sensor, surface, weather
from data_pipeline.synthetic.approach import Approach, skew
from data_pipeline.synthetic.camera import draw
from data_pipeline.synthetic.degradation import PIXEL, take, views
from data_pipeline.synthetic.groups import render_group
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.presets import PRESETS, REAL_LIKE
from data_pipeline.synthetic.styles import load_style

STRAIGHT = Approach(
    focal=7000, height=0, lateral=0, heading=0, tilt=0, lean=0, aim=30, speed=10
)  # fmt: skip
SIZE = (0.44, 0.14)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def textured(height: int = 48, width: int = 96) -> np.ndarray:
    return surface.blotches((height, width), 6.0, rng())[..., None].repeat(3, 2).clip(0.05, 0.95)


# Approach


def test_width_falls_with_distance() -> None:
    ends = np.array([[-0.22, 0.0], [0.22, 0.0]])
    near, far = (np.ptp(STRAIGHT.project(ends, d)[:, 0]) for d in (30.0, 60.0))
    assert near == pytest.approx(2 * far)
    assert STRAIGHT.distance(near, 0.44) == pytest.approx(30.0)


def test_image_speed_is_that_of_the_pinhole() -> None:
    high = dataclasses.replace(STRAIGHT, height=6.0, aim=1e9)
    # A point h below the axis is seen at f h / d, so it moves at f h v / d^2.
    expected = 7000 * 6.0 * 10 / 40.0**2
    assert high.velocity(40.0) == pytest.approx([0.0, expected], rel=1e-3)
    assert np.abs(high.velocity(20.0)).sum() > 3 * np.abs(high.velocity(40.0)).sum()
    np.testing.assert_allclose(dataclasses.replace(high, speed=0.0).velocity(40.0), 0.0)


def test_lean_turns_the_picture() -> None:
    ends = np.array([[-0.22, 0.0], [0.22, 0.0]])
    left, right = dataclasses.replace(STRAIGHT, lean=5.0).project(ends, 30.0)
    slope = np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))
    assert slope == pytest.approx(5.0, abs=0.1)


def test_rolling_shutter_skews_by_speed_and_row_time() -> None:
    points = np.array([[0.0, 0.0], [0.0, 10.0]])
    skewed = skew(points, np.array([1000.0, 0.0]), 1e-4)
    assert skewed[1, 0] - skewed[0, 0] == pytest.approx(1000.0 * 1e-4 * 10)
    np.testing.assert_array_equal(skew(points, np.array([1000.0, 50.0]), 0.0), points)


def test_sizes_of_all_pictures_follow_from_one_motion() -> None:
    for seed in range(20):
        model = draw(REAL_LIKE, rng(seed))
        far, near = views(model, SIZE, 3, rng(seed))
        assert far[0].distance > far[1].distance > far[2].distance > near.distance
        widths = [np.ptp(view.corners[:, 0]) for view in (far[0], near)]
        assert widths[0] == pytest.approx(model.far_width, rel=0.06)
        assert widths[1] == pytest.approx(model.near_width, rel=0.06)
        assert widths[1] / widths[0] == pytest.approx(far[0].distance / near.distance, rel=0.06)


# Optics


def test_diffraction_grows_with_the_f_number() -> None:
    assert optics.diffraction(5.6, 3.45) == pytest.approx(0.375, abs=1e-3)
    assert optics.diffraction(8.0, 3.45) == pytest.approx(2 * optics.diffraction(4.0, 3.45))


def test_defocus_is_the_thin_lens_s() -> None:
    assert optics.defocus(30.0, 30.0, 35.0, 2.8, 3.45) == 0.0
    circle = 0.035**2 / 2.8 * 60.0 / (90.0 * (30.0 - 0.035))
    assert optics.defocus(90.0, 30.0, 35.0, 2.8, 3.45) == pytest.approx(circle / 3.45e-6)
    sizes = [optics.defocus(d, 30.0, 35.0, 2.8, 3.45) for d in (40, 60, 90)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("disc", "motion"), [(3.0, (0.0, 0.0)), (0.0, (4.0, 0.0)), (2.0, (0.0, 3.0))]
)
def test_point_spread_has_the_spread_of_disc_and_line(disc: float, motion: tuple) -> None:
    scale = 8
    kernel = optics.point_spread(disc, motion, scale).astype(float)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    axis = np.arange(len(kernel)) - len(kernel) // 2
    spread = (kernel.sum(0) @ axis**2, kernel.sum(1) @ axis**2)
    for value, length in zip(spread, motion, strict=True):
        # Variances: disc d^2 / 16, line l^2 / 12.
        assert value / scale**2 == pytest.approx(disc**2 / 16 + length**2 / 12, rel=0.12, abs=0.02)


def test_blur_keeps_light_and_sample_averages_it() -> None:
    light = textured()
    blurred = optics.blur(light, 0.8, 1.5, (1.0, 0.5), 4)
    assert blurred.mean() == pytest.approx(light.mean(), rel=0.02)
    assert blurred.std() < light.std()
    np.testing.assert_allclose(optics.sample(light, 4)[0, 0], light[:4, :4].mean((0, 1)), rtol=1e-5)


# Sensor


def test_noise_is_that_of_photons_and_reading() -> None:
    light = np.full((400, 400), 0.5, np.float32)
    exposed = sensor.expose(light, 1000.0, 6.0, rng())
    assert exposed.mean() == pytest.approx(0.5, abs=1e-3)
    assert exposed.var() == pytest.approx(0.5 / 1000 + (6 / 1000) ** 2, rel=0.03)
    assert sensor.expose(light * 4, 1000.0, 6.0, rng()).max() == 1.0


@pytest.mark.parametrize("colour", [(0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.2, 0.9)])
def test_filter_array_gives_flat_colours_back(colour: tuple) -> None:
    flat = np.broadcast_to(np.float32(colour), (17, 30, 3))
    np.testing.assert_allclose(sensor.demosaic(sensor.mosaic(flat)), flat, atol=1e-4)


def test_filter_array_colours_fine_detail() -> None:
    stripes = np.tile(np.float32([0, 1]), (16, 16))[..., None].repeat(3, 2)
    assert np.ptp(sensor.demosaic(sensor.mosaic(stripes)), axis=-1).max() > 0.3


def test_tone_curve_keeps_its_ends_and_its_order() -> None:
    light = np.linspace(0, 1, 100, dtype=np.float32)
    for contrast in (0.0, 0.5, 1.0):
        curve = sensor.tone(light, contrast=contrast)
        assert curve[0] == 0 and curve[-1] == pytest.approx(1)
        assert (np.diff(curve) > 0).all()
    assert sensor.tone(np.float32([0.5**2.2]), contrast=1.0) == pytest.approx(0.5, abs=1e-5)


def test_noise_reduction_smooths_and_colour_more_than_luma() -> None:
    noisy = np.clip(0.5 + 0.05 * rng().standard_normal((64, 64, 3)), 0, 1).astype(np.float32)
    luma = sensor.denoise(noisy, 1.0, 0.0)
    both = sensor.denoise(noisy, 1.0, 2.0)
    spread = [np.ptp(image, axis=-1).mean() for image in (noisy, both)]
    assert luma.mean(axis=-1).std() < 0.8 * noisy.mean(axis=-1).std()
    assert spread[1] < 0.4 * spread[0]
    np.testing.assert_allclose(sensor.denoise(noisy, 0.0, 0.0), noisy, atol=1e-3)


def test_saturation() -> None:
    image = rng().random((8, 8, 3), dtype=np.float32)
    assert np.ptp(sensor.saturate(image, 0.0), axis=-1).max() < 1e-6
    np.testing.assert_allclose(sensor.saturate(image, 1.0), image, atol=1e-6)


def test_sharpening_leaves_halos_along_edges_only() -> None:
    step = np.full((9, 40, 3), 0.3, np.float32)
    step[:, 20:] = 0.6
    sharp = sensor.sharpen(step, 2.0, 1.0)
    assert 0.05 < sharp.max() - 0.6 <= 2.0 * 0.3 / 2
    np.testing.assert_allclose(sharp[:, :10], 0.3, atol=1e-4)
    assert sensor.sharpen(step, 20.0, 1.0, limit=0.1).max() < 0.701


# Recorder


def test_compression_errors_grow_with_their_setting() -> None:
    image = (textured(45, 101) * 255).astype(np.uint8)

    def error(out: np.ndarray) -> float:
        assert out.shape == image.shape and out.dtype == np.uint8
        return float(np.abs(out.astype(float) - image).mean())

    by_qp = [error(codec.video(image, qp, rng())) for qp in (12, 24, 36, 44)]
    by_quality = [error(codec.jpeg(image, q, rng())) for q in (98, 80, 40, 10)]
    for errors in (by_qp, by_quality):
        assert errors == sorted(errors) and errors[0] < 2 < errors[-1]


def test_video_blocks_show_at_coarse_steps() -> None:
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, :, None] * 2, (32, 96, 3))
    coded = codec.video(np.ascontiguousarray(ramp), 44, rng(5)).astype(int)
    jumps = np.abs(np.diff(coded[16, :, 1]))
    assert jumps.max() > 4 * 2  # a smooth ramp has steps now
    assert codec.enlarge(coded.astype(np.uint8), (48, 144)).shape == (48, 144, 3)


def test_a_block_that_hardly_changed_repeats_the_frame_before() -> None:
    image = (textured(45, 101) * 255).astype(np.uint8)
    noisy = np.clip(image + rng().normal(0.0, 2.0, image.shape), 0, 255).astype(np.uint8)
    repeated = codec.video(noisy, 26, rng(), image, 50.0).astype(int)
    predicted = codec.video(noisy, 26, rng(), image, 0.0).astype(int)
    alone = codec.video(noisy, 26, rng()).astype(int)
    errors = [np.abs(out - image).mean() for out in (repeated, predicted, alone)]
    assert errors[0] < 1.5 and errors == sorted(errors)
    other = np.roll(image, 20, axis=1)
    new = codec.video(other, 20, rng(), image, 1.0).astype(int)
    assert np.abs(new - other).mean() < 2.0 < np.abs(other.astype(int) - image).mean()


def test_ghosts_and_combs() -> None:
    image = (textured(20, 60) * 255).astype(np.uint8)
    before = np.roll(image, 5, axis=1)
    ghost = codec.mix(image, before, 0.4)
    np.testing.assert_allclose(ghost, 0.6 * image + 0.4 * before.astype(float), atol=0.51)
    woven = codec.interlace(image, 1.0)
    np.testing.assert_array_equal(woven[::2], image[::2])
    np.testing.assert_array_equal(woven[1::2, 1:], image[1::2, :-1])


def test_noise_is_alike_over_the_frames_of_a_camera_that_looks_back(plate: np.ndarray) -> None:
    still = dataclasses.replace(
        draw(REAL_LIKE, rng(3)), speed=1e-6, vibration=0.0, jitter=0.0, shimmer=0.0, electrons=3.2,
        luma_denoise=0.0, lateral=0.0, heading=0.0, flicker=0.0, comb=-1.0, rain=-1.0, glare=-1.0,
    )  # fmt: skip

    def change(model) -> float:
        frames = take(plate, (), model, 3, rng()).frames
        return float(np.abs(frames[2].astype(float) - frames[1]).mean())

    alone = change(dataclasses.replace(still, ghost=0.0, change=0.0))
    assert change(dataclasses.replace(still, ghost=0.0, change=6.0)) < 0.85 * alone
    assert change(dataclasses.replace(still, ghost=0.5, change=0.0)) < 0.85 * alone


# Weather


def test_hot_air_moves_what_is_seen_by_its_shift() -> None:
    ramp = np.broadcast_to(np.arange(120, dtype=np.float32)[None, :, None], (60, 120, 3))
    moved = weather.shimmer(np.ascontiguousarray(ramp), 2.0, 1.0, rng()) - ramp
    assert moved[:, 10:-10].std() == pytest.approx(2.0 * 2 / 3, rel=0.15)  # between knots: less
    np.testing.assert_allclose(weather.shimmer(textured(), 0.0, 9.0, rng()), textured(), atol=1e-6)


def test_haze_follows_koschmieder() -> None:
    assert weather.transmission(500.0, 500.0) == pytest.approx(0.02, abs=1e-3)
    assert weather.transmission(0.0, 500.0) == 1.0
    light, air = textured(), np.array([0.6, 0.65, 0.7])
    np.testing.assert_allclose(weather.haze(light, 1.0, air), light)
    np.testing.assert_allclose(weather.haze(light, 0.0, air)[3, 4], air, rtol=1e-6)


def test_rain_adds_streaks_with_its_rate() -> None:
    dark = np.zeros((60, 120, 3), np.float32)
    amounts = [weather.rain(dark, rate, 0.3, 0.005, rng()).mean() for rate in (0, 10, 50)]
    assert amounts[0] == 0 and amounts[1] < amounts[2]


def test_glare_is_brightest_at_its_centre() -> None:
    lit = weather.glare(np.zeros((50, 100, 3), np.float32), 1.0, (0.3, 0.5))[..., 0]
    assert np.unravel_index(lit.argmax(), lit.shape)[1] == pytest.approx(30, abs=1)
    assert lit.min() > 0 and lit.max() == pytest.approx(1.0, abs=0.02)


# Plate and car


@pytest.fixture(scope="module")
def plate() -> np.ndarray:
    return draw_plate("苏A58K62", load_style("cn-blue"))


@pytest.mark.parametrize("effect", [surface.wear, surface.dirt])
def test_wear_and_dirt_grow_and_keep_the_outline(effect, plate: np.ndarray) -> None:
    changes = []
    for amount in (0.0, 0.4, 0.8):
        out = effect(plate, amount, rng())
        np.testing.assert_array_equal(out[..., 3], plate[..., 3])
        changes.append(np.abs(out.astype(float) - plate).mean())
    assert changes[0] < 1.0 < changes[1] < changes[2]


def test_dirt_comes_from_below(plate: np.ndarray) -> None:
    change = np.abs(surface.dirt(plate, 0.6, rng()).astype(float) - plate).mean(axis=(1, 2))
    assert change[70:].mean() > 2 * change[:70].mean()


def test_bolts_are_where_the_style_says(plate: np.ndarray) -> None:
    changed = (surface.bolt(plate, ((110, 13), (330, 127)), rng()) != plate).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert changed[13, 110] and changed[127, 330]
    assert (
        (np.hypot(columns - 110, rows - 13) < 25) | (np.hypot(columns - 330, rows - 127) < 25)
    ).all()


def test_occlusion_is_a_dark_bar() -> None:
    scene = np.ones((300, 600, 3), np.float32)
    bar = (surface.occlude(scene, 0.1, rng()) < 0.1).all(axis=-1)
    assert bar.any(axis=1).all()
    assert 25 < bar.sum(axis=1).mean() < 50


def test_at_night_the_car_is_dark_and_the_plate_is_not(plate: np.ndarray) -> None:
    m, light = surface.MARGIN, np.ones((1, 1, 3), np.float32)
    day, night = (surface.mount(plate, light, ambient, rng()) for ambient in (1.0, 0.1))
    middle = slice(m + 20, m + 120), slice(m + 20, m + 420)
    np.testing.assert_allclose(day[middle], night[middle], atol=1e-5)
    assert night[:m].mean() == pytest.approx(0.1 * day[:m].mean(), rel=0.01)
    assert day.shape == (140 + 2 * m, 440 + 2 * m, 3)


# The whole camera


@pytest.mark.parametrize("preset", PRESETS)
def test_draws_stay_in_their_ranges(preset: str) -> None:
    model = draw(PRESETS[preset], rng())
    for name, value in dataclasses.asdict(model).items():
        low, high = getattr(PRESETS[preset], name)
        assert low <= value <= high, name


@pytest.mark.parametrize(
    "change",
    [
        {"rain": 50.0}, {"glare": 1.0}, {"night": 3.0}, {"dirt": 0.8}, {"wear": 1.0},
        {"occlusion": 0.2}, {"extinction": 8.0}, {"aberration": 2.0}, {"focus": 1.9},
        {"gain": -1.5}, {"tint": 0.5}, {"electrons": 2.2}, {"luma_denoise": 1.5},
        {"chroma_denoise": 3.0}, {"contrast": 1.0}, {"saturation": 0.3}, {"sharpen": 8.0},
        {"radius": 2.5}, {"overshoot": 0.02}, {"qp": 42.0}, {"quality": 15.0},
        {"vibration": 300.0}, {"exposure_time": 0.02}, {"heading": 20.0}, {"tilt": 30.0},
        {"lean": 8.0}, {"row_time": 4e-4}, {"airlight": 0.1}, {"unevenness": 0.9},
        {"f_number": 22.0}, {"height": 12.0}, {"lateral": 9.0}, {"flicker": 1.0}, {"slack": 6.0},
        {"read_noise": 90.0}, {"speed": 60.0}, {"focal": 90.0}, {"interval": 1.0}, {"comb": 1.0},
        {"ghost": 0.6}, {"change": 9.0}, {"shimmer": 1.5}, {"stretch": 2.0}, {"margin": 0.3},
        {"jitter": 2.0}, {"grey": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_field_of_the_model_reaches_the_far_frames(change: dict, plate: np.ndarray) -> None:
    model = dataclasses.replace(draw(REAL_LIKE, rng(1)), rain=-1.0, glare=-1.0, occlusion=-1.0)
    model = dataclasses.replace(model, dirt=-1.0, night=0.0, extinction=0.5, comb=-1.0, grey=-1.0)

    def frames(model):
        far = take(plate, ((110, 13),), model, 2, rng()).frames
        return np.stack([cv2.resize(frame, (44, 20)) for frame in far]).astype(float)

    before, after = frames(model), frames(dataclasses.replace(model, **change))
    assert np.abs(after - before).mean() > 0.3


def test_varied_is_real_like_with_wider_ranges() -> None:
    for field in dataclasses.fields(REAL_LIKE):
        low, high = getattr(REAL_LIKE, field.name)
        wide = getattr(PRESETS["varied"], field.name)
        # Both ends of grey are choices between two: varied is grey more often.
        assert wide[0] <= low <= high <= wide[1] or field.name == "grey", field.name


def test_presets_are_ordered_in_severity() -> None:
    def luma(image: np.ndarray) -> np.ndarray:
        small = cv2.cvtColor(cv2.resize(image, (96, 40)), cv2.COLOR_RGB2GRAY).astype(float)
        middle = small[5:-5, 5:-5].ravel() - small[5:-5, 5:-5].mean()
        return middle / max(float(np.linalg.norm(middle)), 1.0)

    def agreement(preset: str) -> float:
        """Mean correlation of the far frames with their ground truth, by luma."""
        values = []
        for seed in range(25):
            frames, target, *_ = render_group(seed, preset=preset, styles=["cn-blue", "cn-green"])
            values.extend(luma(frame) @ luma(target) for frame in frames)
        return float(np.mean(values))

    mild, real, severe = (agreement(preset) for preset in ("mild", "real-like", "severe"))
    assert mild > real + 0.05 and real > severe + 0.05


def test_grey_groups_have_no_colour_and_paint_fades(plate: np.ndarray) -> None:
    model = dataclasses.replace(draw(REAL_LIKE, rng(4)), grey=1.0)
    seen = take(plate, (), model, 2, rng())
    frames, target = seen.frames, seen.target
    assert all(np.ptp(image, axis=-1).mean() < 2.5 for image in [*frames, target])
    colour = take(plate, (), dataclasses.replace(model, grey=-1.0), 2, rng()).target
    assert np.ptp(colour, axis=-1).mean() > 30


def test_the_first_camera_draws_as_it_did() -> None:
    """What came later is off in it, and takes no random numbers."""
    first = PRESETS["real-like-1"]
    later = ("stretch", "near_light", "shimmer", "change", "ghost", "comb", "margin", "jitter",
             "fade", "grey")  # fmt: skip
    assert all(low == high for low, high in (getattr(first, name) for name in later))
    generator = rng()
    draw(first, generator)
    expected = rng()
    expected.random(len(dataclasses.fields(first)) - len(later))
    assert generator.random() == expected.random()


def test_the_focus_is_given_in_near_distances(plate: np.ndarray) -> None:
    model = dataclasses.replace(draw(REAL_LIKE, rng(2)), focus=1.0)
    near = views(model, SIZE, 1, rng())[1]
    assert near.distance == pytest.approx(model.focal * 1e3 / PIXEL * 0.44 / model.near_width)


def test_a_row_repeats_its_colour() -> None:
    light = np.random.default_rng(0).random((4, 7, 3), dtype=np.float32)
    colour = np.array([0.2, 0.5, 3.0])
    rows = light.reshape(4, -1) * surface.in_row(colour, 7)
    np.testing.assert_array_equal(rows.reshape(4, 7, 3), light * colour.astype(np.float32))
    np.testing.assert_array_equal(surface.in_row(0.25, 2), np.full(6, 0.25, np.float32))


FAULTS = """
import resource
from data_pipeline.synthetic.drawn import DrawnSource
source, faults = DrawnSource(), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for index in range(20):
    source[index]
before = faults()
for index in range(20):
    source[index]
print((faults() - before) / 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about Linux's memory")
def test_drawing_does_not_ask_for_its_memory_again_and_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 150  # 628 without `_keep_memory`, 2 with it
