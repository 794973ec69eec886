"""Files that an index names: picked, found and refused alike in every layout that has an index."""

import math
from pathlib import Path

import pytest

from plateline.errors import SourceError
from plateline.layouts import named

HERE = Path("plate")


@pytest.mark.parametrize("wanted", ["", "a/b", "b"])
def test_the_only_choice_needs_no_name(wanted):
    assert named.pick_one({"a/b": "x"}, wanted, what="things", key="k", source=HERE) == "x"


@pytest.mark.parametrize(
    ("choices", "wanted"), [({}, ""), ({"a": "x"}, "b"), ({"a": "x", "b": "y"}, ""), ({"1/a": "x", "2/a": "y"}, "a")]
)
def test_a_choice_that_is_not_one_is_refused_with_the_names(choices, wanted):
    with pytest.raises(SourceError, match=rf"plate holds {len(choices)} things: .*; k is '{wanted}' and must name one"):
        named.pick_one(choices, wanted, what="things", key="k", source=HERE)


def test_a_whole_name_stands_above_the_last_part_of_another():
    assert named.pick_one({"a": "x", "1/a": "y"}, "a", what="things", key="k", source=HERE) == "x"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.tif", "i/a.tif"),
        (" a.tif ", "i/a.tif"),
        ("s\\a.tif", "i/s/a.tif"),
        ("s/../a.tif", "i/a.tif"),
        ("./a.tif", "i/a.tif"),
        ("a..tif", "i/a..tif"),
        ("", ""),
        (".", ""),
    ],
)
def test_a_name_is_taken_from_the_folder_of_the_index(text, path):
    assert named.inside(text, "i/index.xml", HERE) == path


@pytest.mark.parametrize("text", ["..", "../a", "s/../../a", "/a", "\\a", "C:a", "c:\\a", "//s/a", "https://s/a"])
def test_a_name_outside_the_folder_of_the_index_is_refused(text):
    with pytest.raises(SourceError, match="outside its own folder"):
        named.inside(text, "i/index.xml", HERE)


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (1, 4), (None, None), (0, 0), (8, None)])
def test_the_declared_plate_passes_where_it_contradicts_nothing(rows, columns):
    named.check_shape(rows, columns, 96, "i.xml")


def test_a_plate_of_another_shape_is_refused():
    with pytest.raises(SourceError, match="4 x 6 = 24 wells; the plate sheet says 96"):
        named.check_shape(4, 6, 96, "i.xml")


def test_a_well_that_the_plate_lacks_is_refused():
    assert named.place("r2c3", 96, "i.xml") == "B03"
    with pytest.raises(SourceError, match=r"i.xml: .*correct `shape`"):
        named.place("R9C1", 96, "i.xml")


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), (" 07 ", 7), ("0", 0), ("-1", None), ("1.0", None), (None, None)]
)
def test_whole_numbers_are_digits(text, number):
    assert named.whole(text) == number


@pytest.mark.parametrize(
    ("text", "unit", "micrometres"),
    [
        ("2", "um", 2),
        ("2e-6", "m", 2),
        ("2", "nm", 0.002),
        ("x", "um", math.nan),
        ("2", "ell", math.nan),
        ("inf", "m", math.nan),
    ],
)
def test_numbers_have_a_unit_that_is_known(text, unit, micrometres):
    assert named.number(text, unit, named.MICROMETRES) == pytest.approx(micrometres, nan_ok=True)
    assert math.isnan(named.number(None))


def test_a_pixel_has_one_side():
    assert named.side(0.5, 0.5001) == 0.5
    assert math.isnan(named.side(0.5, 0.6))
    assert math.isnan(named.side(0, 0))
    assert math.isnan(named.side(math.nan, 0.5))


def test_files_of_an_index_that_was_not_picked_are_told_apart():
    left_out = named.not_named(
        ["a/1.tif", "a/2.tif", "b/1.tif", "3.tif", "b/x.txt"], {"A/1.TIF"}, "a/i.xml", ["b/i.xml"]
    )
    assert left_out == [
        ("a/2.tif", "a/i.xml does not name it"),
        ("b/1.tif", "of b/i.xml, not picked"),
        ("3.tif", "a/i.xml does not name it"),
    ]
