"""Which fields a preview shows, and what is counted in them."""

import numpy as np
import pandas as pd
import pytest

from plateline import flatfield, platemap, preview
from plateline.identity import FIELD

MAP = pd.DataFrame(
    [
        ("A01", "DMSO", "", "negative"),
        ("A02", "DMSO", "", "negative"),
        ("B01", "killer", "10", "positive"),
        ("C01", "drug", "1", "sample"),
        ("C02", "drug", "30", "sample"),
        ("C03", "other", "3", "sample"),
        ("D01", "", "", "exclude"),
    ],
    columns=["Well", "Compound", "Concentration", "ControlType"],
).assign(ConcentrationUnit=lambda table: np.where(table["Concentration"] != "", "uM", ""))


def plate_map(raw=MAP):
    words = {"columns": {}, "controls": {}}
    return platemap.tidy(raw, plate="P1", shape=96, **words)


def fields_of(wells, sites=(1, 2), times=(0, 1)):
    rows = [("P1", well, site, time) for well in wells for site in sites for time in times]
    return pd.DataFrame(rows, columns=FIELD)


def pick(fields=None, wells=None, *, asked=(), n_fields=12, seed=0):
    wells = plate_map() if wells is None else wells
    fields = fields_of(wells["Metadata_Well"]) if fields is None else fields
    return preview.pick_fields(fields, wells, asked=list(asked), n_fields=n_fields, seed=seed)


# --- which wells


@pytest.mark.parametrize("seed", range(5))
def test_controls_and_the_highest_dose_come_first_and_others_fill_up(seed):
    picked = pick(seed=seed)
    assert list(picked["why"][:3]) == ["negative control", "positive control", "highest dose"]
    assert picked["Metadata_Well"][0] in {"A01", "A02"}
    assert list(picked["Metadata_Well"][1:3]) == ["B01", "C02"]
    assert picked["title"][2] == "drug@30 uM"
    assert set(picked["why"][3:]) == {""}
    assert sorted(picked["Metadata_Well"]) == list(MAP["Well"])
    assert picked["Metadata_Well"].iloc[-1] == "D01", "what the map does not know fills up last"


def test_no_more_fields_than_asked_for_but_every_reason():
    assert len(pick(n_fields=5)) == 5
    assert list(pick(n_fields=0)["why"]) == ["negative control", "positive control", "highest dose"]


def test_one_field_of_a_well_at_the_first_time():
    picked = pick()
    assert picked["Metadata_Well"].is_unique
    assert set(picked["Metadata_Timepoint"]) == {0}
    assert set(picked["Metadata_Site"]) <= {1, 2}


def test_the_seed_draws_and_the_order_of_rows_does_not():
    wells = plate_map()
    fields = fields_of(wells["Metadata_Well"])
    mixed = pick(fields.sample(frac=1, random_state=1), wells.sample(frac=1, random_state=2), seed=3)
    pd.testing.assert_frame_equal(mixed, pick(fields, wells, seed=3))
    assert len({tuple(pick(seed=seed)["Metadata_Well"]) for seed in range(10)}) > 3


def test_wells_asked_for_are_the_ones_shown():
    picked = pick(asked=["C03", "A02"], n_fields=4)
    assert list(picked["Metadata_Well"][:2]) == ["C03", "A02"]
    assert list(picked["why"]) == ["asked for", "asked for", "", ""]
    assert list(preview.add_extremes(picked, [np.zeros((1, 4, 4), np.float32)] * 4)["Metadata_Well"]) == ["C03", "A02"]


def test_samples_without_a_dose_and_plates_without_controls_have_their_words():
    bare = MAP.assign(Concentration="", ConcentrationUnit="")
    assert list(pick(wells=plate_map(bare[bare["ControlType"] == "sample"]))["why"]) == ["sample", "", ""]
    unknown = plate_map(MAP[MAP["ControlType"] == "exclude"])
    assert list(pick(wells=unknown)["why"]) == [""]


def test_the_highest_dose_counts_in_molar_where_units_differ():
    raw = MAP[MAP["ControlType"] == "sample"].assign(
        Concentration=["5", "600", "1"], ConcentrationUnit=["uM", "nM", "nM"]
    )
    picked = pick(wells=plate_map(raw))
    assert picked.loc[picked["why"] == "highest dose", "Metadata_Well"].tolist() == ["C01"]


# --- extremes


def spread(span):
    """A field of two levels, `span` apart."""
    image = np.zeros((2, 10, 10), np.float32)
    image[0, :5] = span
    return image


def test_the_dimmest_and_the_brightest_nuclei_are_shown_too():
    picked = pick()
    spans = [5, 4, 3, 1, 9, 2, 6]
    shown = preview.add_extremes(picked, [spread(span) for span in spans])
    assert list(shown["why"]) == [
        "negative control",
        "positive control",
        "highest dose",
        "dimmest nuclei of 7 fields",
        "brightest nuclei of 7 fields",
    ]
    assert list(shown.index) == [0, 1, 2, 3, 4]


def test_a_plate_of_one_or_two_wells_is_shown_whole():
    few = plate_map(MAP[MAP["Well"].isin(["A01", "D01"])])
    shown = preview.add_extremes(pick(wells=few), [spread(1), spread(2)])
    assert list(shown["why"]) == ["negative control", "one of the few wells"]


def test_a_field_with_two_reasons_names_both():
    shown = preview.add_extremes(pick(), [spread(span) for span in (1, 9, 3, 4, 5, 6, 7)])
    assert list(shown["why"][:2]) == [
        "negative control; dimmest nuclei of 7 fields",
        "positive control; brightest nuclei of 7 fields",
    ]
    assert len(shown) == 3


# --- illumination and counts


def test_fields_are_evened_out_channel_by_channel_as_the_method_says():
    rng = np.random.default_rng(0)
    raw = [rng.integers(50, 200, (2, 96, 128)).astype(np.uint16) for _ in range(5)]
    options = [{"bin_px": 16, "smooth_px": 20}, {"bin_px": 32, "smooth_px": 10}]
    even = preview.even_out(raw, flatfield.median, options)
    for n, image in enumerate(raw):
        for channel in range(2):
            illum, dark = flatfield.median(np.stack([field[channel] for field in raw]), **options[channel])
            np.testing.assert_allclose(even[n][channel], (image[channel] - dark) / illum, rtol=1e-6)


def test_objects_are_counted_with_their_median_areas():
    nuclei = np.zeros((30, 30), np.int32)
    nuclei[0:4, 0:4], nuclei[10:13, 10:13], nuclei[20:25, 20:25] = 1, 2, 7
    cells = nuclei.copy()
    cells[9:14, 9:14] = 2
    cells[10:13, 10:13] = 2
    labels = {"nuclei": nuclei, "cells": cells, "cytoplasm": np.where(nuclei > 0, 0, cells)}
    assert preview.count_objects(labels) == {"nuclei": 3, "cells": 3, "border": 1, "nucleus_px": 16.0, "cell_px": 25.0}


def test_a_field_without_objects_counts_none():
    nothing = dict.fromkeys(("nuclei", "cells", "cytoplasm"), np.zeros((5, 5), np.int32))
    found = preview.count_objects(nothing)
    assert (found["nuclei"], found["cells"], found["border"]) == (0, 0, 0)
    assert np.isnan(found["nucleus_px"])
