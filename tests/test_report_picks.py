"""Which wells are pictured: usual ones of their kind, and compounds halfway, against a loop."""

import warnings

import numpy as np
import pandas as pd
import pytest

from plateline.report.picks import pick_wells, plate_table


def well(name, kind, value, compound="", status="ok"):
    treatment = f"{compound}@{value:g}" if kind == "sample" else compound or kind
    return {
        "Metadata_Plate": "P1",
        "Metadata_Batch": "1",
        "Metadata_Well": name,
        "Metadata_ControlType": kind,
        "Metadata_Compound": compound,
        "Metadata_Treatment": treatment,
        "Metadata_Status": status,
        "Metadata_Reason": "" if status == "ok" else f"why {status}",
        "Metadata_Readout_ratio": value,
    }


@pytest.fixture
def wells():
    """Negatives around 0, positives around 10, two compounds with four doses each."""
    rows = [well(f"A{n + 1:02d}", "negative", value, "DMSO") for n, value in enumerate([-1.0, 0.0, 0.2, 5.0])]
    rows += [well(f"B{n + 1:02d}", "positive", value, "wort") for n, value in enumerate([9.0, 10.0, 11.0])]
    rows += [well(f"C{n + 1:02d}", "sample", value, "drug") for n, value in enumerate([0.5, 4.6, 6.5, 9.5])]
    rows += [well(f"D{n + 1:02d}", "sample", value, "alpha") for n, value in enumerate([0.1, 0.2, 3.0, 9.9])]
    return pd.DataFrame(rows)


def naive_pick(wells, names, goal):
    """The well of these whose readout is nearest the goal, the first of equals."""
    best = None
    for row in wells.itertuples():
        if row.Metadata_Well in names and not np.isnan(row.Metadata_Readout_ratio):
            distance = abs(row.Metadata_Readout_ratio - goal)
            if best is None or distance < best[0]:
                best = (distance, row.Metadata_Well)
    return best[1]


def test_a_usual_negative_each_compound_halfway_and_a_usual_positive(wells):
    picked = pick_wells(wells, ["ratio", "other"])
    halfway = (0.1 + 10.0) / 2
    expected = [
        naive_pick(wells, {"A01", "A02", "A03", "A04"}, 0.1),
        naive_pick(wells, {"D01", "D02", "D03", "D04"}, halfway),
        naive_pick(wells, {"C01", "C02", "C03", "C04"}, halfway),
        naive_pick(wells, {"B01", "B02", "B03"}, 10.0),
    ]
    assert [name for name, _ in picked] == expected == ["A02", "D03", "C02", "B02"]
    assert [title for _, title in picked] == ["DMSO (negative)", "alpha@3", "drug@4.6", "wort (positive)"]


def test_without_positive_controls_compounds_show_their_usual_well(wells):
    own = wells[(wells["Metadata_ControlType"] != "positive") & ~wells["Metadata_Well"].isin(["C04", "D04"])]
    picked = [name for name, _ in pick_wells(own, ["ratio"])]
    assert picked == ["A02", "D02", "C02"]
    assert [name for name, _ in pick_wells(own[own["Metadata_ControlType"] == "sample"], ["ratio"])] == ["D02", "C02"]


def test_wells_that_do_not_count_and_values_that_are_missing_are_not_pictured(wells):
    wells.loc[wells["Metadata_Well"].isin(["A02", "A03"]), "Metadata_Status"] = "few cells"
    wells.loc[wells["Metadata_Well"] == "B02", "Metadata_Readout_ratio"] = np.nan
    wells.loc[wells["Metadata_Compound"] == "drug", "Metadata_Readout_ratio"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picked = [name for name, _ in pick_wells(wells, ["ratio"])]
    assert picked == ["A01", "D03", "B01"]


def test_each_positive_compound_is_pictured_and_three_other_compounds_at_most(wells):
    more = [well(f"E{n:02d}", "sample", 5.0, f"z{n}") for n in range(1, 5)] + [well("F01", "positive", 8.0, "other")]
    picked = dict(pick_wells(pd.concat([wells, pd.DataFrame(more)], ignore_index=True), ["ratio"]))
    samples = [title for title in picked.values() if "(" not in title]
    assert samples == ["alpha@3", "drug@4.6", "z1@5"]
    assert picked["F01"] == "other (positive)"


def test_a_plate_without_wells_that_count_or_readouts_has_no_pictures(wells):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pick_wells(wells.assign(Metadata_Status="failed"), ["ratio"]) == []
        assert pick_wells(wells.iloc[:0], ["ratio"]) == []
        assert pick_wells(wells, []) == []
        assert pick_wells(wells.assign(Metadata_Readout_ratio=np.nan), ["ratio"]) == []


def test_the_line_of_each_plate(wells):
    failed = wells.assign(Metadata_Plate="P0", Metadata_Batch="2", Metadata_Status="failed", Metadata_Reason="all dark")
    few = wells.assign(Metadata_Plate="P2")
    few.loc[0, ["Metadata_Status", "Metadata_Reason"]] = ["few cells", "fewer cells than 20"]
    table = plate_table(pd.concat([failed, wells, few], ignore_index=True))
    assert table.to_dict("records") == [
        {"Metadata_Plate": "P0", "Metadata_Batch": "2", "status": "failed", "reason": "all dark"},
        {"Metadata_Plate": "P1", "Metadata_Batch": "1", "status": "ok", "reason": ""},
        {"Metadata_Plate": "P2", "Metadata_Batch": "1", "status": "ok", "reason": ""},
    ]
    assert list(plate_table(wells.iloc[:0]).columns) == ["Metadata_Plate", "Metadata_Batch", "status", "reason"]
