"""Plate maps as people have them: tables, grids of every shape, Broad folders, and what spreadsheets did to them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import config, store
from plateline.errors import ConfigError, PlatemapError
from plateline.identity import SHAPES, parse_well, row_letters, well_name
from plateline.platemap import read_map, tidy
from plateline.platemap.mangled import damage


def grid(shape, name="Compound", value=lambda well: well):
    """Lines of a grid with its name in the corner."""
    rows, columns = SHAPES[shape]
    body = [[row_letters(r), *[value(well_name(r, c)) for c in range(columns)]] for r in range(rows)]
    return [[name, *[str(c + 1) for c in range(columns)]], *body]


def sheet(lines):
    width = max(map(len, lines), default=0)
    return pd.DataFrame([[*line, *[""] * (width - len(line))] for line in lines], columns=range(width), dtype=object)


def read(lines, shape=96):
    return read_map({"": sheet(lines)}, plate="P1", shape=shape)[0]


def tidied(raw, shape=96, columns=None, controls=None, unit=""):
    return tidy(pd.DataFrame(raw), plate="P1", shape=shape, columns=columns or {}, controls=controls or {}, unit=unit)


# --- grids


@pytest.mark.parametrize("shape", list(SHAPES))
def test_grids_of_every_shape_are_the_same_as_a_table(shape):
    rows, columns = SHAPES[shape]
    wells = [well_name(r, c) for r in range(rows) for c in range(columns)]
    raw = read([*grid(shape), [], *grid(shape, "Concentration_uM", lambda _: "2")], shape)
    table = pd.DataFrame({"Well": wells, "Compound": wells, "Concentration_uM": "2"}, dtype=object)
    pd.testing.assert_frame_equal(raw, table)
    assert set(tidied(raw, shape)["Metadata_ConcentrationUnit"]) == {"uM"}


@pytest.mark.parametrize("layout", ["corner", "above", "above, far", "beside", "lower case", "1.0"])
def test_the_name_of_a_grid_and_where_it_stands(layout):
    first, second = grid(6), grid(6, "Dose [nM]", lambda _: "5")
    lines = [*first, [], *second]
    if layout.startswith("above"):
        first[0][0], second[0][0] = "", "<>"
        far = ["", "Compound"] if layout.endswith("far") else ["Compound"]
        lines = [far, *first, [], ["Dose [nM]"], *second]
    elif layout == "beside":
        lines = [a + b for a, b in zip(first, second, strict=True)]
    elif layout == "lower case":
        lines = [[first[0][0], "01", "02", "03"], *[[row[0].lower(), *row[1:]] for row in first[1:]], [], *second]
    elif layout == "1.0":
        lines = [[first[0][0], "1.0", "2.0", "3.0"], *first[1:], [], *second]
    raw = read(lines, 6)
    assert list(raw.columns) == ["Well", "Compound", "Dose [nM]"]
    assert raw["Compound"].tolist() == raw["Well"].tolist() == ["A01", "A02", "A03", "B01", "B02", "B03"]
    assert set(raw["Dose [nM]"]) == {"5"}


def test_values_that_look_like_a_grid_are_values():
    lines = [["Dose", "1", "2", "3"], ["A", "1", "2", "3"], ["B", "1", "2", "3"]]
    assert read(lines, 6)["Dose"].tolist() == ["1", "2", "3"] * 2


def test_a_well_blank_on_every_grid_is_not_on_the_map():
    raw = read(
        [*grid(6, value=lambda w: "" if w == "A02" else "x"), *grid(6, "Dose", lambda w: "" if w < "B" else "1")], 6
    )
    assert raw["Well"].tolist() == ["A01", "A03", "B01", "B02", "B03"]


def test_workbooks_of_grids(tmp_path):
    path = tmp_path / "map.xlsx"
    nameless = grid(6)
    nameless[0][0] = ""
    with pd.ExcelWriter(path, engine="openpyxl") as file:
        sheet(nameless).to_excel(file, sheet_name="Compound", header=False, index=False)
        dose = [[None, 1, 2, 3], ["A", 1, 2, 3], ["B", 0.5, 5, 6]]
        pd.DataFrame(dose).to_excel(file, sheet_name="Concentration_nM", header=False, index=False)
        sheet([["kept by Ann"]]).to_excel(file, sheet_name="Notes", header=False, index=False)
        sheet([]).to_excel(file, sheet_name="Sheet4", header=False, index=False)
    raw, unread = read_map(store.read_sheets(path), plate="P1", shape=6)
    assert unread == ["Notes"]
    assert tidied(raw, 6)["Metadata_Treatment"].tolist()[2:4] == ["A03@3 nM", "B01@0.5 nM"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "plate map of P1 is empty"),
        ([["", ""]], "plate map of P1 is empty"),
        ([["Well", "", ""], ["A01", "x", ""]], r"a column with values such as 'x' has no name; expected .*\['Well'\]"),
        (grid(6, ""), "the grid at cell A1 has no name; write what it holds"),
        ([[], ["", *[""] * 26], *[["", *row] for row in grid(6, "Row")]], "the grid at cell B3 has no name"),
        (grid(24), "grid 'Compound' at cell A1 has 4 rows and 6 columns; expected 2 and 3 of a plate of 6 wells"),
        ([*grid(6), [], *grid(6)], "more than one grid 'Compound'"),
        ([["Well"], *grid(6, "")], "more than one grid 'Well', or one named Well"),
        ([*grid(6), ["made by Ann"]], r"cell A4 holds 'made by Ann', outside the grids \(1 such cells\)"),
        ([["plan"], *grid(6)], "cell A1 holds 'plan', outside the grids"),
        ([*grid(6), ["", *[""] * 27, "x"]], "cell AC4 holds 'x'"),
    ],
)
def test_maps_that_cannot_be_meant_are_refused(lines, message):
    with pytest.raises(PlatemapError, match=message):
        read(lines, 6)


def test_a_table_keeps_every_cell(tmp_path):
    (tmp_path / "map.csv").write_text("\n\nWell,Compound,\nA01,x,\n\nA02,,\n")
    raw, unread = read_map(store.read_sheets(tmp_path / "map.csv"), plate="P1", shape=96)
    assert raw.to_numpy().tolist() == [["A01", "x"], ["A02", ""]]
    assert unread == []
    (tmp_path / "map.csv").write_text("Well,Compound\nA01,x,y\n")
    with pytest.raises(PlatemapError, match="such as 'y' has no name"):
        read_map(store.read_sheets(tmp_path / "map.csv"), plate="P1", shape=96)


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b'a\n"x'), ("a.csv", b"\xb5"), ("a.xlsx", b"PK"), ("gone.tsv", None)]
)
def test_files_that_are_no_sheets_are_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlatemapError, match=rf"(?s)plate map .*{name} cannot be read as a table .*; expected CSV"):
        store.read_sheets(tmp_path / name)


WORDS = st.one_of(
    st.sampled_from(
        ["", "1", "2", "3", "A", "B", "Well", "A01", "Compound", "Concentration_uM", "10 uM", "2-Sep", "1E5"]
    ),
    st.text(max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=6), max_size=7), st.sampled_from([6, 96]))
def test_any_cells_are_read_whole_or_refused(lines, shape):
    try:
        raw = read(lines, shape)
    except PlatemapError:
        return
    cells = sum(bool(cell.strip()) for line in lines for cell in line)
    grids = sum(line[i + 1 : i + 4] == ["1", "2", "3"] for line in lines for i in range(len(line)))
    if not grids:
        assert (raw != "").to_numpy().sum() + len(raw.columns) == cells
    try:
        wells = tidied(raw, shape)
    except PlatemapError:
        return
    assert len(wells) == len(raw)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([6, 12, 24]))
def test_grids_give_back_every_value(data, shape):
    rows, columns = SHAPES[shape]
    values = {
        well_name(r, c): data.draw(st.sampled_from(["", "1", "A", "B", "x", "02", "Row"]))
        for r in range(rows)
        for c in range(columns)
    }
    raw = read(grid(shape, "Compound", values.get), shape)
    assert dict(zip(raw["Well"], raw["Compound"], strict=True)) == {well: v for well, v in values.items() if v}


# --- words of others


def test_broad_columns_are_understood():
    raw = {"plate_map_name": ["m"], "well_position": ["a1"], "broad_sample": ["BRD-K1"], "mmoles_per_liter": ["0.01"]}
    well = tidied(raw).iloc[0]
    assert well["Metadata_Treatment"] == "BRD-K1@0.01 mM"
    assert well["Metadata_log10_molar"] == pytest.approx(-5)
    assert well["Metadata_plate_map_name"] == "m"
    named = tidied(raw | {"Compound": ["mine"]}).iloc[0]
    assert named[["Metadata_Compound", "Metadata_broad_sample"]].tolist() == ["mine", "BRD-K1"]


@pytest.mark.parametrize(
    ("pert", "control", "ours"),
    [
        ("trt", "", "sample"),
        ("control", "negcon", "negative"),
        ("control", "poscon_diverse", "reference"),
        ("poscon", "", "positive"),
        ("trt", "poscon_cp", "positive"),
        ("", "", "untreated"),
        ("empty", "", "untreated"),
    ],
)
def test_jumps_columns_are_read(pert, control, ours):
    well = tidied({"Well": ["A01"], "pert_type": [pert], "Metadata_control_type": [control]}).iloc[0]
    assert well["Metadata_ControlType"] == ours
    assert (well["Metadata_pert_type"], well["Metadata_control_type"])[pert == ""] == (pert or "empty")


@pytest.mark.parametrize(
    ("ours", "pert", "control"),
    [
        ("negative", "control", "negcon"),
        ("sample", "trt", ""),
        ("exclude", "", ""),
        ("reference", "control", "poscon_diverse"),
    ],
)
def test_jumps_columns_are_written_and_read_back(ours, pert, control):
    well = tidied({"Well": ["A01"], "ControlType": [ours]}).iloc[0]
    assert well[["Metadata_pert_type", "Metadata_control_type"]].tolist() == [pert, control]
    if pert:
        back = tidied({"Well": ["A01"], "pert_type": [pert], "control_type": [control]})
        assert back["Metadata_ControlType"].tolist() == [ours]


def test_columns_of_control_types_that_contradict_are_refused():
    raw = {"Well": ["A01"], "pert_type": ["poscon"], "control_type": ["negcon"]}
    with pytest.raises(PlatemapError, match=r"well A01: its columns .* say both positive and negative"):
        tidied(raw)
    with pytest.raises(PlatemapError, match="control type 'control' is unknown"):
        tidied({"Well": ["A01"], "pert_type": ["control"]})


def test_a_compound_may_name_a_control():
    wells = tidied({"Well": ["A01", "A02"], "Compound": ["dmso", "x"]}, controls={"DMSO": "negative"})
    assert wells["Metadata_ControlType"].tolist() == ["negative", "sample"]


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("Concentration_uM", "uM"),
        ("conc (µM)", "uM"),
        ("Dose [nm]", "nM"),
        ("Concentration-M", "M"),
        ("conc_mM", "mM"),
        ("Concentration_mg_per_mL", "mg/mL"),
        ("Concentration micromolar", "uM"),
        ("Metadata_Conc_pM", "pM"),
    ],
)
def test_units_in_the_header(header, unit):
    well = tidied({"Well": ["A01", "A02"], "Compound": ["x", "y"], header: ["5", ""]}).iloc[0]
    assert well["Metadata_Treatment"] == f"x@5 {unit}"
    mapped = tidied({"Well": ["A01"], header: ["5"]}, columns={header: "Concentration"})
    assert mapped["Metadata_ConcentrationUnit"].tolist() == [unit]


@pytest.mark.parametrize("text", ["10 uM", "10uM", "1e1 µM", "10.0 um"])
def test_units_beside_the_number(text):
    well = tidied({"Well": ["A01"], "Compound": ["x"], "Concentration": [text]}).iloc[0]
    assert well["Metadata_Treatment"] == "x@10 uM"


def test_two_units_are_refused():
    raw = {"Well": ["B3"], "Concentration_uM": ["10 nM"]}
    with pytest.raises(PlatemapError, match="well B03: concentration has the units 'nM' and 'uM'"):
        tidied(raw)
    with pytest.raises(PlatemapError, match="more than one column"):
        tidied({"Well": ["B3"], "Concentration_uM": ["1"], "Concentration_nM": ["1"]})


def test_one_dose_in_two_units_becomes_one_treatment():
    raw = {"Well": ["A1", "A2", "A3"], "Compound": "x", "Concentration": ["100 nM", "0.1 uM", "1 mg/mL"]}
    wells = tidied(raw, unit="nM")
    assert wells["Metadata_Treatment"].tolist() == ["x@100 nM", "x@100 nM", "x@1 mg/mL"]
    np.testing.assert_allclose(wells["Metadata_log10_molar"], [-7, -7, np.nan])


# --- what spreadsheets do


DATES = ["2-Sep", "Sep-02", "1 March 2024", "2024-09-02 00:00:00", "9/2/24"]
DAMAGED = [*DATES, "1E5", "1.00E+05", "2,31E+19", "#REF!", "#N/A", "####"]


@pytest.mark.parametrize("text", DAMAGED)
def test_mangled_names_are_refused_by_well_and_column(text):
    assert damage(text)
    with pytest.raises(PlatemapError, match=r"well B02, column Compound: got .*; it .*\(1 such wells\)"):
        tidied({"Well": ["A1", "b2"], "Compound": ["x", text]})
    with pytest.raises(PlatemapError, match=r"column Well: .* is not a well; .*; it"):
        tidied({"Well": ["A1", text]})


def test_an_error_is_refused_in_any_column_a_date_only_in_names():
    assert tidied({"Well": ["A01"], "Seeded": ["2024-09-02"]})["Metadata_Seeded"].tolist() == ["2024-09-02"]
    with pytest.raises(PlatemapError, match="column Seeded: got '#REF!'; it is an error"):
        tidied({"Well": ["A01"], "Seeded": ["#REF!"]})
    with pytest.raises(PlatemapError, match=r"concentration '1-May' is no number; .*: it looks like a date"):
        tidied({"Well": ["A01"], "Concentration": ["1-May"]})


def test_lost_leading_zeros_are_refused_where_others_have_them():
    with pytest.raises(PlatemapError, match="well A02, column Compound: got '345'; others have 4 digits, as '0012'"):
        tidied({"Well": ["A01", "A02"], "Compound": ["0012", "345"]})
    assert len(tidied({"Well": ["A01", "A02", "A03"], "Compound": ["0012", "1345", "x"]})) == 3
    with pytest.raises(PlatemapError, match=r"only of \['17'\] \(a spreadsheet may have taken leading zeros\)"):
        tidy(pd.DataFrame({"Well": ["A01"], "Plate": ["17"]}), plate="0017", shape=96, columns={}, controls={})


@pytest.mark.parametrize(
    "text", ["BRD-K1", "DMSO", "5-FU", "17-AAG", "SEP-02", "A1E5", "x", "may", "2-deoxyglucose", "E64"]
)
def test_names_of_compounds_are_no_damage(text):
    assert damage(text) == ""


# --- Broad folders


def broad(folder, text):
    table = folder / "barcode_platemap.csv"
    table.write_text(text)
    (folder / "platemap").mkdir(exist_ok=True)
    (folder / "platemap" / "C1.txt").write_text("plate_map_name\twell_position\tbroad_sample\nC1\tA01\tBRD-1\n")
    return {"plate": "P1", "platemap": str(table)}


HEADER = "Assay_Plate_Barcode,Plate_Map_Name\n"


def test_a_plate_finds_its_map_by_name_or_barcode(tmp_path):
    line = broad(tmp_path, HEADER + "P1,C1\n0017,C1.txt\nP2,C2\n")
    expected = str(tmp_path / "platemap" / "C1.txt")
    assert config.platemap_of(line) == expected
    assert config.platemap_of(line | {"barcode": "", "plate": "P1"}) == expected
    assert config.platemap_of(line | {"barcode": "0017"}) == expected
    assert config.platemap_of({"plate": "P1", "platemap": "map.csv"}) == "map.csv"
    raw, _ = read_map(store.read_sheets(expected), plate="P1", shape=96)
    assert tidied(raw)["Metadata_Compound"].tolist() == ["BRD-1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "17,C1\nP2,C1\n", r"has no barcode '0017' \(it has 17\); expected the plate's name or"),
        (HEADER + "0017,C1\n0017,C2\n", "barcode '0017' has the plate map 'C1 and C2'"),
        (HEADER + "0017,../C1\n", "expected one name of a file"),
        (HEADER + "0017,\n", "expected one name of a file"),
        (HEADER + "0017\n", "cannot be read"),
        ("Barcode,Map\n0017,C1\n", "cannot be read .* expected a CSV with Assay_Plate_Barcode and Plate_Map_Name"),
        (HEADER + '"0017,C1\n', "cannot be read"),
    ],
)
def test_barcodes_that_lead_nowhere_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        config.platemap_of(broad(tmp_path, text) | {"barcode": "0017"})
    with pytest.raises(ConfigError, match="cannot be read"):
        config.platemap_of({"plate": "P1", "platemap": str(Path("gone", "barcode_platemap.csv"))})


def test_the_real_map_reads_through_sheets():
    path = Path(__file__).parents[1] / "resources" / "bbbc013" / "platemap.csv"
    raw, unread = read_map(store.read_sheets(path), plate="bbbc013", shape=96)
    assert unread == []
    expected = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert raw.to_numpy().tolist() == expected.to_numpy().tolist()
    assert [parse_well(well) for well in raw["Well"]] == sorted(parse_well(well) for well in raw["Well"])
