"""Names of results: safe on every file system, and never given twice."""

import pytest

from lpdiff_jax.restoring.names import Names, safe_name, sample_name


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("苏E·905L1", "苏E·905L1"),
        ("a/b:c", "a_b_c"),
        ("car~2", "car_2"),
        ("  dots. ", "dots"),
        ("", "unnamed"),
        ("CON.x", "_CON.x"),
        ("line\nbreak", "line_break"),
        ("raw\udcff", "raw_"),
    ],
)
def test_names_are_good_as_file_names(wanted, name):
    assert safe_name(wanted) == name


def test_long_names_are_cut_and_stay_different():
    one, other = safe_name("车" * 200 + "a"), safe_name("车" * 200 + "b")
    assert one != other
    assert all(150 < len(name.encode()) <= 180 for name in (one, other))


def test_no_name_is_given_twice_whatever_its_case():
    names = Names()
    given = [names.give(w, s) for w, s in (("car", "x"), ("CAR", "y"), ("car-2", "z"))]
    assert given == ["car", "CAR-2", "car-2-2"]
    assert names.give("CAR", "y") == "CAR-2"


def test_a_sample_is_called_like_no_group():
    names = Names()
    samples = {sample_name(names.give("car", "x"), k) for k in (1, 2, 3)}
    groups = {names.give(w, w) for w in ("car_2", "car~2", "car-2")}
    assert samples == {"car", "car~2", "car~3"}
    assert not samples & groups
