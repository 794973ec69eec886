"""The tables of hits on drawn screens: which test decides, effect sizes, flags, both EC50s, the list of hits."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from plateline import hits
from plateline.hits import call, effects
from plateline.hits.flags import add_toxic_dose, flag_treatments

SECTION = {
    "n_permutations": 499,
    "max_fdr": 0.05,
    "seed": 0,
    "ridge": 1.0,
    "toxic_cells": 0.5,
    "flag_z": 3,
    "unlabelled_channels": [],
}
AREA, DNA = "Nuclei_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_DNA"
DOSES = [0.1, 0.3, 1.0, 3.0, 10.0]


def screen(plates=6, controls=8, features=8, seed=0):
    """Two batches of three plates; in each, five doses of an active, of an inert and of a toxic compound."""
    rng, rows = np.random.default_rng(seed), []
    for plate in range(plates):
        for n in range(controls):
            rows.append((plate, f"A{n + 1:02d}", "DMSO", np.nan, "negative"))
        for row, compound in zip("BCD", ("active", "inert", "toxic"), strict=True):
            for n, dose in enumerate(DOSES):
                rows.append((plate, f"{row}{n + 1:02d}", f"{compound}{plate * 2 // plates}", dose, "sample"))
    names = ["plate", "Metadata_Well", "Metadata_Compound", "Metadata_Concentration", "Metadata_ControlType"]
    wells = pd.DataFrame(rows, columns=names)
    plate = wells.pop("plate")
    wells.insert(0, "Metadata_Plate", "P" + plate.astype(str))
    wells["Metadata_Batch"] = "b" + (plate * 2 // plates).astype(str)
    wells["Metadata_ConcentrationUnit"] = np.where(wells["Metadata_Concentration"].notna(), "uM", "")
    wells["Metadata_log10_molar"] = np.log10(wells["Metadata_Concentration"]) - 6
    dose = [f"@{value:g} uM" if value == value else "" for value in wells["Metadata_Concentration"]]
    wells["Metadata_Treatment"] = wells["Metadata_Compound"] + dose
    wells["Metadata_Status"], wells["Metadata_Reason"] = "ok", ""
    wells["Metadata_SMILES"] = np.where(wells["Metadata_Compound"].str.startswith("active"), "CCO", "")
    acts = wells["Metadata_Compound"].str.startswith(("active", "toxic")) & (wells["Metadata_Concentration"] >= 1)
    kills = wells["Metadata_Compound"].str.startswith("toxic") & (wells["Metadata_Concentration"] >= 3)
    wells["Metadata_Object_Count"] = np.where(kills, 20, rng.integers(95, 105, len(wells)))
    wells["Metadata_Site_Count"] = 1
    wells["Metadata_Cells_Per_Field"] = wells["Metadata_Object_Count"].astype(float)
    wells["Metadata_Background_GFP"] = rng.normal(100, 1, len(wells))
    values = rng.normal(size=(len(wells), features)) + 5 * acts.to_numpy()[:, None]
    columns = pd.DataFrame(values, columns=[f"Cells_Texture_F{i}" for i in range(features)])
    columns[AREA] = rng.normal(500, 5, len(wells))
    columns[DNA] = rng.normal(0.5, 0.005, len(wells))
    return pd.concat([wells, columns], axis=1)


@pytest.fixture(scope="module")
def found():
    wells = screen()
    treatments, features, rates = hits.find_hits(wells, wells, section=SECTION)
    return wells, treatments.set_index("Metadata_Treatment"), features, rates


def test_active_doses_are_hits_and_inert_ones_are_not(found):
    _, table, _, _ = found
    doses = table["Metadata_Concentration"]
    active = ~table["Metadata_Compound"].str.startswith("inert") & (doses >= 1)
    assert (table["hit"] == active).mean() > 0.95
    assert set(table["test"]) == {call.BY_CONTROLS}
    assert set(table["family"]) == {"sample treatments against negative controls, 30 tests"}
    assert (table["p"] >= table["p_floor"]).all()
    assert table["p_permutation"].notna().all()


def test_map_ssmd_and_names_stand_beside(found):
    _, table, _, _ = found
    strong = table.loc["active0@10 uM"]
    assert strong["map_controls"] == 1
    assert strong["map_controls_q"] < 0.05
    assert strong["ssmd"] > 2
    assert strong["Metadata_SMILES"] == "CCO"
    assert table.loc["inert0@10 uM", "Metadata_SMILES"] == ""
    assert abs(table.loc["inert0@10 uM", "ssmd"]) < 2


def test_one_plate_is_tested_by_exchanged_labels():
    wells = screen(plates=2)
    one = wells[wells["Metadata_Plate"] == "P0"].reset_index(drop=True)
    one = pd.concat(
        [one, one[one["Metadata_ControlType"] == "sample"].assign(Metadata_Well=lambda t: "E" + t.index.astype(str))]
    )
    table, _, rates = hits.find_hits(one.reset_index(drop=True), one, section=SECTION)
    assert set(table["test"]) == {call.BY_LABELS}
    assert rates["rate"].isna().all()


def test_features_that_not_all_wells_have_do_not_count(found):
    wells, table, _, _ = found
    holes = wells.assign(Cells_Texture_F0=np.where(wells.index == 3, np.nan, wells["Cells_Texture_F0"]))
    holes["Cells_Texture_F1"] = np.inf
    holes["Cells_Texture_F2"] = np.nan
    other, features, _ = hits.find_hits(holes, holes, section=SECTION)
    assert not set(features["feature"]) & {"Cells_Texture_F0", "Cells_Texture_F1", "Cells_Texture_F2"}
    assert other.set_index("Metadata_Treatment").loc["active0@10 uM", "hit"]
    assert table.loc["active0@10 uM", "hit"]


# --- effect sizes


def test_ssmd_by_hand():
    a, b = np.array([3.0, 5.0]), np.array([0.0, 2.0])
    assert effects.ssmd(a, b) == pytest.approx(3 / np.sqrt(2 + 2))
    assert np.isnan(effects.ssmd(a[:1], b))
    assert np.isnan(effects.ssmd(np.ones(2), np.ones(2)))


@pytest.mark.parametrize(("n", "m"), [(1, 5), (3, 6), (7, 7)])
def test_earth_movers_distance_equals_scipys(n, m):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 4)).round(1), rng.normal(size=(m, 4)).round(1)
    expected = [wasserstein_distance(a[:, i], b[:, i]) for i in range(4)]
    np.testing.assert_allclose(effects.earth_movers(a, b), expected, rtol=1e-10, atol=1e-12)


def test_the_strongest_feature_comes_first():
    wells = screen()
    wells.loc[wells["Metadata_Treatment"] == "inert0@1 uM", "Cells_Texture_F5"] += 20
    _, features, _ = hits.find_hits(wells, wells, section=SECTION)
    first = features[(features["Metadata_Treatment"] == "inert0@1 uM") & (features["place"] == 1)].iloc[0]
    assert first["feature"] == "Cells_Texture_F5"
    assert first["shift"] > 10
    assert features.groupby("Metadata_Treatment").size().max() == effects.TOP_FEATURES


# --- flags


def flags(wells, **options):
    return flag_treatments(wells, **({"toxic_cells": 0.5, "flag_z": 3, "unlabelled_channels": []} | options))


def test_few_cells_are_toxic_and_activity_below_is_said(found):
    _, table, _, _ = found
    assert table["cytotoxic"].to_dict() == {
        name: name.startswith("toxic") and name.split("@")[1] in ("3 uM", "10 uM") for name in table.index
    }
    assert table.loc["toxic0@10 uM", "cells_ratio"] == pytest.approx(0.2, abs=0.02)
    assert table.loc["toxic0@0.1 uM", "toxic_from"] == 3
    assert table.loc["toxic0@0.1 uM", "active_below_toxic"]
    assert np.isnan(table.loc["active0@1 uM", "toxic_from"])
    assert table.loc["active0@1 uM", "active_below_toxic"]


def test_an_excluded_field_does_not_read_as_toxicity():
    wells = screen()
    own = wells["Metadata_Treatment"] == "inert0@1 uM"
    wells.loc[own, "Metadata_Object_Count"] = 30
    assert not flags(wells).loc["inert0@1 uM", "cytotoxic"]


def test_small_bright_nuclei_are_toxic():
    wells = screen()
    own = wells["Metadata_Treatment"] == "inert0@1 uM"
    wells.loc[own, AREA] = 400
    assert not flags(wells).loc["inert0@1 uM", "cytotoxic"]
    wells.loc[own, DNA] = 0.9
    assert flags(wells).loc["inert0@1 uM", "cytotoxic"]


@pytest.mark.parametrize(("level", "flag"), [(200, "autofluorescent"), (50, "quencher"), (104, "")])
def test_background_flags(level, flag):
    wells = screen()
    wells.loc[wells["Metadata_Treatment"] == "inert0@1 uM", "Metadata_Background_GFP"] = level
    row = flags(wells).loc["inert0@1 uM"]
    assert {name for name in ("autofluorescent", "quencher") if row[name]} == ({flag} if flag else set())
    assert row["background_channel"] == "GFP"
    assert row["background_ratio"] == pytest.approx(level / 100, rel=0.05)


def test_light_in_a_channel_without_a_stain():
    wells = screen().assign(Cells_Intensity_MeanIntensity_ER=lambda t: 1 + np.arange(len(t)) % 7 / 100)
    wells.loc[wells["Metadata_Treatment"] == "inert0@1 uM", "Cells_Intensity_MeanIntensity_ER"] = 3
    assert not flags(wells).loc["inert0@1 uM", "autofluorescent"]
    assert flags(wells, unlabelled_channels=["ER"]).loc["inert0@1 uM", "autofluorescent"]


def test_what_was_not_measured_raises_no_flag():
    wells = screen().drop(columns=[AREA, DNA, "Metadata_Background_GFP"])
    wells["Metadata_Cells_Per_Field"] = wells["Metadata_Object_Count"] = np.nan
    table = flags(wells)
    assert not table[["cytotoxic", "autofluorescent", "quencher"]].any().any()
    assert table[["cells_ratio", "background_ratio"]].isna().all().all()
    told = table.assign(
        Metadata_Compound="x", Metadata_Concentration=1.0, Metadata_ConcentrationUnit="uM", hit=True
    ).reset_index()
    assert not add_toxic_dose(told)["active_below_toxic"].any()


# --- curves and the list


def test_phenotype_and_count_have_their_own_curves():
    wells = screen()
    curves = hits.dose_curves(wells, wells, [], confidence=0.95).set_index(["Metadata_Compound", "readout"])
    assert set(curves.index.get_level_values(1)) == {call.PHENOTYPE, call.COUNT}
    phenotype, count = (curves.loc[("toxic0", readout)] for readout in (call.PHENOTYPE, call.COUNT))
    assert phenotype["EC50"] < count["EC50"]
    assert count["hill"] < 0
    unknown = wells.assign(Metadata_Cells_Per_Field=np.nan)
    assert set(hits.dose_curves(wells, unknown, [], confidence=0.95)["readout"]) == {call.PHENOTYPE}


def test_the_list_of_hits(found):
    wells, table, _, _ = found
    curves = hits.dose_curves(wells, wells, [], confidence=0.95)
    listed = hits.hit_list(table.reset_index(), curves)
    assert len(listed) == table["hit"].sum()
    assert {"Treatment", "Compound", "SMILES", "phenotype_EC50", "count_EC50", "q", "cytotoxic"} <= set(listed)
    assert listed["q"].is_monotonic_increasing
    none = hits.hit_list(table.reset_index().assign(hit=False), curves)
    assert list(none.columns) == list(listed.columns)
    assert none.empty


def test_no_wells_and_no_controls():
    wells = screen()
    samples = wells[wells["Metadata_ControlType"] == "sample"].reset_index(drop=True)
    table, features, _ = hits.find_hits(samples, samples, section=SECTION)
    assert not table["hit"].any()
    assert features.empty
    empty, _, rates = hits.find_hits(wells.iloc[:0], wells.iloc[:0], section=SECTION)
    assert empty.empty
    assert rates["rate"].isna().all()
    assert set(table.columns) == set(empty.columns)


def test_features_that_not_all_plates_have_are_named():
    wells = screen()
    assert hits.uneven_features(wells).empty
    wells.loc[wells["Metadata_Plate"] == "P2", ["Cells_Texture_F1", "Cells_Texture_F4"]] = np.nan
    wells["Cells_Texture_F0"] = np.nan
    told = hits.uneven_features(wells)
    assert told["reason"].tolist() == [
        "2 of 10 features are not on all plates and do not count: Cells_Texture_F1, Cells_Texture_F4; lacking on P2"
    ]
    assert told["count"].tolist() == [2]
    assert hits.uneven_features(wells.iloc[:0]).empty


def test_wells_of_another_pixel_size_are_not_pooled():
    wells = screen()
    assert hits.one_pixel_size(wells)[1].empty
    wells["Metadata_PixelSize_um"] = np.where(wells["Metadata_Plate"] == "P3", 0.65, 0.325)
    wells.loc[wells["Metadata_Plate"] == "P4", "Metadata_PixelSize_um"] = np.nan
    kept, other = hits.one_pixel_size(wells)
    assert set(kept["Metadata_Plate"]) == {"P0", "P1", "P2", "P4", "P5"}
    assert set(other["Metadata_Plate"]) == {"P3"}
    assert set(other["reason"]) == {"pixel size 0.65 um, most wells have 0.325 um: not pooled"}
