"""Plates drawn from their text: layout, colours, texts, style files."""

import dataclasses
import itertools
import json

import cv2
import numpy as np
import pytest

from data_pipeline.errors import DataError
from data_pipeline.synthetic.lettering import (
    ENERGY,
    NOTO,
    ROBOTO,
    STROKES,
    Lettering,
    glyph,
    varied_lettering,
)
from data_pipeline.synthetic.plates import draw_plate
from data_pipeline.synthetic.strokes import draw_letter
from data_pipeline.synthetic.styles import load_style, style_names
from data_pipeline.synthetic.texts import LETTERS, PROVINCES, matches, sample_text

CHINESE = [name for name in style_names() if name.startswith("cn-")]


@pytest.mark.parametrize("name", style_names())
@pytest.mark.parametrize("uniform", [False, True])
def test_every_style_draws_its_own_texts(name: str, uniform: bool) -> None:
    style = load_style(name)
    rng = np.random.default_rng(1)
    for _ in range(20):
        text = sample_text(style, rng, uniform)
        assert matches(style, text)
        plate = draw_plate(text, style)
        assert plate.shape == (style.size[1], style.size[0], 4)
        assert plate.dtype == np.uint8


@pytest.mark.parametrize("province", PROVINCES)
def test_every_province_has_ink_in_its_box(province: str) -> None:
    style = load_style("cn-blue")
    plate = draw_plate(f"{province}A12345", style)
    box = plate[25:115, 16:61, :3]
    white = (box > 128).all(axis=-1)
    assert 0.15 < white.mean() < 0.75
    rows = np.flatnonzero(white.any(axis=1))
    assert rows[-1] - rows[0] > 85  # the glyph fills the height of its box


def test_the_31_provinces() -> None:
    assert len(PROVINCES) == 31
    assert not set("IO") & set(LETTERS)


@pytest.mark.parametrize("name", ["cn-blue", "cn-yellow", "cn-learner", "cn-police"])
def test_seven_character_layout_is_the_standard_s(name: str) -> None:
    style = load_style(name)
    assert style.size == (440, 140)
    assert {box[2:] for box in style.boxes} == {(45, 90)}
    edges = [(box[0], box[0] + box[2]) for box in style.boxes]
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(edges)]
    assert gaps == [12, 34, 12, 12, 12, 12]
    assert edges[0][0] == 440 - edges[-1][1] == 15.5


def test_eight_character_layout_is_the_standard_s() -> None:
    style = load_style("cn-green")
    assert style.size == (480, 140)
    assert [box[2] for box in style.boxes] == [45] + [43] * 7
    edges = [(box[0], box[0] + box[2]) for box in style.boxes]
    gaps = [right[0] - left[1] for left, right in itertools.pairwise(edges)]
    assert gaps == [9, 49, 9, 9, 9, 9, 9]


def test_colours_and_separator() -> None:
    blue = draw_plate("京A12345", load_style("cn-blue"))
    assert blue[70, 134, :3].min() > 240  # the dot between the second and third characters
    ground = blue[20, 134, :3].astype(int)
    assert ground[2] > 150 > ground[0] + 50
    yellow = draw_plate("京A12345", load_style("cn-yellow"))
    assert yellow[70, 134, :3].max() < 40
    assert (yellow[20, 134, :3] == (245, 180, 0)).all()
    green = draw_plate("京AD12345", load_style("cn-green"))
    top, bottom = (green[y, 240, :3].astype(int) for y in (10, 130))
    assert top.min() > 200 and bottom[1] > bottom[0] + 60
    assert blue[0, 0, 3] == 0 and blue[70, 220, 3] == 255  # rounded corners


def test_the_blue_one_is_a_bar_and_the_green_one_is_not() -> None:
    bar, drawn = glyph("1", 45, 90, True), glyph("1", 45, 90)
    assert len(np.unique(bar, axis=0)) == 1
    assert len(np.unique(drawn, axis=0)) > 1


@pytest.mark.parametrize("character", "8M皖")
@pytest.mark.parametrize(
    ("bar", "font"), [(False, NOTO), (False, ROBOTO), (False, STROKES), (True, NOTO)]
)
def test_wider_strokes_cover_more(character: str, bar: bool, font: str) -> None:
    cover = [glyph(character, 45, 90, bar, stroke, font).mean() for stroke in (-3, -1, 0, 1, 2)]
    assert cover == sorted(cover) and cover[-1] > 1.25 * cover[0]
    assert glyph(character, 45, 90, bar, -3, font).max() > 0.5  # thin strokes are still there


def test_a_stroke_is_given_in_millimetres() -> None:
    widths = [(glyph("I", 45, 90, False, stroke)[45] > 0.5).sum() for stroke in (-2, 0, 2)]
    assert np.diff(widths) == pytest.approx([2, 2], abs=1)


@pytest.mark.parametrize(
    "changed",
    [
        {"latin": ROBOTO},
        {"latin": NOTO},
        {"bend": 2.0},
        {"width": 0.9},
        {"height": 0.9},
        {"fade": 0.3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_lettering_changes_the_characters_alone(changed: dict) -> None:
    style = load_style("cn-blue")
    lettering = Lettering(**{"latin": STROKES} | changed)
    plain, other = draw_plate("京A12345", style), draw_plate("京A12345", style, 1.0, lettering)
    change = np.abs(plain.astype(int) - other).max(axis=-1)
    assert change[20:120, 10:430].mean() > 2
    assert change[:14].max() == change[126:].max() == 0


@pytest.mark.parametrize("character", "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
def test_strokes_fill_their_box_at_one_width(character: str) -> None:
    drawn, wider = draw_letter(character), draw_letter(character, 2)
    assert drawn is not None and wider is not None
    assert drawn.shape[0] == 360
    if character in "1I":
        assert drawn.shape[1] == pytest.approx(38, abs=4)
    else:
        assert drawn.shape[1] == pytest.approx(180, abs=12)
    assert drawn[:12].max() == drawn[-12:].max() == 255
    # The widest disc within the letter is at least as wide as its strokes.
    inside = cv2.distanceTransform(np.pad(drawn, 4), cv2.DIST_L2, 5).max()
    assert inside >= 19
    assert (wider > 127).sum() > (drawn > 127).sum()


@pytest.mark.parametrize("alphabet", [STROKES, ENERGY])
def test_strokes_tell_characters_apart(alphabet: str) -> None:
    characters = [*"023456789ABCDEFGHJKLMNPQRSTUVWXYZ", *PROVINCES]
    drawn = {c: glyph(c, 24, 48, latin=alphabet) > 0.5 for c in characters}
    for one, other in itertools.combinations(drawn, 2):
        assert (drawn[one] ^ drawn[other]).sum() > 40, (one, other)


def test_chinese_characters_are_drawn_as_strokes_beside_drawn_letters_alone() -> None:
    fonts = (STROKES, ENERGY, NOTO, ROBOTO)
    strokes, energy, noto, roboto = (glyph("皖", 45, 90, latin=font) for font in fonts)
    np.testing.assert_array_equal(noto, roboto)
    assert np.abs(strokes - noto).mean() > 0.1 and np.abs(strokes - energy).mean() > 0.02
    # The other alphabet has no 警: it is the first one's.
    drawn = (glyph("警", 45, 90, latin=font) for font in (STROKES, ENERGY))
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("character", "皖藏渝")
def test_drawn_characters_have_noto_s_shape_roughly(character: str) -> None:
    def soft(font: str) -> np.ndarray:
        return cv2.GaussianBlur(glyph(character, 45, 90, latin=font), (0, 0), 5.0)

    own = np.corrcoef(soft(STROKES).ravel(), soft(NOTO).ravel())[0, 1]
    others = [
        np.corrcoef(soft(STROKES).ravel(), cv2.flip(soft(NOTO), side).ravel())[0, 1]
        for side in (0, 1)
    ]
    assert own > 0.5 and own > max(others) + 0.1


def test_smaller_characters_stand_in_the_middle_of_their_boxes() -> None:
    box = load_style("cn-blue").boxes[3]
    small = Lettering(width=0.8, height=0.8)
    plate = draw_plate(
        "京A18888", dataclasses.replace(load_style("cn-blue"), relief=0.0), 1.0, small
    )
    ink = (plate[20:120, int(box[0]) - 5 : int(box[0] + box[2]) + 5, 0] > 128).nonzero()
    assert np.ptp(ink[0]) + 1 == pytest.approx(72, abs=1)
    assert np.ptp(ink[1]) + 1 == pytest.approx(36, abs=2)
    assert (ink[0].min() + ink[0].max()) / 2 == pytest.approx(50, abs=1)
    assert (ink[1].min() + ink[1].max()) / 2 == pytest.approx(27, abs=2)


def test_bending_is_given_in_millimetres_and_seeded() -> None:
    bars = dataclasses.replace(load_style("cn-blue"), relief=0.0)

    def edges(bend: float, seed: int, scale: float = 2.0) -> np.ndarray:
        plate = draw_plate("京A11111", bars, scale, Lettering(bend=bend, seed=seed))
        x = round(bars.boxes[3][0] * scale)
        box = plate[int(35 * scale) : int(105 * scale), x : x + int(45 * scale), 0] > 128
        return box.argmax(axis=1) / scale

    straight = edges(0.0, 0)
    stray = np.concatenate([edges(2.0, seed) - straight for seed in range(40)])
    assert 1.0 < stray.std() < 2.2  # between the field's knots it is less than at them
    np.testing.assert_array_equal(edges(2.0, 3), edges(2.0, 3))


def test_faded_paint_lets_the_ground_through() -> None:
    style = dataclasses.replace(load_style("cn-blue"), relief=0.0)
    blank, fresh, pale = (
        draw_plate("京A88888", style, 1.0, Lettering(fade=fade))[30:110, 20:420, :3].astype(int)
        for fade in (1.0, 0.0, 0.5)
    )
    assert np.abs(fresh - blank).max() > 100
    np.testing.assert_allclose(pale - blank, 0.5 * (fresh - blank), atol=1)


def test_varied_letterings_can_all_be_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [varied_lettering(rng) for _ in range(60)]
    assert {one.latin for one in drawn} == {NOTO, ROBOTO, STROKES, ENERGY}
    assert min(one.fade for one in drawn) == 0.0 < max(one.fade for one in drawn) < 1.0
    for name in style_names():
        style = load_style(name)
        for one in drawn[::15]:
            draw_plate(sample_text(style, rng), style, lettering=one)


def test_up_to_two_letters_stand_anywhere_in_the_serial() -> None:
    style = load_style("cn-blue")
    for places in itertools.chain(*(itertools.combinations(range(5), n) for n in range(3))):
        serial = "".join("K" if k in places else "7" for k in range(5))
        assert matches(style, f"京A{serial}"), serial
    for energy in "ABCDEFGHJK":
        assert matches(load_style("cn-green"), f"京A{energy}12345")
        assert matches(load_style("cn-green"), f"京A{energy}M2345")


@pytest.mark.parametrize("character", "Äß国")
def test_a_character_that_the_font_lacks(character: str) -> None:
    with pytest.raises(DataError, match=character):
        glyph(character, 45, 90)


def test_police_character_is_red() -> None:
    plate = draw_plate("京A1234警", load_style("cn-police"))
    x, y, w, h = (int(v) for v in load_style("cn-police").boxes[-1])
    box = plate[y : y + h, x : x + w, :3].astype(int)
    assert ((box[..., 0] - box[..., 1]) > 100).mean() > 0.2


def test_other_countries() -> None:
    france, brazil = load_style("eu-france"), load_style("br-mercosur")
    assert matches(france, "AB123CD") and not matches(france, "AI123CD")
    assert matches(brazil, "ABC1D23") and not matches(brazil, "ABC1234")
    plate = draw_plate("AB123CD", france)
    assert plate.shape[:2] == (110, 520)
    band = plate[100, 30, :3].astype(int)
    assert band[2] > band[0] + 100
    assert plate[55, 164, :3].max() < 60  # the dash after the second letter
    assert draw_plate("ABC1D23", brazil)[15, 100, 2] > 120  # the blue band
    assert not {france.weight, brazil.weight} - {0}  # outside the Chinese mix


def test_embossing_lights_upper_edges_and_shades_lower_ones() -> None:
    style = load_style("cn-yellow")
    flat = draw_plate("京A11111", dataclasses.replace(style, relief=0.0)).astype(int)
    relief = draw_plate("京A11111", style).astype(int)
    change = (relief - flat)[..., :3].mean(axis=-1)
    x = int(style.boxes[3][0] + 22)  # the middle of a bar
    assert change[24, x] > 3 and change[115, x] < -3
    assert change[70, x] == 0 and change[20, 134] == 0
    np.testing.assert_array_equal(relief[..., 3], flat[..., 3])


@pytest.mark.parametrize("text", ["", "京A1234", "京A123456", "XA12345", "京I12345", "京AO2345"])
def test_a_text_that_no_plate_bears(text: str) -> None:
    with pytest.raises(DataError, match="cn-blue"):
        draw_plate(text, load_style("cn-blue"))


def test_frequencies_follow_traffic_unless_uniform() -> None:
    style, rng = load_style("cn-blue"), np.random.default_rng(0)
    real = [sample_text(style, rng)[0] for _ in range(3000)]
    flat = [sample_text(style, rng, uniform=True)[0] for _ in range(3000)]
    total = sum(PROVINCES.values())
    assert abs(real.count("粤") / 3000 - PROVINCES["粤"] / total) < 0.02
    assert abs(flat.count("藏") / 3000 - 1 / 31) < 0.012


def test_unknown_style_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="cn-blue"):
        load_style("atlantis")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[420, 25, 45, 90]], "patterns": {"d": 1}}, "outside"),
        ({"patterns": {"dd": 1}}, "pattern"),
        ({"patterns": {}}, "no patterns"),
        ({"foreground": "white"}, "rrggbb"),
        ({"letters": "gothic"}, "gothic"),
        ({"marks": [{"shape": "heart", "colour": "#ffffff"}]}, "heart"),
        ({"wheels": 4}, "wheels"),
    ],
)
def test_bad_style_file(tmp_path, change: dict, message: str) -> None:
    good = {
        "description": "x", "weight": 0, "size": [440, 140], "background": ["#000000", "#000000"],
        "foreground": "#ffffff", "boxes": [[10, 25, 45, 90]], "patterns": {"d": 1},
    }  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(good), encoding="utf-8")
    assert load_style(str(path)).name == "mine"
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(good | change), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_style(str(bad))
    bad.write_text("{")
    with pytest.raises(DataError, match=r"bad\.json"):
        load_style(str(bad))
