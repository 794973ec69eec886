"""Rows of somebody else's table as wells of a plate: what a row is, what counts, what the table says of its wells."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from plateline import profile, sheet
from plateline.errors import PlatemapError, SourceError
from plateline.profile import aggregate, imported
from plateline.profile.counts import add_background, count_wells

SECTION = {
    "imported": {"rows": "auto", "controls": {"DMSO": "negative"}},
    "shape": "96",
    "batch": "w1",
    "barcode": "",
    "quantities": {},
    "gates": {},
    "readouts": {},
    "min_cells": 0,
    "min_fields": 1,
}


def rows_of(wells, sites=None, counts=None):
    rows = pd.DataFrame({"Metadata_Well": pd.Categorical(wells)})
    rows["Metadata_Site"] = np.zeros(len(rows), int) if sites is None else sites
    rows["Metadata_Timepoint"] = 0
    return rows if counts is None else rows.assign(Metadata_Object_Count=np.asarray(counts, float))


def metadata_of(wells, **columns):
    return pd.DataFrame({"Metadata_Well": sorted(set(wells))} | {f"Metadata_{k}": v for k, v in columns.items()})


def judge(rows, metadata, platemap=None, *, names=(), listed=(), **section):
    return profile.judge_table(
        rows, metadata, platemap, plate="P1", names=list(names), listed=list(listed), section=SECTION | section
    )


# --- what a row is


@pytest.mark.parametrize(
    ("names", "kind"),
    [([], "wells"), (["Metadata_Site"], "fields"), (["Metadata_Site", "Metadata_ObjectNumber"], "cells")],
)
def test_what_a_row_is_follows_from_the_columns(names, kind):
    rows = rows_of(["A01", "A02"], [1, 2])
    assert imported.kind_of_rows(rows, names, chosen="auto", plate="P1") == kind
    assert imported.kind_of_rows(rows, names, chosen="cells", plate="P1") == "cells"


@pytest.mark.parametrize(("chosen", "sites"), [("wells", [1, 2]), ("fields", [1, 1])])
def test_wells_and_fields_stand_once(chosen, sites):
    rows = rows_of(["A01", "A01"], sites)
    with pytest.raises(SourceError, match=rf"plate P1: 1 rows too many for 1 {chosen} \(A01\)"):
        imported.kind_of_rows(rows, [], chosen=chosen, plate="P1")
    assert imported.kind_of_rows(rows, [], chosen="cells", plate="P1") == "cells"


# --- the plate map


def test_the_table_says_what_is_in_its_wells():
    wells = ["A01", "A02", "A03"]
    metadata = metadata_of(
        wells, Compound=["DMSO", "x", None], Concentration_uM=[np.nan, 0.3, np.nan], MoA=["", "m", ""]
    )
    judged = judge(rows_of(wells), metadata)
    assert judged.wells["Metadata_ControlType"].tolist() == ["negative", "sample", "untreated"]
    assert judged.wells["Metadata_Treatment"].tolist() == ["DMSO", "x@0.3 uM", "untreated"]
    assert judged.wells["Metadata_log10_molar"].iloc[1] == pytest.approx(np.log10(3e-7))
    assert judged.wells["Metadata_MoA"].tolist() == ["", "m", ""]
    assert set(judged.wells["Metadata_Batch"]) == {"w1"}
    assert set(judged.wells["Metadata_Barcode"]) == {"P1"}
    told = next(entry for entry in judged.entries if entry[0] == "warning" and len(entry[2]))
    assert told[2]["reason"].tolist() == ["neither a compound nor a control type: no treatment, enters no comparison"]


def test_a_table_of_plateline_itself_comes_back():
    metadata = metadata_of(
        ["A01"], Compound=["x"], Treatment=["x@1 uM"], Status=["ok"], Readout_area=[3.0], Batch=["b"]
    )
    judged = judge(rows_of(["A01"]), metadata)
    assert judged.wells["Metadata_Treatment"].tolist() == ["x"]
    assert "Metadata_Readout_area" not in judged.wells


def test_a_word_that_is_no_control_type_is_refused():
    with pytest.raises(PlatemapError, match="control type 'vehicle' is unknown"):
        judge(rows_of(["A01"]), metadata_of(["A01"], ControlType=["vehicle"]))


def test_the_sheets_plate_map_is_joined():
    platemap = judge(rows_of(["A01", "A02"]), metadata_of(["A01", "A02"], Compound=["DMSO", "x"])).wells
    platemap = platemap.drop(columns=[name for name in platemap if "Count" in name or "Per" in name])
    judged = judge(rows_of(["A02", "B05"]), metadata_of(["A02", "B05"], Compound=["ignored", ""]), platemap)
    wells = judged.wells.set_index("Metadata_Well")
    assert wells["Metadata_Compound"].to_dict() == {"A02": "x", "B05": ""}
    assert wells.loc["B05", "Metadata_ControlType"] == "exclude"
    assert set(wells["Metadata_Batch"]) == {"w1"}
    reasons = [reason for kind, _, *rest in judged.entries if kind == "warning" for reason in rest[0]["reason"]]
    assert "the table has no row of this well" in reasons


# --- what counts


def test_rows_are_excluded_by_hand_and_counted():
    listed = pd.DataFrame(
        {"plate": ["P1", "P1", "P1"], "well": ["A1", "A2", "H12"], "site": ["", "2", ""], "reason": "dirt"}
    )
    rows = rows_of(["A01", "A02", "A02", None], [1, 1, 2, 1])
    judged = judge(rows, metadata_of(["A01", "A02"]), names=["Metadata_Site"], listed=[listed])
    assert judged.kind == "fields"
    assert judged.kept.tolist() == [False, True, False, False]
    counted = next(entry for entry in judged.entries if entry[0] == "count")
    assert counted == ("count", "rows", 4, 1)
    excluded = next(rows for kind, unit, *_rest in judged.entries if kind == "exclusion" for rows in _rest)
    assert excluded["count"].sum() == 3
    assert set(excluded["reason"]) == {"the table names no well", "its field is excluded: by hand: dirt"}


def test_counts_of_wells_fields_and_cells():
    wells = judge(rows_of(["A01", "A02"], counts=[50, 60]), metadata_of(["A01", "A02"], Site_Count=[4, 3])).wells
    assert wells["Metadata_Object_Count"].tolist() == [50, 60]
    assert wells["Metadata_Cells_Per_Field"].tolist() == [12.5, 20]
    rows = rows_of(["A01", "A01", "A02"], [1, 2, 1], counts=[5, 7, 9])
    wells = judge(rows, metadata_of(["A01", "A02"]), names=["Metadata_Site"]).wells
    assert wells["Metadata_Object_Count"].tolist() == [12, 9]
    assert wells["Metadata_Site_Count"].tolist() == [2, 1]
    assert set(wells["Metadata_Sites_Expected"]) == {2}
    rows = rows_of(["A01"] * 3 + ["A02"], [1, 1, 2, 1])
    wells = judge(rows, metadata_of(["A01", "A02"]), names=["Metadata_Site", "Metadata_ObjectNumber"]).wells
    assert wells["Metadata_Object_Count"].tolist() == [3, 1]


def test_what_the_table_does_not_tell_is_not_known_and_not_few():
    judged = judge(rows_of(["A01"]), metadata_of(["A01"], Compound=["x"]))
    assert judged.wells[["Metadata_Object_Count", "Metadata_Site_Count"]].isna().all().all()
    features = pd.DataFrame({"f": [1.0]}, index=["A01"])
    section = SECTION | {"min_cells": 20, "readouts": {"n": "count()", "d": "per_field()"}}
    found, _ = profile.build_profile(judged.cells, judged.wells, features, declared=section, kind=judged.kind)
    assert found["Metadata_Status"].tolist() == ["ok"]
    assert found[["Metadata_Readout_n", "Metadata_Readout_d"]].isna().all().all()


def test_readouts_that_need_cells_say_so():
    judged = judge(rows_of(["A01", "A02"], counts=[10, 20]), metadata_of(["A01", "A02"], Compound=["DMSO", "x"]))
    cells = judged.cells.assign(Nuclei_AreaShape_Area=[1.0, 2.0])
    section = SECTION | {
        "gates": {"big": "Nuclei_AreaShape_Area > 1"},
        "readouts": {
            "area": "median(Nuclei_AreaShape_Area)",
            "big": "percent(big)",
            "n": "count(big)",
            "all": "count()",
        },
    }
    features = cells.set_index("Metadata_Well")[["Nuclei_AreaShape_Area"]]
    found, warned = profile.build_profile(cells, judged.wells, features, declared=section, kind="wells")
    assert found["Metadata_Readout_area"].tolist() == [1, 2]
    assert found["Metadata_Readout_all"].tolist() == [10, 20]
    assert found[["Metadata_Readout_big", "Metadata_Readout_n"]].isna().all().all()
    assert warned["reason"].tolist() == [
        f"readout {name} is not estimable: a row of the table is one of the wells, not a cell" for name in ("big", "n")
    ]


def test_few_fields_keep_a_flagged_row():
    fields = pd.DataFrame({"Metadata_Well": ["A01", "A02", "A02"], "reason": ["", "", ""]})
    platemap = pd.DataFrame({"Metadata_Well": ["A01", "A02"], "Metadata_ControlType": "sample"})
    counts = count_wells(platemap, pd.DataFrame({"Metadata_Well": ["A01", "A02"]}), fields)
    found, _ = profile.build_profile(
        pd.DataFrame({"Metadata_Well": ["A01", "A02"]}), counts, pd.DataFrame(), declared=SECTION | {"min_fields": 2}
    )
    assert found["Metadata_Status"].tolist() == ["few fields", "ok"]
    assert found["Metadata_Reason"].tolist() == ["fewer fields than profile.min_fields = 2", ""]


def test_cells_are_counted_per_valid_area():
    fields = pd.DataFrame({"Metadata_Well": ["A01", "A01", "A02"], "reason": ["", "bad", ""]})
    fields = fields.assign(height=1000, width=500, pixel_size_um=0.5)
    platemap = pd.DataFrame({"Metadata_Well": ["A01", "A02", "A03"]})
    cells = pd.DataFrame({"Metadata_Well": ["A01"] * 5 + ["A02"] * 10})
    found = count_wells(platemap, cells, fields).set_index("Metadata_Well")
    assert found.loc["A01", "Metadata_Valid_Area_mm2"] == pytest.approx(0.125)
    assert found.loc["A01", "Metadata_Cells_Per_mm2"] == pytest.approx(40)
    assert found.loc["A02", "Metadata_Cells_Per_Field"] == 10
    assert found.loc["A03", ["Metadata_Cells_Per_mm2", "Metadata_Cells_Per_Field"]].isna().all()
    assert set(found["Metadata_PixelSize_um"]) == {0.5}


def test_background_is_that_of_valid_fields():
    identity = {
        "Metadata_Plate": "P1",
        "Metadata_Well": ["A01", "A01"],
        "Metadata_Site": [1, 2],
        "Metadata_Timepoint": 0,
    }
    fields = pd.DataFrame(identity | {"reason": ["", "bad"]})
    flags = pd.DataFrame(identity | {"Metadata_Channel": "GFP", "background": [100.0, 900.0]})
    wells = pd.DataFrame({"Metadata_Well": ["A01", "A02"]})
    found = add_background(wells, flags, fields)["Metadata_Background_GFP"]
    assert found.iloc[0] == 100
    assert np.isnan(found.iloc[1])
    assert add_background(wells, flags.drop(columns="background"), fields) is wells


# --- aggregation


def cells(seed=0, number=60):
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(rng.normal(size=(number, 5)), columns=list("abcde"))
    features.iloc[3, 1] = np.nan
    return features, pd.Series(rng.choice(["A01", "A02", "B01"], number))


def aggregated(features, wells, method, **options):
    return aggregate.aggregate_cells(lambda names: features[names], list(features), wells, method, **options)


def test_mad_and_quantiles_against_a_loop():
    features, wells = cells()
    mad, _ = aggregated(features, wells, profile.mad)
    levels, _ = aggregated(features, wells, lambda f, w: profile.quantiles(f, w, levels=[10, 50]))
    for well in ("A01", "A02", "B01"):
        for name in "abcde":
            own = features.loc[wells == well, name].dropna()
            assert mad.loc[well, name] == pytest.approx(np.median(own))
            spread = 1.4826 * np.median(np.abs(own - np.median(own)))
            assert mad.loc[well, f"{name}_MAD"] == pytest.approx(spread)
            assert levels.loc[well, f"{name}_Q10"] == pytest.approx(np.quantile(own, 0.1))
            assert levels.loc[well, f"{name}_Q50"] == pytest.approx(np.median(own))


def test_count_only_has_wells_and_no_features():
    features, wells = cells()
    found, _ = aggregated(features, wells, profile.count_only)
    assert list(found.index) == ["A01", "A02", "B01"]
    assert found.shape[1] == 0


@pytest.mark.parametrize("method", [profile.median, profile.mean, profile.mad])
def test_some_columns_at_a_time_are_the_same(method):
    features, wells = cells()
    whole, _ = aggregated(features, wells, method)
    few, _ = aggregated(features, wells, method, block_bytes=1)
    pd.testing.assert_frame_equal(few[whole.columns], whole)


def test_infinite_values_count_as_missing_and_are_named():
    features, wells = cells()
    features.iloc[[1, 2], 0] = np.inf
    found, infinite = aggregated(features, wells, profile.mean)
    assert np.isfinite(found).all().all()
    assert infinite.to_dict() == {"a": 2, "b": 0, "c": 0, "d": 0, "e": 0}
    told = profile.note_infinite(infinite, len(wells))
    assert told["reason"].tolist() == ["infinite values are taken as missing: 2 in 1 features of 60 rows (a)"]
    assert profile.note_infinite(infinite * 0, 60).empty


def test_features_that_are_all_nan_or_constant_stay():
    features, wells = cells()
    found, _ = aggregated(features.assign(a=np.nan, b=3.0), wells, profile.median)
    assert found["a"].isna().all()
    assert set(found["b"]) == {3.0}


MEMORY = """
import resource, sys
import numpy as np
from plateline import profile, tables
found = tables.open_source([sys.argv[1]], sys.argv[1], plate="P1", barcode="", shape=96, columns={})
rows = tables.read_identity(found)
keep = np.ones(len(rows), bool)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read = lambda names: tables.read_columns(found, names, keep)
wells, _ = profile.aggregate_cells(
    read, found.features, rows["Metadata_Well"].astype(object), profile.median, block_bytes=1 << 23)
print(wells.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024)
"""


def test_a_large_table_of_cells_is_aggregated_in_bounded_memory(tmp_path):
    """160 MB of features, read 8 MB at a time: the process grows by a fraction of the table."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng, step, features = np.random.default_rng(0), 20_000, 100
    schema = pyarrow.schema(
        [("Metadata_Well", pyarrow.string()), *((f"f{i}", pyarrow.float64()) for i in range(features))]
    )
    with parquet.ParquetWriter(tmp_path / "t.parquet", schema, use_dictionary=["Metadata_Well"]) as writer:
        for number in range(10):
            columns = [pyarrow.array([f"A{number + 1:02d}"] * step)]
            columns += [pyarrow.array(rng.integers(0, 9, step).astype(float)) for _ in range(features)]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "t.parquet")], text=True, capture_output=True, check=True
    )
    shape, grown = done.stdout.rsplit(" ", 1)
    assert shape == "(10, 100)"
    assert float(grown) < 80


# --- which files


def test_the_files_of_a_plate(tmp_path):
    for name in ("P1.csv", "P10.csv", "P1.notes.md", "deep/P1_normalized.parquet", "other.csv.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    plate = {"plate": "P1", "source": str(tmp_path)}
    assert sheet.tables_of(plate, "") == [str(tmp_path / "P1.csv")]
    (tmp_path / "P1.csv").unlink()
    assert sheet.tables_of(plate, "") == [str(tmp_path / "deep/P1_normalized.parquet")]
    assert sheet.tables_of(plate, "{plate}?.csv") == [str(tmp_path / "P10.csv")]
    assert len(sheet.tables_of(plate | {"plate": "elsewhere"}, "")) == 3
    assert sheet.tables_of(plate | {"source": "one.csv"}, "") == ["one.csv"]


def test_which_plates_are_imported():
    assert sheet.is_imported({"layout": "profiles"})
    assert not sheet.is_imported({"layout": "pattern"})
    assert not sheet.is_imported({})
