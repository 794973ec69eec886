"""Plate maps: anybody's words become ours, and what cannot be read is refused by well and value."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateline.errors import PlatemapError
from plateline.identity import SHAPES, parse_well, well_name
from plateline.platemap import COLUMNS, CONTROL_TYPES, tidy, whole_plate

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013" / "platemap.csv"


def tidied(raw, columns=None, controls=None, shape=96):
    return tidy(pd.DataFrame(raw), plate="P1", shape=shape, columns=columns or {}, controls=controls or {})


@pytest.fixture(scope="module")
def bbbc013():
    return tidied(pd.read_csv(BBBC013, dtype=str))


def test_real_map(bbbc013):
    assert list(bbbc013.columns) == [*COLUMNS, "Metadata_DoseLevel"]
    assert len(bbbc013) == 96
    counts = bbbc013["Metadata_ControlType"].value_counts().to_dict()
    assert counts == {"sample": 72, "negative": 12, "positive": 8, "untreated": 4}
    wells = bbbc013.set_index("Metadata_Well")
    assert wells.loc["A11", "Metadata_Treatment"] == "wortmannin@250 nM"
    assert wells.loc["E03", "Metadata_Treatment"] == "LY294002@0.3125 uM"
    assert wells.loc["A01", "Metadata_Treatment"] == "DMSO"
    assert wells.loc["H12", "Metadata_Treatment"] == "untreated"
    assert wells.loc["H12", ["Metadata_Row", "Metadata_Column"]].tolist() == ["H", 12]
    assert wells.loc["A11", "Metadata_log10_molar"] == pytest.approx(np.log10(250e-9))
    assert wells.loc["E11", "Metadata_log10_molar"] == pytest.approx(np.log10(80e-6))
    assert wells.loc[wells["Metadata_ControlType"] == "negative", "Metadata_log10_molar"].isna().all()


def test_naive_loop_gives_the_same(bbbc013):
    raw = pd.read_csv(BBBC013, dtype=str, keep_default_na=False)
    scale = {"nM": 1e-9, "uM": 1e-6}
    for _, row in raw.iterrows():
        ours = bbbc013.loc[bbbc013["Metadata_Well"] == parse_well(row["Well"])].iloc[0]
        dose = float(row["Concentration"]) if row["Concentration"] else np.nan
        molar = dose * scale.get(row["ConcentrationUnit"], np.nan)
        np.testing.assert_allclose(ours["Metadata_Concentration"], dose)
        np.testing.assert_allclose(ours["Metadata_log10_molar"], np.log10(molar))


@pytest.mark.parametrize("shape", list(SHAPES))
def test_order_and_spelling_of_the_rows_do_not_matter(shape):
    rows, columns = SHAPES[shape]
    places = [(r, c) for r in range(rows) for c in range(columns)]
    canonical = pd.DataFrame({"Well": [well_name(r, c) for r, c in places], "Compound": [f"c{p}" for p in places]})
    spelled = canonical.assign(Well=[f" r{r + 1:02d}c{c + 1}" for r, c in places]).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(tidied(spelled, shape=shape), tidied(canonical, shape=shape))


@pytest.mark.parametrize("text", ["A1", "a01", "A001", "r01c01", " R1C1 "])
def test_every_spelling_of_a_well(text):
    assert tidied({"Well": [text]})["Metadata_Well"].tolist() == ["A01"]


@pytest.mark.parametrize(
    ("text", "unit", "written", "log10_molar"),
    [
        ("100", "nM", "nM", -7),
        ("0.1", "uM", "uM", -7),
        ("0.1", "µM", "uM", -7),
        ("0.1", "μM", "uM", -7),
        ("1e-4", "mM", "mM", -7),
        ("1E-7", "M", "M", -7),
        ("100000", "pM", "pM", -7),
        ("0.1", "mg/mL", "mg/mL", np.nan),
        ("0.1", "", "", np.nan),
        ("0", "uM", "uM", np.nan),
        ("", "uM", "uM", np.nan),
    ],
)
def test_units(text, unit, written, log10_molar):
    well = tidied({"Well": ["A01"], "Compound": ["x"], "Concentration": [text], "ConcentrationUnit": [unit]}).iloc[0]
    assert well["Metadata_ConcentrationUnit"] == written
    np.testing.assert_allclose(well["Metadata_log10_molar"], log10_molar)
    assert well["Metadata_Treatment"] == (f"x@{float(text):g} {written}".strip() if text else "x")


def test_a_map_of_wells_alone_has_all_columns():
    wells = tidied({"Well": ["B02"]})
    assert list(wells.columns) == COLUMNS
    assert wells.loc[0, ["Metadata_ControlType", "Metadata_Treatment", "Metadata_Compound"]].tolist() == [
        "untreated",
        "untreated",
        "",
    ]


def test_an_empty_map_has_the_schema_of_a_full_one(bbbc013):
    empty = tidied(pd.read_csv(BBBC013, dtype=str).iloc[:0])
    assert empty.empty
    pd.testing.assert_series_equal(empty.dtypes, bbbc013.dtypes)
    wells, left_out = whole_plate(empty, ["A01"], plate="P1")
    assert wells.loc[0, ["Metadata_Plate", "Metadata_ControlType"]].tolist() == ["P1", "exclude"]
    assert left_out.empty
    pd.testing.assert_series_equal(whole_plate(bbbc013, [])[0].dtypes, whole_plate(bbbc013, ["A01"])[0].dtypes)


def test_nan_reads_as_nothing():
    wells = tidied({"Well": ["A01"], "Compound": [np.nan], "Concentration": [np.nan], "ControlType": [None]})
    assert wells.loc[0, "Metadata_ControlType"] == "untreated"
    assert np.isnan(wells.loc[0, "Metadata_Concentration"])


def test_without_control_types_a_compound_makes_a_sample():
    wells = tidied({"Well": ["A01", "A02"], "Compound": ["x", ""]})
    assert wells["Metadata_ControlType"].tolist() == ["sample", "untreated"]


def test_columns_and_controls_in_other_words():
    raw = {"well_position": ["A01", "A02", "A03"], "broad_sample": ["BRD-1", "", "BRD-2"], "pert": ["x", "Veh", "trt"]}
    columns = {"well_position": "Well", "broad_sample": "Compound", "pert": "ControlType"}
    wells = tidied(raw | {"donor": ["d1", " d2 ", ""]}, columns, {"X": "Reference", "veh": "negative"})
    assert wells["Metadata_ControlType"].tolist() == ["reference", "negative", "sample"]
    assert wells["Metadata_donor"].tolist() == ["d1", "d2", ""]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("negcon", "negative"), ("poscon_cp", "positive"), ("poscon_diverse", "reference"), ("TRT", "sample")]
    + [(word.upper(), word) for word in CONTROL_TYPES],
)
def test_words_of_jump_and_of_the_house(theirs, ours):
    assert tidied({"Well": ["A01"], "ControlType": [theirs]})["Metadata_ControlType"].tolist() == [ours]


def test_a_map_of_several_plates_gives_its_own_rows():
    raw = {"Well": ["A01", "A01"], "Plate": ["P1", "P2"], "Compound": ["mine", "theirs"]}
    assert tidied(raw)["Metadata_Compound"].tolist() == ["mine"]
    with pytest.raises(PlatemapError, match=r"no row of plate P1, only of \['P2', 'P3'\]"):
        tidied(raw | {"Plate": ["P2", "P3"]})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"Position": ["A01"]}, r"has no column Well, only \['Position'\]; name it in platemap.columns"),
        ({"Well": ["A01"], "Key": ["x"]}, r"has columns \['Metadata_Key'\], which Plateline fills itself"),
        ({"Well": ["A01"], "Treatment": ["x"]}, r"has columns \['Metadata_Treatment'\]"),
        ({"Well": ["A01"], "Readout_x": ["1"]}, r"has columns \['Metadata_Readout_x'\]"),
        ({"Well": ["A01"], "Metadata_Well": ["A01"]}, r"more than one column \['Metadata_Well'\]"),
        ({"Well": ["A01", "well 2"]}, "plate map of P1, column Well: 'well 2' is not a well"),
        ({"Well": ["A01", ""]}, "plate map of P1, column Well: '' is not a well"),
        ({"Well": ["P24"]}, "'P24' is not on a plate of 96 wells"),
        ({"Well": ["A1", "A01", "r1c1", "B2", "B02"]}, "more than one row for A01, B02"),
        ({"Well": ["A01"], "Concentration": ["high"]}, "well A01: concentration 'high' is no number"),
        ({"Well": ["B3"], "Concentration": ["0,5"]}, "well B03: concentration '0,5' .* decimal with a point"),
        ({"Well": ["B3"], "Concentration": ["-1"]}, "concentration '-1' is no number; expected a number >= 0"),
        ({"Well": ["B3"], "Concentration": ["nan"]}, "concentration 'nan' is no number"),
        ({"Well": ["B3"], "Concentration": ["inf"]}, "concentration 'inf' is no number"),
        ({"Well": ["A01", "C5"], "ControlType": ["negcon", "vehicle"]}, "well C05: control type 'vehicle' .* negative"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(raw, message):
    with pytest.raises(PlatemapError, match=message):
        tidied(raw)


def test_columns_that_the_map_lacks_are_refused():
    with pytest.raises(PlatemapError, match=r"no column \['Dose'\], named in platemap.columns; it has \['Well'\]"):
        tidied({"Well": ["A01"]}, columns={"Dose": "Concentration"})


def test_a_word_for_no_control_type_of_ours_is_refused():
    with pytest.raises(PlatemapError, match="control type 'veh' is unknown"):
        tidied({"Well": ["A01"], "ControlType": ["veh"]}, controls={"veh": "vehicle"})


def test_unknown_wells_enter_no_statistics(bbbc013):
    wells, left_out = whole_plate(bbbc013[bbbc013["Metadata_Well"] != "B01"], ["C01", "B01", "A03"])
    assert wells["Metadata_Well"].tolist() == ["A03", "B01", "C01"]
    unknown = wells.iloc[1]
    assert unknown["Metadata_ControlType"] == "exclude"
    assert unknown["Metadata_Reason"] == "the plate map has no such well"
    assert unknown[["Metadata_Plate", "Metadata_Row", "Metadata_Column"]].tolist() == ["P1", "B", 1]
    assert wells["Metadata_Reason"].tolist()[::2] == ["", ""]
    pd.testing.assert_frame_equal(
        wells.iloc[[0, 2]].drop(columns="Metadata_Reason").reset_index(drop=True),
        bbbc013[bbbc013["Metadata_Well"].isin(["A03", "C01"])].reset_index(drop=True),
    )
    assert len(left_out) == 93
    assert set(left_out["reason"]) == {"the plate has no images of this well"}


@given(st.sets(st.sampled_from(["A01", "A02", "B01", "H12"])), st.sets(st.sampled_from(["A01", "A02", "B01", "H12"])))
def test_every_well_of_map_and_images_is_counted(mapped, imaged):
    table = tidied({"Well": sorted(mapped)})
    wells, left_out = whole_plate(table, sorted(imaged), plate="P1")
    assert wells["Metadata_Well"].tolist() == sorted(imaged)
    assert set(left_out["Metadata_Well"]) == mapped - imaged
    assert set(wells.loc[wells["Metadata_ControlType"] == "exclude", "Metadata_Well"]) == imaged - mapped
    assert set(wells["Metadata_Plate"]) <= {"P1"}


@pytest.mark.parametrize("written", ["uM", "um", "UM", "µM", "μm"])
def test_a_molar_unit_counts_in_any_case(written):
    raw = pd.DataFrame({"Well": ["A1"], "Compound": ["x"], "Concentration": ["2"], "ConcentrationUnit": [written]})
    wells = tidy(raw, plate="P1", shape=96, columns={}, controls={})
    assert wells["Metadata_ConcentrationUnit"].tolist() == ["uM"]
    assert np.isclose(wells["Metadata_log10_molar"].iloc[0], np.log10(2e-6))
