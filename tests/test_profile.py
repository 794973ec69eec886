"""From cells to wells: which count and why not, gates, readouts and aggregates against loops and known answers."""

import statistics
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline import profile, readouts
from plateline.errors import ConfigError
from plateline.identity import CELL, FIELD
from plateline.profile import (
    aggregate_cells,
    build_profile,
    compare_exclusions,
    count_reasons,
    count_wells,
    judge_cells,
    judge_fields,
    read_exclusions,
)
from plateline.profile.aggregate import MAD_SCALE
from plateline.profile.wells import apply_gate, compute_quantity, in_unit

pytestmark = pytest.mark.filterwarnings("error")

AREA, GFP = "Nuclei_AreaShape_Area", "Cells_Intensity_MeanIntensity_GFP"
KINDS = {"A01": "negative", "A02": "negative", "B01": "positive", "B02": "positive", "C01": "sample", "C02": "sample"}
NOTHING = {"quantities": {}, "gates": {}, "readouts": {}, "min_cells": 0, "min_fields": 1}


def fields_of(wells=KINDS, sites=(1, 2)):
    """Fields as segment leaves them, all of them good."""
    rows = [("P1", well, site, 0, "ok", "") for well in wells for site in sites]
    return pd.DataFrame(rows, columns=[*FIELD, "status", "reason"])


def flags_of(fields, **raised):
    """Flags of two channels; `raised` maps a flag to the (well, site, channel) that have it."""
    both = [fields[FIELD].assign(Metadata_Channel=channel) for channel in ("DNA", "GFP")]
    flags = pd.concat(both, ignore_index=True)
    for flag in ("blank", "blurred", "saturated"):
        places = zip(flags["Metadata_Well"], flags["Metadata_Site"], flags["Metadata_Channel"], strict=True)
        flags[flag] = [place in raised.get(flag, []) for place in places]
    return flags


def judge(fields, flags=None, exclude=("blank", "blurred", "saturated"), most=0.5):
    flags = flags_of(fields) if flags is None else flags
    return judge_fields(fields, flags, exclude_flags=list(exclude), max_bad_fields=most)


def cells_of(values, sites=(1, 2)):
    """Cells of wells: `values` maps a well to the areas of its cells, dealt out over its sites."""
    rows = []
    for well, areas in values.items():
        for number, area in enumerate(areas):
            rows.append(("P1", well, sites[number % len(sites)], 0, number + 1, float(area), float(area) / 2))
    types = {"Metadata_Site": int, "Metadata_Timepoint": int, "Metadata_ObjectNumber": int, AREA: float, GFP: float}
    return pd.DataFrame(rows, columns=[*CELL, AREA, GFP]).astype(types)


def map_of(kinds=KINDS):
    rows = [("P1", well, kind) for well, kind in kinds.items()]
    return pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_ControlType"])


def build(cells, fields=None, kinds=KINDS, declared=None, failure="", aggregate=profile.median):
    fields = judge(fields_of(kinds))[0] if fields is None else fields
    declared = NOTHING | (declared or {})
    features, _ = aggregate_cells(lambda names: cells[names], [AREA, GFP], cells["Metadata_Well"], aggregate)
    counts = count_wells(map_of(kinds), cells, fields)
    return build_profile(cells, counts, features, declared=declared, failure=failure)


# --- fields


def test_good_fields_have_no_reason():
    fields, failure = judge(fields_of())
    assert list(fields.columns) == [*FIELD, "reason"]
    assert set(fields["reason"]) == {""}
    assert failure == ""


def test_a_field_is_excluded_by_its_status_first_then_by_its_flags():
    fields = fields_of()
    fields.loc[0, ["status", "reason"]] = ["excluded", "A01.tif is cut off"]
    raised = {
        "blurred": [("A01", 1, "DNA"), ("B01", 2, "DNA")],
        "saturated": [("B01", 2, "GFP"), ("B01", 2, "DNA"), ("C01", 1, "GFP")],
    }
    found, failure = judge(fields, flags_of(fields, **raised))
    reasons = found[found["reason"] != ""].set_index(["Metadata_Well", "Metadata_Site"])["reason"].to_dict()
    assert reasons == {
        ("A01", 1): "A01.tif is cut off",
        ("B01", 2): "qc: blurred in DNA, saturated in DNA, saturated in GFP",
        ("C01", 1): "qc: saturated in GFP",
    }
    assert failure == ""
    only, _ = judge(fields, flags_of(fields, **raised), exclude=["blurred"])
    assert (only["reason"] != "").sum() == 2
    none, _ = judge(fields, flags_of(fields, **raised), exclude=[])
    assert (none["reason"] != "").sum() == 1


def test_a_field_on_which_the_methods_disagree_is_excluded_after_all_other_reasons():
    fields = fields_of().assign(disagreement=[0.9, 0.3, 0.31, np.nan, 0.31, 1.0, 0, 0, 0, 0, 0, 0])
    fields.loc[0, ["status", "reason"]] = ["excluded", "A01.tif is cut off"]
    flags = flags_of(fields, blurred=[("A02", 1, "DNA")])
    limits = {"exclude_flags": ["blurred"], "max_bad_fields": 0.33}
    found, failure = judge_fields(fields, flags, **limits, max_disagreement=0.3)
    reasons = found[found["reason"] != ""].set_index(["Metadata_Well", "Metadata_Site"])["reason"].to_dict()
    apart = "segment: methods disagree, more than profile.max_disagreement = 0.3"
    assert reasons == {
        ("A01", 1): "A01.tif is cut off",
        ("A02", 1): "qc: blurred in DNA",
        ("B01", 1): apart,
        ("B01", 2): apart,
    }
    assert failure.startswith(
        "4 of 12 fields are bad, more than profile.max_bad_fields = 0.33; most often: segment: meth"
    )
    for without in (fields.drop(columns="disagreement"), fields.assign(disagreement=np.nan)):
        assert (judge_fields(without, flags, **limits, max_disagreement=0.0)[0]["reason"] != "").sum() == 2
    assert (judge_fields(fields, flags, **limits)[0]["reason"] != "").sum() == 2


@pytest.mark.parametrize(("bad", "most", "given_up"), [(6, 0.5, False), (7, 0.5, True), (1, 0, True), (0, 0, False)])
def test_a_plate_with_too_many_bad_fields_is_given_up(bad, most, given_up):
    fields = fields_of()
    fields.loc[fields.index[:bad], ["status", "reason"]] = ["excluded", "dark"]
    _, failure = judge(fields, most=most)
    expected = f"{bad} of 12 fields are bad, more than profile.max_bad_fields = {most:g}; most often: dark"
    assert failure == (expected if given_up else "")


def test_a_plate_without_fields_is_given_up():
    fields, failure = judge(fields_of().iloc[:0])
    assert fields.empty
    assert list(fields.columns) == [*FIELD, "reason"]
    assert failure == "the plate has no fields"


# --- cells


def test_cells_are_judged_by_their_field_then_by_their_border():
    fields, _ = judge(fields_of(), flags_of(fields_of(), blank=[("A01", 1, "DNA")]))
    cells = cells_of({"A01": [1, 2, 3, 4], "B01": [5, 6], "X09": [7]})
    cells.index = range(100, 107)
    nuclei = cells[CELL].assign(touches_border=[True, True, False, False, True, False, True])
    reasons = judge_cells(cells, nuclei, fields, exclude_border=True)
    assert reasons.to_dict() == {
        100: "its field is excluded: qc: blank in DNA",
        101: "its nucleus touches the border",
        102: "its field is excluded: qc: blank in DNA",
        103: "",
        104: "its nucleus touches the border",
        105: "",
        106: "its field is excluded: its field is not in the index",
    }
    kept = judge_cells(cells, nuclei, fields, exclude_border=False)
    assert (kept == "").sum() == 4
    assert (judge_cells(cells, nuclei.iloc[:0], fields, exclude_border=True) == "").sum() == 4
    counted = count_reasons(cells, reasons)
    assert list(counted.columns) == [*FIELD, "reason", "count"]
    assert counted["count"].sum() == (reasons != "").sum() == 5
    assert counted.loc[counted["Metadata_Well"] == "A01", "count"].tolist() == [2, 1]


def test_no_cells_are_judged_without_an_error():
    fields, _ = judge(fields_of())
    cells = cells_of({})
    nuclei = cells[CELL].assign(touches_border=pd.Series(dtype=bool))
    reasons = judge_cells(cells, nuclei, fields, exclude_border=True)
    assert reasons.empty
    assert list(count_reasons(cells, reasons).columns) == [*FIELD, "reason", "count"]
    some = cells_of({"A01": [1]})
    none_bad = judge_cells(some, some[CELL].assign(touches_border=False), fields, exclude_border=True)
    assert list(count_reasons(some, none_bad).columns) == [*FIELD, "reason", "count"]


# --- quantities and gates


@pytest.mark.parametrize(
    ("text", "naive"),
    [
        (f"log2({AREA} / {GFP})", lambda a, g: np.log2(a / g)),
        (f"log10({AREA}) - sqrt({GFP})", lambda a, g: np.log10(a) - np.sqrt(g)),
        (f"abs({AREA} - 2 * {GFP}) + 0.5", lambda a, g: abs(a - 2 * g) + 0.5),
        ("3", lambda a, g: 3.0),
    ],
)
def test_a_quantity_against_a_loop(text, naive):
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({AREA: rng.uniform(1, 9, 50), GFP: rng.uniform(1, 9, 50)}, index=range(7, 57))
    found = compute_quantity(readouts.parse_quantity("q", text), cells)
    np.testing.assert_allclose(found, [naive(row[AREA], row[GFP]) for _, row in cells.iterrows()], rtol=1e-12)
    assert list(found.index) == list(cells.index)


def test_an_undefined_quantity_is_nan():
    cells = pd.DataFrame({AREA: [0.0, -1.0, 1.0, np.nan], GFP: [0.0, 1.0, 0.0, 1.0]})
    ratio = readouts.parse_quantity("q", f"log2({AREA} / {GFP})")
    assert compute_quantity(ratio, cells).isna().all()
    assert compute_quantity(ratio, cells.iloc[:0]).empty


@pytest.mark.parametrize(
    "declared",
    [
        {"quantities": {"q": "log2(Cells_Intensity_MeanIntensity_GFQ)"}},
        {"gates": {"g": "Cells_Intensity_MeanIntensity_GFQ > 1"}},
        {"readouts": {"r": "median(Cells_Intensity_MeanIntensity_GFQ)"}},
    ],
)
def test_a_feature_that_the_cells_lack_is_named_with_its_nearest(declared):
    text = f"the cells have no feature 'Cells_Intensity_MeanIntensity_GFQ', .*; nearest: {GFP}"
    with pytest.raises(ConfigError, match=text):
        build(cells_of({"A01": [1]}), declared=declared)
    with pytest.raises(ConfigError, match=r"no feature 'Nuclei_X', .*; nearest: none is like it"):
        compute_quantity(readouts.parse_quantity("q", "Nuclei_X"), pd.DataFrame({"dino": [1.0]}))


def naive_gate(comparisons, values, kinds):
    passed = []
    for _, row in values.iterrows():
        held = 1.0
        for name, operator, (kind, amount) in comparisons:
            if kind == "number":
                limit = amount
            else:
                own = [v for v, k in zip(values[name], kinds, strict=True) if kind in ("all", k) and not np.isnan(v)]
                limit = np.percentile(own, amount) if own else np.nan
            if np.isnan(row[name]) or np.isnan(limit):
                held = np.nan
                break
            tests = {"<": row[name] < limit, "<=": row[name] <= limit, ">": row[name] > limit, ">=": row[name] >= limit}
            held *= float(tests[operator])
        passed.append(held)
    return passed


@pytest.mark.parametrize(
    "text",
    ["x > negative:q90", "x <= 0.5", "x >= all:q25 and y < positive:q50", "x > 0 and y > 0", "x > untreated:q99"],
)
def test_a_gate_against_a_loop(text):
    rng = np.random.default_rng(1)
    values = pd.DataFrame(rng.normal(size=(80, 2)), columns=["x", "y"], index=range(3, 83))
    values.iloc[::9, 0] = np.nan
    kinds = pd.Series(rng.choice(["negative", "positive", "sample"], 80), index=values.index)
    comparisons = readouts.parse_gate("g", text, {"x", "y"})
    passed, missing = apply_gate(comparisons, values, kinds)
    np.testing.assert_array_equal(passed, naive_gate(comparisons, values, kinds))
    assert missing == (["untreated"] if "untreated" in text else [])


def test_a_gate_without_reference_cells_is_not_estimable_and_says_so():
    values, kinds = pd.DataFrame({"x": [1.0, 2.0]}), pd.Series(["sample", "sample"])
    passed, missing = apply_gate([("x", ">", ("negative", 99.0))], values, kinds)
    assert passed.isna().all()
    assert missing == ["negative"]
    passed, missing = apply_gate([("x", ">", ("negative", 99.0))], values.iloc[:0], kinds.iloc[:0])
    assert passed.empty


# --- readouts


def naive_readout(function, own, fields):
    own = [value for value in own if not np.isnan(value)]
    if function == "mad":
        centre = statistics.median(own)
        return 1.4826 * statistics.median(abs(value - centre) for value in own)
    return {"median": statistics.median, "mean": statistics.fmean, "sd": statistics.stdev}[function](own)


@pytest.mark.parametrize("function", ["median", "mean", "sd", "mad"])
def test_a_readout_of_a_quantity_against_a_loop(function):
    rng = np.random.default_rng(2)
    values = {well: rng.normal(10, 2, 7) for well in KINDS}
    values["A01"][2] = np.nan
    found, warned = build(cells_of(values), declared={"readouts": {"r": f"{function}({AREA})"}})
    expected = [naive_readout(function, values[well], 2) for well in KINDS]
    np.testing.assert_allclose(found["Metadata_Readout_r"], expected, rtol=1e-12)
    assert warned.empty
    assert pytest.approx(1 / 0.6744897501960817, rel=1e-4) == MAD_SCALE


def test_gates_counts_and_ratios():
    values = {"A01": [1, 2, 3, 4], "A02": [1, 2], "B01": [9, 9, 9, 1], "B02": [9], "C01": [], "C02": [5, 5, 1]}
    declared = {
        "quantities": {"double": f"2 * {AREA}"},
        "gates": {"big": "double > 8"},
        "readouts": {
            "share": "fraction(big)",
            "percent": "percent(big)",
            "n": "count()",
            "big": "count(big)",
            "per_field": "per_field()",
            "big_per_field": "per_field(big)",
            "ratio": "count(big) / count()",
            "own_unit": {"value": f"mean({AREA})", "unit": "raw"},
        },
    }
    found, warned = build(cells_of(values), declared=declared)
    found = found.set_index("Metadata_Well").filter(like="Metadata_Readout_")
    found.columns = found.columns.str.removeprefix("Metadata_Readout_")
    assert found.loc["B01"].tolist() == [0.75, 75.0, 4.0, 3.0, 2.0, 1.5, 0.75, 7.0]
    assert found.loc["A02"].tolist() == [0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0, 1.5]
    assert found.loc["C01", ["n", "big", "per_field", "big_per_field"]].tolist() == [0, 0, 0, 0]
    assert found.loc["C01", ["share", "percent", "ratio", "own_unit"]].isna().all()
    assert warned.empty


def test_counts_are_per_field_that_counts():
    fields, _ = judge(
        fields_of(), flags_of(fields_of(), blank=[("A01", 1, "DNA"), ("B01", 1, "DNA"), ("B01", 2, "GFP")])
    )
    cells = cells_of({"A01": [1, 1, 1], "A02": [1, 1, 1, 1]}, sites=(2,))
    declared = {"readouts": {"density": "per_field()", "n": "count()"}}
    found, _ = build(cells, fields, declared=declared)
    found = found.set_index("Metadata_Well")
    assert found.loc["A01", ["Metadata_Site_Count", "Metadata_Sites_Expected"]].tolist() == [1, 2]
    assert found.loc["A01", "Metadata_Readout_density"] == 3
    assert found.loc["A02", "Metadata_Readout_density"] == 2
    assert found.loc["B02", "Metadata_Readout_density"] == 0
    assert found.loc["B01", ["Metadata_Readout_density", "Metadata_Readout_n"]].isna().all()


def test_a_gate_that_nobody_can_evaluate_is_a_warning_and_nan():
    kinds = {"C01": "sample", "C02": "sample"}
    declared = {
        "gates": {"high": f"{AREA} > negative:q99"},
        "readouts": {"share": "percent(high)", "n": "count(high)", "cells": "count()"},
    }
    found, warned = build(cells_of({"C01": [1, 2], "C02": [3]}), kinds=kinds, declared=declared)
    assert found[["Metadata_Readout_share", "Metadata_Readout_n"]].isna().all().all()
    assert found["Metadata_Readout_cells"].tolist() == [2, 1]
    assert warned["reason"].tolist() == ["gate high is not estimable: no cells in negative wells"]


def naive_unit(raw, kinds, unit):
    negative = [value for value, kind in zip(raw, kinds, strict=True) if kind == "negative"]
    positive = [value for value, kind in zip(raw, kinds, strict=True) if kind == "positive"]
    centre = statistics.median(negative)
    if unit == "percent_of_control":
        return [100 * value / centre for value in raw]
    if unit == "npi":
        return [100 * (value - centre) / (statistics.median(positive) - centre) for value in raw]
    return [(value - centre) / (1.4826 * statistics.median(abs(n - centre) for n in negative)) for value in raw]


def wells_of(kinds, status="ok"):
    return pd.DataFrame({"Metadata_ControlType": kinds, "Metadata_Status": status})


@pytest.mark.parametrize("unit", ["percent_of_control", "npi", "robust_z"])
def test_units_against_a_loop(unit):
    raw = pd.Series(np.random.default_rng(3).uniform(1, 9, 12))
    kinds = ["negative"] * 5 + ["positive"] * 3 + ["sample"] * 4
    values, missing = in_unit(raw, unit, wells_of(kinds))
    np.testing.assert_allclose(values, naive_unit(raw, kinds, unit), rtol=1e-12)
    assert missing == ""
    same, missing = in_unit(raw, "raw", wells_of(kinds))
    assert same.equals(raw)


def test_units_rest_on_wells_that_count():
    raw = pd.Series([2.0, 2.0, 100.0, np.nan, 8.0])
    wells = wells_of(["negative", "negative", "negative", "negative", "sample"])
    wells.loc[2, "Metadata_Status"] = "few cells"
    values, _ = in_unit(raw, "percent_of_control", wells)
    assert values.tolist()[4] == 400
    assert values.tolist()[2] == 5000


@pytest.mark.parametrize(
    ("raw", "kinds", "unit", "missing"),
    [
        ([1, 2], ["sample", "positive"], "robust_z", "the plate has no negative controls that count"),
        ([1, 2], ["sample", "positive"], "npi", "the plate has no negative controls that count"),
        ([0, 0, 2], ["negative", "negative", "sample"], "percent_of_control", "the negative controls have median 0"),
        ([1, 2], ["negative", "sample"], "npi", "the positive controls are missing or equal the negative ones"),
        (
            [1, 1, 2],
            ["negative", "positive", "sample"],
            "npi",
            "the positive controls are missing or equal the negative",
        ),
        ([1, 1, 2], ["negative", "negative", "sample"], "robust_z", "the negative controls have no spread"),
        ([], [], "npi", "the plate has no negative controls that count"),
    ],
)
def test_units_that_the_controls_cannot_carry(raw, kinds, unit, missing):
    values, why = in_unit(pd.Series(raw, dtype=float), unit, wells_of(kinds))
    assert values.isna().all()
    assert len(values) == len(raw)
    assert why.startswith(missing)
    if raw:
        wells = {f"A{n + 1:02d}": kind for n, kind in enumerate(kinds)}
        cells = cells_of({well: [value] for well, value in zip(wells, raw, strict=True)})
        declared = {"readouts": {"r": {"value": f"mean({AREA})", "unit": unit}}}
        _, warned = build(cells, kinds=wells, declared=declared)
        assert warned["reason"].tolist() == [f"readout r in {unit} is not estimable: {why}"]


# --- wells


@pytest.mark.parametrize(("method", "naive"), [(profile.median, np.nanmedian), (profile.mean, np.nanmean)])
def test_aggregates_against_a_loop(method, naive):
    rng = np.random.default_rng(4)
    values = {well: rng.normal(size=rng.integers(3, 9)) for well in KINDS}
    values["B01"][0] = np.nan
    found, _ = build(cells_of(values), aggregate=method)
    np.testing.assert_allclose(found[AREA], [naive(values[well]) for well in KINDS], rtol=1e-12)
    np.testing.assert_allclose(found[GFP], [naive(values[well]) / 2 for well in KINDS], rtol=1e-12)
    assert list(found["Metadata_Well"]) == list(KINDS)


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_cells_does_not_matter(order):
    cells = cells_of({well: [n, 2 * n + 1] for n, well in enumerate(KINDS)})
    declared = {"gates": {"g": f"{AREA} > negative:q50"}, "readouts": {"r": "percent(g)", "m": f"mad({AREA})"}}
    before, _ = build(cells, declared=declared)
    after, _ = build(cells.iloc[list(order)], declared=declared)
    pd.testing.assert_frame_equal(before, after)


def test_counts_and_status_of_wells():
    values = {"A01": [1] * 5, "A02": [1] * 4, "B01": [], "C01": [1] * 9}
    fields = fields_of({well: kind for well, kind in KINDS.items() if well != "B02"})
    judged, _ = judge(fields, flags_of(fields, blank=[("C02", 1, "DNA"), ("C02", 2, "DNA")]))
    found, _ = build(cells_of(values), judged, declared={"min_cells": 5})
    found = found.set_index("Metadata_Well")
    assert found["Metadata_Object_Count"].to_dict() == {"A01": 5, "A02": 4, "B01": 0, "B02": 0, "C01": 9, "C02": 0}
    assert found["Metadata_Site_Count"].to_dict() == {"A01": 2, "A02": 2, "B01": 2, "B02": 0, "C01": 2, "C02": 0}
    assert found["Metadata_Status"].to_dict() == {
        "A01": "ok",
        "A02": "few cells",
        "B01": "few cells",
        "B02": "no images",
        "C01": "ok",
        "C02": "no images",
    }
    assert found.loc["A02", "Metadata_Reason"] == "fewer cells than profile.min_cells = 5"
    assert found.loc["B02", "Metadata_Reason"] == "no field of this well counts"
    assert found.loc["A01", "Metadata_Reason"] == ""
    assert found.loc["B02", [AREA, GFP]].isna().all()


def test_wells_of_a_plate_that_was_given_up():
    found, _ = build(cells_of({"A01": [1, 2]}), failure="all dark")
    assert set(found["Metadata_Status"]) == {"failed"}
    assert set(found["Metadata_Reason"]) == {"all dark"}


def test_a_plate_without_cells_has_the_full_schema():
    declared = {
        "quantities": {"log": f"log2({AREA})"},
        "gates": {"g": "log > negative:q99"},
        "readouts": {"m": "median(log)", "d": "mad(log)", "p": {"value": "percent(g)", "unit": "npi"}, "n": "count()"},
    }
    full, _ = build(cells_of({well: [1, 2, 3] for well in KINDS}), declared=declared)
    found, warned = build(cells_of({}), declared=declared)
    assert list(found.columns) == list(full.columns)
    assert found["Metadata_Readout_n"].tolist() == [0] * 6
    assert found[["Metadata_Readout_m", "Metadata_Readout_d", "Metadata_Readout_p", AREA]].isna().all().all()
    assert len(warned) == 2


def test_a_plate_without_wells_has_the_full_schema():
    fields, _ = judge(fields_of({}))
    found, _ = build(cells_of({}), fields, kinds={}, declared={"readouts": {"n": "count()"}})
    assert found.empty
    assert {"Metadata_Status", "Metadata_Reason", "Metadata_Object_Count", "Metadata_Readout_n", AREA} <= set(found)


def test_no_readouts_is_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, warned = build(cells_of({"A01": [1]}))
    assert not [column for column in found if column.startswith("Metadata_Readout_")]
    assert list(warned.columns) == ["reason"]


# --- exclusion lists


LIST = {"plate": "P1", "well": "a1", "site": "", "reason": "bubble"}


def exclusions(*rows):
    return pd.DataFrame([LIST | row for row in rows], columns=list(LIST))


def test_an_exclusion_list_names_wells_and_fields():
    fields = fields_of()
    raw = exclusions(
        {}, {"well": "B01", "site": "2", "reason": "fibre"}, {"plate": "P9"}, {"well": "H12"}, {"site": "99"}
    )
    listed, unknown = read_exclusions(raw, fields, plate="P1")
    assert listed.to_numpy().tolist() == [["A01", -1, "bubble"], ["B01", 2, "fibre"]]
    assert unknown[["Metadata_Well", "Metadata_Site"]].to_numpy().tolist() == [["H12", -1], ["A01", 99]]
    assert unknown["reason"].str.startswith("profile.exclude_list names no field of this plate: ").all()
    judged, failure = judge_fields(fields, flags_of(fields), listed, exclude_flags=[], max_bad_fields=0)
    reasons = judged.set_index(["Metadata_Well", "Metadata_Site"])["reason"]
    assert reasons.loc["A01"].tolist() == ["by hand: bubble"] * 2
    assert (reasons.drop([("A01", 1), ("A01", 2), ("B01", 2)]) == "").all()
    assert failure == ""
    assert reasons.loc[("B01", 2)] == "by hand: fibre"


def test_fields_excluded_by_hand_do_not_give_up_a_plate():
    fields = fields_of().assign(status="ok", reason="")
    listed, _ = read_exclusions(
        exclusions(*({"well": well} for well in fields["Metadata_Well"].unique())), fields, plate="P1"
    )
    judged, failure = judge_fields(fields, flags_of(fields), listed, exclude_flags=[], max_bad_fields=0)
    assert failure == ""
    assert (judged["reason"] == "by hand: bubble").all()


def test_an_empty_exclusion_list_excludes_nothing():
    fields = fields_of()
    listed, unknown = read_exclusions(exclusions(), fields, plate="P1")
    assert listed.empty
    assert unknown.empty
    without, _ = judge(fields)
    with_list, _ = judge_fields(
        fields, flags_of(fields), listed, exclude_flags=["blank", "blurred", "saturated"], max_bad_fields=0.5
    )
    pd.testing.assert_frame_equal(with_list, without)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"well": "Z99"}, r"exclude_list, line 2: .*Z99"),
        ({"site": "two"}, r"exclude_list, line 2, well A01: site: got 'two'; expected a whole number"),
        ({"reason": " "}, r"exclude_list, line 2, well A01: no reason; expected why"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(row, message):
    with pytest.raises(ConfigError, match=message):
        read_exclusions(exclusions(row), fields_of(), plate="P1")


def test_a_list_without_its_columns_is_refused():
    with pytest.raises(ConfigError, match=r"exclude_list: no column reason; expected plate, well, reason"):
        read_exclusions(exclusions({}).drop(columns="reason"), fields_of(), plate="P1")


def test_exclusions_are_compared_between_samples_and_controls():
    fields = pd.DataFrame({"Metadata_Well": ["A01", "A01", "B01", "C01"], "reason": ["x", "", "", "x"]})
    types = pd.DataFrame(
        {"Metadata_Well": ["A01", "B01", "C01"], "Metadata_ControlType": ["sample", "negative", "untreated"]}
    )
    found = compare_exclusions(fields, types)
    assert found.to_numpy().tolist() == [["fields excluded: 1 of 2 of samples (50.0%), 0 of 1 of controls (0.0%)", 2]]
    assert compare_exclusions(fields.assign(reason=""), types).empty
    none = compare_exclusions(fields, types.assign(Metadata_ControlType="exclude"))
    assert none["reason"].tolist() == ["fields excluded: 0 of 0 of samples, 0 of 0 of controls"]
