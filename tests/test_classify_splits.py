"""Who teaches and who is asked: leaks, skeletons, lists of mechanisms, and treatments as means of their wells."""

import numpy as np
import pandas as pd
import pytest

from plateline import classify
from plateline.classify import labels, splits
from plateline.errors import ConfigError, PlatelineError


def screen(seed=0, n_compounds=12):
    """Four mechanisms of three compounds, two doses and two batches each, three wells a treatment; and controls."""
    rng, rows = np.random.default_rng(seed), []
    effects = rng.normal(0, 5, (4, 8))
    for compound in range(n_compounds):
        for dose in (1, 3):
            for well in range(3):
                batch, kind = (compound // 4 + well) % 2, compound % 4
                values = effects[kind] + rng.normal(0, 1, 8)
                name = f"c{compound}"
                rows.append((f"P{batch}", name, f"{name}@{dose}", "reference", f"m{kind}", f"w{batch}", *values))
    rows += [(f"P{i % 2}", "DMSO", "DMSO", "negative", "", f"w{i % 2}", *rng.normal(0, 1, 8)) for i in range(12)]
    names = ["Plate", "Compound", "Treatment", "ControlType", "MoA", "Batch"]
    features = [f"Cells_Intensity_F{i}" for i in range(4)] + [f"Cells_Texture_F{i}" for i in range(4)]
    table = pd.DataFrame(rows, columns=[*(f"Metadata_{n}" for n in names), *features])
    place = table.groupby("Metadata_Plate").cumcount()
    table["Metadata_Well"] = [f"{chr(65 + i % 8)}{i // 8 + 1:02d}" for i in place]
    return table.sort_values(["Metadata_Plate", "Metadata_Well"], ignore_index=True)


@pytest.mark.parametrize("hold_out", splits.HOLD_OUT)
def test_nothing_that_is_held_out_teaches(hold_out):
    wells = screen().assign(Metadata_Row="A", Metadata_Column="01")
    wells.loc[::2, ["Metadata_Row", "Metadata_Column"]] = ["B", "02"]
    groups = classify.hold_out_groups(wells, hold_out)
    asked = np.zeros(len(wells), int)
    for split in classify.leave_out(groups):
        for names in groups:
            assert not set(names[split.train]) & set(names[split.test])
        # Everything that shares no group teaches.
        alike = np.any([np.isin(names, names[split.test]) for names in groups], axis=0)
        np.testing.assert_array_equal(split.train, ~alike)
        asked += split.test
    assert (asked == 1).all()


def test_compounds_of_one_skeleton_are_one():
    wells = pd.DataFrame(
        {
            "Metadata_Compound": ["a", "a-salt", "b", "b", "c", "", "d"],
            "Metadata_InChIKey": [
                "AAAAAAAAAAAAAA-BBBBBBBBBB-N",
                "aaaaaaaaaaaaaa-CCCCCCCCCC-M",
                "KKKKKKKKKKKKKK-BBBBBBBBBB-N",
                "LLLLLLLLLLLLLL-BBBBBBBBBB-N",
                None,
                "KKKKKKKKKKKKKK-ZZZZZZZZZZ-N",
                "LLLLLLLLLLLLLL-XXXXXXXXXX-N",
            ],
        }
    )
    groups = labels.compound_groups(wells)
    assert groups.tolist() == ["a", "a", "b", "b", "c", "b", "b"]
    assert labels.compound_groups(wells.drop(columns="Metadata_InChIKey")).tolist() == [
        "a", "a-salt", "b", "b", "c", "", "d"
    ]  # fmt: skip
    (held,) = classify.hold_out_groups(wells[:5], "compound")
    for split in classify.leave_out([held]):
        assert {"a", "a-salt"} - set(wells["Metadata_Compound"][:5][split.train]) in ({"a", "a-salt"}, set())


def test_no_row_of_a_class_left_out_teaches_and_none_of_the_asked_compound():
    rows = labels.average_treatments(screen(), [])
    rows = rows[rows["Metadata_ControlType"] == "reference"].reset_index(drop=True)
    Y, classes = labels.membership(labels.class_sets(rows, negative_class=False))
    compounds = labels.compound_groups(rows)
    for k, held in classify.leave_class_out(Y, compounds):
        asked = np.zeros(len(rows), int)
        for split in held:
            assert not Y[split.train, k].any()
            assert not set(compounds[split.train]) & set(compounds[split.test])
            asked += split.test
        assert (asked == 1).all() and len(classes) == 4


def test_folds_keep_groups_whole_and_part_the_compounds_of_a_class():
    rng = np.random.default_rng(0)
    groups = np.array([f"g{i}" for i in rng.integers(0, 30, 200)], object)
    kind = np.array([int(g[1:]) % 6 for g in groups])
    fold = splits.folds_of(np.eye(6, dtype=bool)[kind], groups, 10)
    for name in set(groups):
        assert len(set(fold[groups == name])) == 1
    for k in range(6):  # five compounds each, ten folds
        assert len(set(fold[kind == k])) == len(set(groups[kind == k]))


def test_treatments_are_the_means_of_their_wells():
    wells = screen()
    for apart in ([], ["Metadata_Batch"]):
        rows = labels.average_treatments(wells, apart)
        for _, row in rows.iterrows():
            own = wells[wells["Metadata_Treatment"] == row["Metadata_Treatment"]]
            for column in apart:
                own = own[own[column] == row[column]]
            assert row["Cells_Intensity_F0"] == pytest.approx(own["Cells_Intensity_F0"].mean())
            assert row[labels.WELL_COUNT] == len(own)
    assert len(labels.average_treatments(wells, ["Metadata_Batch"])) > len(labels.average_treatments(wells, []))


def test_lists_of_mechanisms_and_controls_become_classes():
    wells = pd.DataFrame(
        {
            "Metadata_ControlType": ["reference", "negative", "sample", "positive", "reference"],
            "Metadata_MoA": [" b | a|", np.nan, "a", "c", ""],
        }
    )
    assert labels.class_sets(wells, negative_class=True) == [("a", "b"), ("negative",), (), ("c",), ()]
    assert labels.class_sets(wells, negative_class=False) == [("a", "b"), (), (), ("c",), ()]
    Y, classes = labels.membership(labels.class_sets(wells, negative_class=False))
    assert classes.tolist() == ["a", "b", "c"] and Y.sum() == 3
    bare = wells.drop(columns="Metadata_MoA")
    assert labels.class_sets(bare, negative_class=True) == [(), ("negative",), (), ("positive",), ()]


OPTIONS = {"coverage": 0.9, "seed": 0, "level": "treatment", "negative_class": False}


def nearest():
    return classify.nearest(sharpness=10.0, seed=0)


@pytest.mark.parametrize("hold_out", ["compound", "compound_batch", "compound_plate"])
def test_the_accuracy_equals_a_naive_nearest_neighbour(hold_out):
    wells = screen(seed=3)
    features = [c for c in wells if c.startswith("Cells_")]
    wells[features] += np.random.default_rng(1).normal(0, 9, (len(wells), 8))
    second = {"compound_batch": "Metadata_Batch", "compound_plate": "Metadata_Plate"}.get(hold_out)
    known = wells[wells["Metadata_ControlType"] == "reference"]
    keys = ["Metadata_Treatment", *([second] if second else [])]
    rows = known.groupby(keys).agg(
        dict.fromkeys(features, "mean") | {"Metadata_MoA": "first", "Metadata_Compound": "first"}
    )
    rows = rows.reset_index()
    right = []
    for i, row in rows.iterrows():
        best, cosine = "", -2
        for j, other in rows.iterrows():
            if other["Metadata_Compound"] == row["Metadata_Compound"] or (second and other[second] == row[second]):
                continue
            a, b = rows.loc[i, features].to_numpy(float), rows.loc[j, features].to_numpy(float)
            if a @ b / np.linalg.norm(a) / np.linalg.norm(b) > cosine:
                best, cosine = other["Metadata_MoA"], a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        right.append(best == row["Metadata_MoA"])
    _, evaluation = classify.classify_treatments(wells, nearest, hold_out=hold_out, **OPTIONS)
    assert evaluation["n"] == len(rows) and evaluation["accuracy"] == pytest.approx(np.mean(right))
    assert 0.2 < evaluation["accuracy"] < 1


def test_a_class_of_one_batch_is_left_out_of_the_scores_and_named():
    wells = screen()
    wells = wells[(wells["Metadata_MoA"] != "m3") | (wells["Metadata_Batch"] == "w0")]
    predictions, evaluation = classify.classify_treatments(wells, nearest, hold_out="compound_batch", **OPTIONS)
    assert evaluation["status"] == "ok" and evaluation["classes_left_out"] == ["m3"]
    assert classify.warnings_of(evaluation)[0].startswith("m3: in fewer than two groups by compound_batch, left out")
    out = predictions["Metadata_Compound"].isin(wells.loc[wells["Metadata_MoA"] == "m3", "Metadata_Compound"])
    assert (predictions.loc[out, "mechanism"] == "").all() and (predictions.loc[~out, "mechanism"] != "").all()


def test_a_planted_leak_shows():
    rng = np.random.default_rng(0)
    wells = screen()
    # Mechanisms say nothing, compounds everything: only a leak can be right.
    features = [c for c in wells if c.startswith("Cells_")]
    own = pd.Series(list(rng.normal(0, 5, (13, 8))), index=sorted(wells["Metadata_Compound"].unique()))
    wells[features] = np.stack(wells["Metadata_Compound"].map(own)) + rng.normal(0, 0.1, (len(wells), 8))
    _, honest = classify.classify_treatments(wells, nearest, hold_out="compound", **OPTIONS)
    _, leaky = classify.classify_treatments(wells, nearest, hold_out="plate", **OPTIONS | {"level": "well"})
    assert leaky["accuracy"] > 0.95 and honest["accuracy"] < 0.6


def test_the_unseen_is_answered_by_unknown():
    wells = screen()
    strange = wells[wells["Metadata_Compound"] == "c0"].assign(
        Metadata_Treatment="new@1", Metadata_Compound="new", Metadata_ControlType="sample", Metadata_MoA=""
    )
    features = [c for c in wells if c.startswith("Cells_")]
    strange[features] = -wells[features].sum().to_numpy()
    strange["Metadata_Well"] = [f"H{i + 1:02d}" for i in range(len(strange))]
    predictions, evaluation = classify.classify_treatments(
        pd.concat([wells, strange]), nearest, hold_out="compound", **OPTIONS
    )
    by = predictions.set_index("Metadata_Treatment")
    assert by.loc["new@1", "call"] == "unknown" and by.loc["new@1", "mechanism"] != ""
    assert by.loc["new@1", "novelty"] == pytest.approx(evaluation["novelty_p_floor"])
    assert (by.drop("new@1")["call"] == by.drop("new@1")["mechanism"]).mean() > 0.7
    assert "DMSO" not in by.index


def test_the_baselines_know_what_they_may():
    wells = screen().assign(Metadata_Object_Count=100.0)
    _, evaluation = classify.classify_treatments(wells, nearest, hold_out="compound", **OPTIONS)
    baselines = evaluation["baselines"]
    assert baselines["intensity_only"]["accuracy"] > 0.9 > 0.7 > baselines["shuffled_compounds"]["accuracy"]
    assert baselines["cell_count"]["accuracy"] < 0.7 and baselines["metadata_only"]["accuracy"] < 0.9
    assert set(baselines) == {
        "shuffled_labels",
        "shuffled_compounds",
        "cell_count",
        "intensity_only",
        "metadata_only",
    }
    single = screen(n_compounds=4)
    _, evaluation = classify.classify_treatments(single, nearest, hold_out="batch", **OPTIONS)
    assert evaluation["baselines"]["shuffled_compounds"]["accuracy"] is None


def test_a_baseline_as_good_as_the_classifier_is_a_warning():
    evaluation = {"status": "ok", "classes_left_out": [], "balanced_accuracy": 0.5, "hold_out": "plate"}
    evaluation["baselines"] = {"cell_count": {"balanced_accuracy": 0.6}, "metadata_only": {"balanced_accuracy": None}}
    (said,) = classify.warnings_of(evaluation)
    assert said == "the baseline cell count does as well as the classifier: balanced accuracy 0.60 and 0.50"
    assert classify.warnings_of({"status": "not estimable", "reason": "why"}) == ["why"]


def test_words_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match=r"classify\.level is 'cell'; expected one of well, treatment"):
        classify.classify_treatments(screen(), nearest, hold_out="compound", **OPTIONS | {"level": "cell"})
    with pytest.raises(ConfigError, match=r"classify\.hold_out 'row' needs classify\.level well"):
        classify.classify_treatments(screen(), nearest, hold_out="row", **OPTIONS)
    nameless = screen().assign(Metadata_Compound="")
    with pytest.raises(PlatelineError, match="24 labelled rows have no Metadata_Compound"):
        classify.classify_treatments(nameless, nearest, hold_out="compound", **OPTIONS)


def test_treatments_that_go_together_share_a_cluster():
    table = classify.resemblance(screen()).set_index("Metadata_Treatment")
    assert "DMSO" not in table.index and len(table) == 24
    clusters = table.groupby("Metadata_MoA")["cluster"]
    assert (clusters.nunique() == 1).all() and table["cluster"].nunique() == 4
    assert (table["Metadata_MoA"] == table.loc[table["nearest"], "Metadata_MoA"].to_numpy()).all()
    assert sorted(table["order"]) == list(range(24))
    assert np.isfinite(table[["map_x", "map_y", "cosine"]]).all(axis=None)
    assert table["map_x_share"].iloc[0] >= table["map_y_share"].iloc[0] > 0
    few = classify.resemblance(screen().iloc[:0])
    assert few.empty and list(few) == ["Metadata_Treatment", *table.columns]
    one = screen()
    one = classify.resemblance(one[one["Metadata_Compound"] == "c0"])
    assert one["cosine"].isna().all() and (one["cluster"] == 0).all()
