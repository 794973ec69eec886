"""Names of wells and identity columns: every usual spelling of every well of every shape, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateline.errors import PlatelineError
from plateline.identity import (
    CELL,
    FIELD,
    NO_FIELD,
    SHAPES,
    channel_numbers,
    features_of,
    fit_shape,
    is_feature,
    parse_well,
    readouts_of,
    row_letters,
    row_number,
    split_well,
    well_name,
)


def naive_letters(row):
    """Counts rows the way a spreadsheet does."""
    letters = [chr(65 + n) for n in range(26)] + ["A" + chr(65 + n) for n in range(6)]
    return letters[row]


def spellings(row, column):
    letters = naive_letters(row)
    yield from (f"{letters}{column + 1}", f"{letters}{column + 1:02d}", f"{letters}{column + 1:03d}")
    yield from (f"{letters.lower()}{column + 1:02d}", f"  {letters}{column + 1}\t")
    yield from (f"r{row + 1:02d}c{column + 1:02d}", f"R{row + 1}C{column + 1}", f"r{row + 1:03d}c{column + 1:03d}")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_spelling_of_every_well(shape):
    rows, columns = SHAPES[shape]
    assert rows * columns == shape
    for row in range(rows):
        for column in range(columns):
            name = f"{naive_letters(row)}{column + 1:02d}"
            assert {parse_well(text, shape) for text in spellings(row, column)} == {name}
            assert well_name(row, column) == name
            assert split_well(name) == (naive_letters(row), f"{column + 1:02d}")


@pytest.mark.parametrize("row", range(32))
def test_row_letters_both_ways(row):
    assert row_letters(row) == naive_letters(row)
    assert row_number(naive_letters(row)) == row_number(naive_letters(row).lower()) == row


@pytest.mark.parametrize(
    "text", ["", "A", "1", "A0", "A00", "A123", "AG01", "BA01", "A-1", "A1.5", "r1c", "c1r1", "nan"]
)
def test_what_is_no_well_is_refused(text):
    with pytest.raises(
        PlatelineError, match=r"is not a well; expected a name like A01|is not on a plate of 1536 wells"
    ):
        parse_well(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_wells_beyond_the_plate_are_refused(shape):
    rows, columns = SHAPES[shape]
    last = f"A01 to {well_name(rows - 1, columns - 1)}"
    beyond = [f"A{columns + 1:02d}", f"r{rows + 1}c1", "r0c1", "r1c0"]
    for text in beyond:
        with pytest.raises(PlatelineError, match=f"well '{text}' is not on a plate of {shape} wells; expected {last}"):
            parse_well(text, shape)


@given(st.text(max_size=8), st.sampled_from(list(SHAPES)))
def test_any_text_is_a_canonical_well_or_refused(text, shape):
    try:
        well = parse_well(text, shape)
    except PlatelineError:
        return
    assert re.fullmatch(r"(A?[A-Z])\d\d", well)
    assert parse_well(well, shape) == well


@given(st.integers(0, 31), st.integers(0, 47))
def test_smallest_shape_that_holds_a_well(row, column):
    shape = fit_shape([well_name(row, column)])
    holding = [n for n, (rows, columns) in SHAPES.items() if row < rows and column < columns]
    assert shape == min(holding)


def test_shape_of_several_wells_and_of_none():
    assert fit_shape(["A01", "H12"]) == 96
    assert fit_shape(["P01", "A24"]) == 384
    assert fit_shape([]) == 96


def test_features_are_what_has_no_prefix():
    columns = [*CELL, "Nuclei_AreaShape_Area", "Metadata_Readout_x", "dino_0"]
    assert features_of(columns) == ["Nuclei_AreaShape_Area", "dino_0"]
    assert [is_feature(column) for column in columns].count(True) == 2
    assert set(FIELD) < set(NO_FIELD)


def test_readouts_in_order_the_first_before_the_others():
    columns = ["Metadata_Well", "Metadata_Readout_b", "x", "Metadata_Readout_a", "Metadata_Readout_c"]
    assert readouts_of(columns) == ["b", "a", "c"]
    assert readouts_of(columns, first="c") == ["c", "b", "a"]
    assert readouts_of(columns, first="absent") == ["b", "a", "c"]
    assert readouts_of([]) == []


def test_channel_numbers():
    assert channel_numbers(["FKHR", "DNA"], ["DNA", "FKHR", "DNA"], key="segment", plate="P1") == [1, 0, 1]
    assert channel_numbers(["FKHR"], [], key="segment", plate="P1") == []
    with pytest.raises(PlatelineError, match="segment: plate P1 has no channel 'DAPI'; it has FKHR, DNA"):
        channel_numbers(["FKHR", "DNA"], ["DNA", "DAPI"], key="segment", plate="P1")
