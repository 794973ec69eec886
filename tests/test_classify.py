"""Classification: leaks, naive loops, known answers, and every answer that is `not estimable`."""

import json
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from plateline import classify
from plateline.classify import baselines, calibration, novelty, treatments
from plateline.errors import ConfigError, PlatelineError

MAKE = partial(classify.logistic, C=1.0, seed=0)
OPTIONS = {"hold_out": "row", "coverage": 0.9, "seed": 0}


def screen(plates=("P1",), shift=6.0, seed=0):
    """Rows A to H: two negative, one positive, one active, one inactive and one unseen well each, 4 features."""
    rng, rows = np.random.default_rng(seed), []
    wells = [
        ("negative", "DMSO", "DMSO", 0),
        ("negative", "DMSO", "DMSO", 0),
        ("positive", "wortmannin", "wortmannin@150 nM", 1),
        ("sample", "active", "active@1 uM", 1),
        ("sample", "inactive", "inactive@1 uM", 0),
        ("sample", "unseen", "unseen@1 uM", -3),
    ]
    for plate in plates:
        for row in "ABCDEFGH":
            for column, (kind, compound, treatment, sign) in enumerate(wells, 1):
                values = rng.normal([sign * shift, 0, 0, 0], 1)
                identity = [plate, f"{row}{column:02d}", row, column, kind, compound, treatment, 100.0 + column, 1]
                rows.append([*identity, *values])
    names = ["Plate", "Well", "Row", "Column", "ControlType", "Compound", "Treatment", "Object_Count", "Site_Count"]
    features = [f"Cells_Intensity_MeanIntensity_{c}" for c in "ABCD"]
    return pd.DataFrame(rows, columns=[*(f"Metadata_{n}" for n in names), *features])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """A fit this small spends its time waiting for threads where the machine is busy: measured 30 s instead of 3."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def answer():
    return classify.classify_treatments(screen(), MAKE, **OPTIONS)


class Recorder:
    """A classifier that remembers the wells (their first feature) it was fitted on and asked for."""

    calls: list

    def fit(self, X, y):  # noqa: D102
        self.classes_, self.seen = np.unique(y), set(X[:, 0])
        return self

    def predict_proba(self, X):  # noqa: D102
        Recorder.calls.append((self.seen, set(X[:, 0])))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


def fitted(X, y, groups, make):
    """Out-of-fold probabilities by class names and groups."""
    Y = np.array([[label == name for name in np.unique(y)] for label in y])
    groups = np.asarray(groups, object)
    return classify.cross_fit(X, Y, classify.leave_out([groups]), make, groups)


def test_no_group_is_ever_on_both_sides():
    rng = np.random.default_rng(0)
    groups, y = rng.choice(list("ABCDE"), 40), rng.choice(["negative", "positive"], 40)
    X, Recorder.calls = np.arange(40.0)[:, None], []
    fitted(X, y, groups, Recorder)
    asked = [well for _, held in Recorder.calls for well in held]
    assert sorted(asked) == sorted(X[:, 0])
    for seen, held in Recorder.calls:
        assert not set(groups[list(map(int, seen))]) & set(groups[list(map(int, held))])
        assert seen | held == set(X[:, 0])


def test_cross_fit_equals_a_naive_loop():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(30, 3)), np.array(["a", "b", "c"] * 10)
    groups = rng.choice(list("ABCD"), 30)
    expected = []
    for i in range(30):
        others = [j for j in range(30) if groups[j] != groups[i]]
        expected.append(MAKE().fit(X[others], y[others]).predict_proba(X[[i]])[0])
    np.testing.assert_allclose(fitted(X, y, groups, MAKE), expected)


def test_cross_fit_knows_no_class_of_the_held_group_only():
    X = np.array([[0.0], [1], [2], [3], [10], [11]])
    y, groups = np.array(list("aabbcc")), np.array(list("121233"))
    probability = fitted(X, y, groups, MAKE)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (probability[4:, 2] == 0).all() and (probability[:4, 2] > 0).all()
    one_class_left = fitted(X[:4], y[:4], list("1122"), MAKE)
    assert one_class_left.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_cross_fit_needs_two_groups():
    with pytest.raises(PlatelineError, match=r"1 group\(s\) to hold out among 4 rows: \['A'\]; expected at least 2"):
        classify.leave_out([np.array(["A"] * 4, object)])


def test_groups_by_each_word():
    profiles = screen(("P1", "P2")).assign(Metadata_Batch=1)
    for word, n in [("row", 8), ("column", 6), ("plate", 2), ("batch", 1), ("compound", 5)]:
        (groups,) = classify.hold_out_groups(profiles, word)
        assert len(set(groups)) == n and all(isinstance(g, str) for g in groups)
    profiles.loc[0, "Metadata_Batch"] = np.nan
    assert classify.hold_out_groups(profiles, "batch")[0][0] == ""
    assert len(classify.hold_out_groups(profiles[:0], "row")[0]) == 0
    with pytest.raises(ConfigError, match=r"classify\.hold_out is 'well'; expected one of row, column, plate"):
        classify.hold_out_groups(profiles, "well")
    with pytest.raises(PlatelineError, match=r"profiles lack Metadata_Batch, needed for classify\.hold_out 'batch'"):
        classify.hold_out_groups(screen(), "batch")


def test_treatments_are_told_apart(answer):
    predictions, evaluation = answer
    assert list(predictions) == classify.COLUMNS
    by = predictions.set_index("Metadata_Treatment")
    assert by["mechanism"].to_dict() == {
        "DMSO": "negative",
        "wortmannin@150 nM": "positive",
        "active@1 uM": "positive",
        "inactive@1 uM": "negative",
        "unseen@1 uM": "negative",
    }
    assert by.loc["active@1 uM", "set"] == "positive"
    assert by.loc["unseen@1 uM", "novelty"] == pytest.approx(1 / 25) == evaluation["novelty_p_floor"]
    assert by.loc["inactive@1 uM", "novelty"] > 0.2
    assert by["n_wells"].to_dict() == {"DMSO": 16} | dict.fromkeys(by.index[by.index != "DMSO"], 8)


def test_the_evaluation_says_what_it_is_worth(answer):
    evaluation = answer[1]
    assert json.loads(json.dumps(evaluation, allow_nan=False)) == evaluation
    assert evaluation["status"] == "ok" and evaluation["reason"] == ""
    assert (evaluation["n"], evaluation["n_groups"]) == (24, 8)
    assert evaluation["classes"] == {"negative": 16, "positive": 8}
    assert evaluation["accuracy"] == evaluation["balanced_accuracy"] == 1
    assert evaluation["log_loss"] < 0.2
    assert evaluation["baselines"]["shuffled_labels"]["balanced_accuracy"] < 0.7
    # Columns have their own counts here, so the count alone tells the controls apart.
    assert evaluation["baselines"]["cell_count"]["accuracy"] > 0.9
    assert evaluation["accuracy_low"] is None and "groups by row are no replicates" in evaluation["interval"]


def test_labelled_wells_are_predicted_out_of_fold():
    profiles = screen(shift=0.5)
    predictions, evaluation = classify.classify_treatments(profiles, MAKE, **OPTIONS)
    known = profiles[profiles["Metadata_ControlType"].isin(["negative", "positive"])]
    X, y = known.filter(like="Cells_").to_numpy(), known["Metadata_ControlType"].to_numpy()
    probability = fitted(X, y, known["Metadata_Row"].to_numpy(), MAKE)
    confidence = predictions.set_index("Metadata_Treatment")["confidence"]
    for treatment in ("DMSO", "wortmannin@150 nM"):
        own = (known["Metadata_Treatment"] == treatment).to_numpy()
        assert confidence[treatment] == pytest.approx(probability[own].mean(axis=0).max())
    loss = -np.mean([np.log(p[0] if label == "negative" else p[1]) for p, label in zip(probability, y, strict=True)])
    assert evaluation["log_loss"] == pytest.approx(loss)


def test_order_of_rows_and_labels_of_samples_change_nothing(answer):
    shuffled = screen().sample(frac=1, random_state=0)
    predictions, evaluation = classify.classify_treatments(shuffled, MAKE, **OPTIONS)
    pd.testing.assert_frame_equal(predictions, answer[0])
    assert evaluation == answer[1]
    told = screen()
    told.loc[told["Metadata_ControlType"] == "sample", "Metadata_MoA"] = "a secret"
    pd.testing.assert_frame_equal(classify.classify_treatments(told, MAKE, **OPTIONS)[0], answer[0])


def test_a_sample_well_decides_nothing_about_the_others(answer):
    changed = screen()
    own = changed["Metadata_Treatment"] == "unseen@1 uM"
    changed.loc[own, changed.columns[changed.columns.str.startswith("Cells_")]] += 100
    predictions, evaluation = classify.classify_treatments(changed, MAKE, **OPTIONS)
    others = predictions["Metadata_Treatment"] != "unseen@1 uM"
    pd.testing.assert_frame_equal(predictions[others], answer[0][others])
    assert evaluation == answer[1]


def test_sets_cover_new_wells_as_promised():
    calibration, fresh = screen(tuple("ABCDE"), shift=1.0, seed=1), screen(tuple("VWXYZ"), shift=1.0, seed=2)
    fresh = fresh[fresh["Metadata_ControlType"] != "sample"].assign(Metadata_ControlType="sample")
    truth = fresh["Metadata_Compound"].map({"DMSO": "negative", "wortmannin": "positive"})
    fresh["Metadata_Treatment"] = [f"{t}/{i}" for i, t in enumerate(truth)]
    for coverage in (0.6, 0.9):
        options = {**OPTIONS, "hold_out": "plate", "coverage": coverage}
        predictions, _ = classify.classify_treatments(pd.concat([calibration, fresh]), MAKE, **options)
        single = predictions[predictions["Metadata_Treatment"].str.contains("/")]
        held = [t.split("/")[0] in s.split("|") for t, s in single[["Metadata_Treatment", "set"]].to_numpy()]
        assert np.mean(held) == pytest.approx(coverage, abs=0.1)
        assert single["novelty"].isna().all()  # one well is no replicate


def test_the_conformal_quantile_is_a_rank():
    score = np.array([0.4, 0.1, 0.3, 0.2])
    assert [calibration.conformal_quantile(score, c) for c in (0.1, 0.5, 0.8)] == [0.1, 0.3, 0.4]
    assert calibration.conformal_quantile(score, 0.81) == np.inf
    classes = np.array(["a", "b"], object)
    assert treatments._conformal_set(np.array([0.7, 0.3]), classes, np.inf) == "a|b"
    assert treatments._conformal_set(np.array([0.7, 0.3]), classes, 0.2) == "none"


def test_the_distance_equals_a_naive_loop():
    rng = np.random.default_rng(0)
    X, groups, known = rng.normal(size=(30, 5)), rng.choice(list("ABC"), 30).astype(object), rng.random(30) < 0.5
    measures = {
        False: lambda a, b: np.sqrt(np.mean((a - b) ** 2)),
        True: lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b),
    }
    for direction, far in measures.items():
        expected = [min(far(X[i], X[j]) for j in range(30) if known[j] and groups[j] != groups[i]) for i in range(30)]
        found = novelty.nearest_of_others(novelty.distances(X, known, direction=direction), [groups], known)
        np.testing.assert_allclose(found, expected)


def test_mechanisms_come_from_controls_and_references():
    profiles = screen()
    profiles.loc[profiles["Metadata_Compound"] == "wortmannin", "Metadata_MoA"] = "PI3K inhibitor"
    unseen = profiles["Metadata_Compound"] == "unseen"
    profiles.loc[unseen, ["Metadata_ControlType", "Metadata_MoA"]] = ["reference", "microtubule|tubulin"]
    make = partial(classify.logistic, C=100.0, seed=0)
    predictions, evaluation = classify.classify_treatments(profiles, make, **OPTIONS)
    assert evaluation["classes"] == {"PI3K inhibitor": 8, "microtubule": 8, "negative": 16, "tubulin": 8}
    assert evaluation["accuracy"] == 1  # either of two mechanisms is right
    by = predictions.set_index("Metadata_Compound")["mechanism"]
    assert (
        by["active"] == "PI3K inhibitor" and by["inactive"] == "negative" and by["unseen"] in {"microtubule", "tubulin"}
    )


def test_the_interval_resamples_plates():
    profiles = screen(tuple("ABCDEF"), shift=1.0)
    _, evaluation = classify.classify_treatments(profiles, MAKE, **{**OPTIONS, "hold_out": "plate"})
    assert evaluation["accuracy_low"] < evaluation["accuracy"] < evaluation["accuracy_high"]
    assert evaluation["interval"] == "95% percentile bootstrap over 6 groups by plate"
    alike = classify.classify_treatments(screen(("P1", "P2")), MAKE, **{**OPTIONS, "hold_out": "plate"})[1]
    assert alike["accuracy"] == 1 and alike["accuracy_low"] is None
    assert alike["interval"] == "not estimable: all 2 groups by plate score alike"


def test_labels_are_shuffled_within_their_plate():
    Y = np.array([[label == name for name in "ab"] for label in "aaabbbab"])
    plates = np.array(list("11112222"), object)
    shuffled = [baselines.shuffle_within(Y, plates, np.random.default_rng(s))[:, 0].tolist() for s in range(20)]
    assert all(sum(s[:4]) == 3 and sum(s[4:]) == 1 for s in shuffled)
    assert len({tuple(s) for s in shuffled}) > 5


def test_compounds_are_shuffled_whole():
    Y = np.eye(3, dtype=bool)[[0, 0, 1, 1, 1, 2]]
    compounds = np.array(list("aabbbc"), object)
    drawn = [baselines.shuffle_compounds(Y, compounds, np.random.default_rng(s)) for s in range(20)]
    for shuffled in drawn:
        labels_ = [set(shuffled[compounds == name].argmax(axis=1)) for name in "abc"]
        assert sorted(map(len, labels_)) == [1, 1, 1] and set.union(*labels_) == {0, 1, 2}
    assert len({tuple(s.argmax(axis=1)) for s in drawn}) == 6


@pytest.mark.parametrize(
    ("change", "hold_out", "reason"),
    [
        (lambda p: p, "compound", "not estimable: wells of negative, positive in fewer than two groups by compound"),
        (lambda p: p[p["Metadata_ControlType"] != "positive"], "row", "1 class among the control wells (negative), 2"),
        (lambda p: p[p["Metadata_ControlType"] == "sample"], "row", "0 class among the control wells (), 2 needed"),
        (lambda p: p[[c for c in p if c.startswith("Metadata_")]], "row", "the profiles have no feature"),
        (lambda p: p[(p["Metadata_Row"] == "A") | (p["Metadata_Column"] < 3)], "row", "wells of positive in fewer"),
        (lambda p: p[:0], "row", "not estimable: 0 class"),
    ],
)
def test_not_estimable_says_why(change, hold_out, reason):
    profiles = change(screen())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions, evaluation = classify.classify_treatments(profiles, MAKE, **{**OPTIONS, "hold_out": hold_out})
    assert evaluation["status"] == "not estimable" and reason in evaluation["reason"]
    assert all(evaluation[name] is None for name in [*classify.SCORES, "accuracy_low", *treatments.DOUBT])
    json.dumps(evaluation, allow_nan=False)
    assert list(predictions) == classify.COLUMNS
    assert len(predictions) == profiles["Metadata_Treatment"].nunique()
    assert (predictions["set"] == "").all() and predictions["novelty"].isna().all()
    controls = predictions["Metadata_Compound"].isin(["DMSO", "wortmannin"])
    assert (predictions.loc[controls, "mechanism"] == "").all() and predictions.loc[controls, "confidence"].isna().all()
    two_classes = "fewer than two groups" in evaluation["reason"]
    assert (
        (predictions.loc[~controls, "mechanism"] != "").all() if two_classes else (predictions["mechanism"] == "").all()
    )


def test_an_empty_table_has_the_types_of_a_full_one(answer):
    empty, _ = classify.classify_treatments(screen()[:0], MAKE, **OPTIONS)
    assert list(empty.dtypes) == list(answer[0].dtypes) and empty.empty


def test_wells_without_treatment_or_to_exclude_are_passed_over(answer):
    more = screen()[:2].assign(
        Metadata_Well=["H11", "H12"],
        Metadata_ControlType=["untreated", "exclude"],
        Metadata_Treatment=[np.nan, "poison"],
        Metadata_Compound=np.nan,
    )
    predictions, _ = classify.classify_treatments(pd.concat([more, screen()]), MAKE, **OPTIONS)
    pd.testing.assert_frame_equal(predictions, answer[0])


def test_without_counts_the_count_baseline_is_none():
    bare = screen().drop(columns=["Metadata_Object_Count", "Metadata_Site_Count"])
    no_site = screen().assign(Metadata_Site_Count=0)
    for profiles in (bare, no_site):
        baselines = classify.classify_treatments(profiles, MAKE, **OPTIONS)[1]["baselines"]
        assert baselines["cell_count"] == dict.fromkeys(classify.SCORES)


def test_counts_without_a_number_of_fields_are_taken_as_they_are(answer):
    imported = screen().drop(columns="Metadata_Site_Count")
    assert classify.classify_treatments(imported, MAKE, **OPTIONS)[1] == answer[1]


def test_cell_counts_are_per_valid_field():
    profiles = screen()
    positive = profiles["Metadata_ControlType"] == "positive"
    profiles["Metadata_Object_Count"] = np.where(positive, 50.0, 100.0)
    profiles["Metadata_Site_Count"] = np.where(positive, 1, 2)
    baseline = classify.classify_treatments(profiles, MAKE, **OPTIONS)[1]["baselines"]["cell_count"]
    assert baseline["balanced_accuracy"] == 0.5  # fields that were excluded are no effect on the cells


def test_bad_profiles_are_refused():
    profiles = screen()
    with pytest.raises(PlatelineError, match=r"lack \['Metadata_Treatment'\].*rerun rule correct_screen"):
        classify.classify_treatments(profiles.drop(columns="Metadata_Treatment"), MAKE, **OPTIONS)
    broken = profiles.copy()
    broken.loc[3, "Cells_Intensity_MeanIntensity_B"] = np.nan
    with pytest.raises(PlatelineError, match=r"not finite in \['Cells_Intensity_MeanIntensity_B'\]; expected numbers"):
        classify.classify_treatments(broken, MAKE, **OPTIONS)
    nameless = profiles.assign(Metadata_Row=profiles["Metadata_Row"].where(profiles["Metadata_Row"] != "A"))
    with pytest.raises(PlatelineError, match="3 labelled rows have no Metadata_Row"):
        classify.classify_treatments(nameless, MAKE, **OPTIONS)


def test_real_mechanisms_are_found_and_their_plates_suspected(data):
    """Two mechanisms of BBBC021, whole compounds held out."""
    table = pd.read_csv(data / "bbbc021" / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz")
    image = pd.read_csv(data / "bbbc021" / "BBBC021_v1_image.csv.gz")
    keys = ["Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI"]
    names = {"Image_Metadata_Compound": "compound", "Image_Metadata_Concentration": "concentration"}
    image = image.rename(columns=names | dict(zip(keys, list(table)[:2], strict=True)))
    moa = pd.read_csv(data / "bbbc021" / "BBBC021_v1_moa.csv")
    wells = image[[*list(table)[:2], "compound", "concentration"]].drop_duplicates().merge(moa).merge(table)
    wells = wells[wells["moa"].isin(["Microtubule stabilizers", "Protein synthesis"])]
    features = wells.filter(regex="^(Cells|Nuclei|Cytoplasm)_").dropna(axis=1)
    metadata = pd.DataFrame(
        {
            "Metadata_Plate": wells["Image_Metadata_Plate"],
            "Metadata_Well": wells["Image_Metadata_Well"],
            "Metadata_ControlType": "reference",
            "Metadata_Compound": wells["compound"],
            "Metadata_Treatment": wells["compound"] + "@" + wells["concentration"].map("{:g} uM".format),
            "Metadata_MoA": wells["moa"],
        }
    )
    make = partial(classify.logistic, C=0.01, seed=0)
    profiles = pd.concat([metadata, features], axis=1)
    _, evaluation = classify.classify_treatments(profiles, make, **{**OPTIONS, "hold_out": "compound"})
    assert evaluation["status"] == "ok" and evaluation["n_groups"] >= 4
    assert evaluation["balanced_accuracy"] > 0.75
    # Nearly every plate holds one mechanism, so these wells cannot tell mechanism from plate: the baseline says so.
    assert (wells.groupby("Image_Metadata_Plate")["moa"].nunique() == 1).mean() > 0.9
    assert evaluation["baselines"]["shuffled_labels"]["balanced_accuracy"] > 0.9
