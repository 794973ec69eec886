"""Correctors and feature selection: naive loops, leaks, and every reason to leave something out."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from plateline import correct
from plateline.errors import PlatelineError

OPTIONS = {"min_controls": 3, "max_correlation": 0.9}
NEW = "Metadata_Correction"
FEATURES = ["Cells_AreaShape_Area", "Nuclei_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_DNA"]


def screen(plates=("P1", "P2"), seed=0, features=FEATURES):
    """Two plates of 6 negative, 2 positive and 8 sample wells, each plate with its own offset and scale."""
    rng, tables = np.random.default_rng(seed), []
    for number, name in enumerate(plates):
        kinds = ["negative"] * 6 + ["positive"] * 2 + ["sample"] * 8
        table = pd.DataFrame(
            {
                "Metadata_Plate": name,
                "Metadata_Well": [f"A{i + 1:02d}" for i in range(len(kinds))],
                "Metadata_Status": "ok",
                "Metadata_ControlType": kinds,
            }
        )
        values = rng.normal(0, 1, (len(kinds), len(features))) * (number + 1) + 100 * number
        tables.append(pd.concat([table, pd.DataFrame(values, columns=features)], axis=1))
    return pd.concat(tables, ignore_index=True)


def run(profiles, corrector, *, min_controls, max_correlation, drop=()):
    """Corrected wells, verdicts on features, wells left out."""
    made = correct.correct_profiles(
        profiles, corrector, min_controls=min_controls, drop=drop, select={"max_correlation": max_correlation}
    )
    return made.profiles.drop(columns=NEW), made.selection, made.left_out


def reasons(selection):
    """Feature to reason, of the dropped ones."""
    return dict(selection.loc[~selection["kept"], ["feature", "reason"]].to_numpy())


def naive_correct(profiles, center, spread):
    """Each value by a loop over plates, features and wells."""
    expected = profiles.copy()
    for plate in set(profiles["Metadata_Plate"]):
        own = profiles["Metadata_Plate"] == plate
        for feature in FEATURES:
            controls = profiles.loc[own & (profiles["Metadata_ControlType"] == "negative"), feature].to_numpy()
            for i in profiles.index[own]:
                expected.loc[i, feature] = (profiles.loc[i, feature] - center(controls)) / spread(controls)
    return expected


def naive_correlated(X, max_correlation):
    """For each feature the best kept one before it, or -1; one pair at a time."""
    partner = []
    for i in range(X.shape[1]):
        best, strongest = -1, max_correlation
        for j in range(i):
            r = min(abs(np.corrcoef(X[:, i], X[:, j])[0, 1]), 1.0)
            if partner[j] == -1 and r > strongest:
                best, strongest = j, r
        partner.append(best)
    return partner


def mad(controls):
    return 1.4826 * np.median(np.abs(controls - np.median(controls)))


@pytest.mark.parametrize(
    ("corrector", "center", "spread"),
    [
        (correct.Standardize, np.mean, partial(np.std, ddof=1)),
        (correct.MadRobustize, np.median, mad),
        (correct.Identity, lambda _: 0.0, lambda _: 1.0),
    ],
)
def test_each_corrector_equals_its_naive_loop(corrector, center, spread):
    profiles = screen()
    corrected, selection, left_out = run(profiles, corrector, min_controls=3, max_correlation=1)
    assert selection["kept"].all() and left_out.empty
    pd.testing.assert_frame_equal(corrected, naive_correct(profiles, center, spread))


def test_a_standardised_plate_has_controls_of_mean_0_and_sd_1_whatever_its_offset():
    profiles = screen()
    corrected, _, _ = run(profiles, correct.Standardize, **OPTIONS)
    controls = corrected[corrected["Metadata_ControlType"] == "negative"].groupby("Metadata_Plate")[FEATURES]
    np.testing.assert_allclose(controls.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(controls.std(), 1)
    moved = profiles.copy()
    moved.loc[moved["Metadata_Plate"] == "P2", FEATURES] = moved[FEATURES] * 7 - 3
    again, _, _ = run(moved, correct.Standardize, **OPTIONS)
    pd.testing.assert_frame_equal(corrected, again)


def test_no_sample_well_has_a_say_in_the_scale_of_another():
    profiles = screen()
    options = {"min_controls": 3, "max_correlation": 1}
    before, _, _ = run(profiles, correct.Standardize, **options)
    changed = profiles.copy()
    touched = changed["Metadata_ControlType"].isin(["sample", "positive"]) & (changed.index % 2 == 0)
    changed.loc[touched, FEATURES] *= 1e6
    after, _, _ = run(changed, correct.Standardize, **options)
    pd.testing.assert_frame_equal(before[~touched], after[~touched])
    assert not before[touched].equals(after[touched])


def test_no_plate_has_a_say_in_the_scale_of_another():
    profiles = screen()
    alone, _, _ = run(profiles[:16], correct.MadRobustize, min_controls=3, max_correlation=1)
    both, _, _ = run(profiles, correct.MadRobustize, min_controls=3, max_correlation=1)
    pd.testing.assert_frame_equal(alone, both[:16])


def test_rows_come_sorted_whatever_their_order():
    profiles = screen()
    shuffled = profiles.sample(frac=1, random_state=0)
    for one, other in zip(
        run(profiles, correct.Standardize, **OPTIONS),
        run(shuffled, correct.Standardize, **OPTIONS),
        strict=True,
    ):
        pd.testing.assert_frame_equal(one, other)


def test_the_input_stays_as_it_was():
    profiles = screen()
    copy = profiles.copy()
    run(profiles, correct.Standardize, **OPTIONS)
    run(profiles, correct.Identity, **OPTIONS)
    pd.testing.assert_frame_equal(profiles, copy)


def test_a_plate_with_few_controls_is_left_out_and_named():
    profiles = screen()
    profiles.loc[profiles.index[16:20], "Metadata_ControlType"] = "untreated"
    corrected, _, left_out = run(profiles, correct.Standardize, **OPTIONS)
    assert set(corrected["Metadata_Plate"]) == {"P1"} and len(corrected) == 16
    assert list(left_out) == ["Metadata_Plate", "Metadata_Well", "reason"]
    assert set(left_out["Metadata_Plate"]) == {"P2"} and len(left_out) == 16
    assert set(left_out["reason"]) == {"plate has 2 negative control wells, 3 needed"}


def test_bad_wells_are_left_out_and_decide_nothing():
    profiles = screen()
    expected, kept, _ = run(profiles, correct.Standardize, **OPTIONS)
    bad = profiles[:4].assign(
        Metadata_Well=["H01", "H02", "H03", "H04"],
        Metadata_Status=["failed", "few cells", "no images", "ok"],
        Metadata_ControlType=["negative", "negative", "negative", "exclude"],
    )
    bad[FEATURES] = [[np.nan] * 3, [1e9] * 3, [np.inf] * 3, [np.nan] * 3]
    corrected, selection, left_out = run(pd.concat([bad, profiles]), correct.Standardize, **OPTIONS)
    pd.testing.assert_frame_equal(corrected, expected)
    pd.testing.assert_frame_equal(selection, kept)
    assert list(left_out["Metadata_Well"]) == ["H01", "H02", "H03", "H04"]
    assert list(left_out["reason"]) == [
        "well status failed",
        "well status few cells",
        "well status no images",
        "control type exclude",
    ]


def test_every_well_is_corrected_or_left_out():
    rng = np.random.default_rng(4)
    for seed in range(5):
        profiles = screen(("P1", "P2", "P3"), seed)
        profiles["Metadata_Status"] = rng.choice(["ok", "failed"], len(profiles), p=[0.6, 0.4])
        corrected, _, left_out = run(profiles, correct.Standardize, **OPTIONS)
        wells = pd.concat([corrected, left_out])[["Metadata_Plate", "Metadata_Well"]]
        assert len(wells) == len(profiles) and not wells.duplicated().any()


def test_each_dropped_feature_says_why():
    names = ["Cells_A", "Cells_Missing", "Cells_NaN", "Cells_Inf", "Cells_Flat", "Cells_Twin", "Cells_B"]
    profiles = screen(features=names)
    profiles.loc[profiles["Metadata_Plate"] == "P2", "Cells_Missing"] = np.nan
    profiles.loc[[3, 20], "Cells_NaN"] = np.nan
    profiles.loc[17, "Cells_Inf"] = -np.inf
    profiles.loc[profiles.index[16:22], "Cells_Flat"] = 0.1
    profiles["Cells_Twin"] = -2 * profiles["Cells_A"] + 1
    corrected, selection, _ = run(profiles, correct.Standardize, **OPTIONS)
    assert list(selection["feature"]) == names
    assert list(corrected.columns[4:]) == ["Cells_A", "Cells_B"]
    assert reasons(selection) == {
        "Cells_Missing": "no value on plates P2",
        "Cells_NaN": "not finite in 2 wells, the first P1 A04",
        "Cells_Inf": "not finite in 1 wells, the first P2 A02",
        "Cells_Flat": "no spread among the negative controls of plates P2",
        "Cells_Twin": "correlation above 0.9 with Cells_A",
    }
    assert (selection.loc[selection["kept"], "reason"] == "").all()


def test_features_go_by_parts_of_their_names():
    names = ["Cells_Location_Center_X", "Cells_Location_Area", "Cells_AreaShape_Center_X", "Cells_AreaShape_Area"]
    profiles = screen(features=names)
    profiles[names[0]] = np.nan
    drop = ["_Location_", "Center_"]
    corrected, selection, _ = run(profiles, correct.Standardize, **OPTIONS, drop=drop)
    assert list(corrected)[4:] == names[3:]
    held = {names[0]: "_Location_", names[1]: "_Location_", names[2]: "Center_"}
    assert reasons(selection) == {name: f"name holds {part}" for name, part in held.items()}


def test_identity_drops_only_what_is_the_same_in_all_wells():
    profiles = screen()
    profiles[FEATURES[0]] = 0.1
    profiles.loc[profiles["Metadata_ControlType"] == "negative", FEATURES[1]] = 0.0
    _, selection, _ = run(profiles, correct.Identity, **OPTIONS)
    assert reasons(selection) == {FEATURES[0]: "same value in all wells"}


def test_correlated_equals_its_naive_loop():
    rng = np.random.default_rng(2)
    for trial in range(5):
        base = rng.normal(size=(40, 6))
        X = base[:, rng.integers(0, 6, 25)] * rng.choice([-1, 1], 25) + rng.normal(0, 0.3, (40, 25))
        for limit in (0.3, 0.9, 0.95):
            assert correct.correlated(X, limit).tolist() == naive_correlated(X, limit), trial


def test_no_kept_pair_is_correlated_and_every_dropped_one_has_a_kept_partner():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 5))[:, rng.integers(0, 5, 20)] + rng.normal(0, 0.2, (30, 20))
    partner = correct.correlated(X, 0.9)
    kept = np.flatnonzero(partner == -1)
    r = np.abs(np.corrcoef(X.T))
    assert (r[np.ix_(kept, kept)] - np.eye(len(kept)) <= 0.9).all()
    assert set(partner[partner >= 0]) <= set(kept)
    assert all(r[i, partner[i]] > 0.9 and partner[i] < i for i in np.flatnonzero(partner >= 0))


def test_a_chain_of_correlations_drops_the_middle_only():
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(2, 2000))
    assert correct.correlated(np.stack([a, a + c, c], axis=1), 0.5).tolist() == [-1, 0, -1]
    assert correct.correlated(np.stack([a, a, c], axis=1), 1.0).tolist() == [-1, -1, -1]


def test_real_profiles_keep_what_pycytominer_calls_uncorrelated(data):
    from pycytominer.operations import correlation_threshold

    table = pd.read_csv(data / "examplehuman" / "Nuclei.csv").filter(regex="^(AreaShape|Intensity)_.*").dropna(axis=1)
    table = table.loc[:, table.std() > 1e-9]
    partner = correct.correlated(table.to_numpy(), 0.9)
    assert partner.tolist() == naive_correlated(table.to_numpy(), 0.9)
    theirs = set(table) - set(correlation_threshold(table, features=list(table), threshold=0.9))
    ours = table.columns[partner == -1]
    # They choose which of a pair goes by its other correlations; neither leaves a correlated pair.
    assert abs(len(ours) - len(theirs)) <= 0.2 * len(theirs)


def test_real_wells_keep_their_scale(data):
    table = pd.read_csv(data / "bbbc021" / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz", nrows=120)
    table = table.rename(columns={c: c.removeprefix("Image_") for c in table})
    kind = np.where(table.groupby("Metadata_Plate").cumcount() < 5, "negative", "sample")
    table = table.copy().assign(Metadata_Status="ok", Metadata_ControlType=kind)
    corrected, selection, left_out = run(table, correct.Standardize, **OPTIONS)
    assert len(corrected) + len(left_out) == 120 and len(corrected) > 50
    assert 20 < selection["kept"].sum() < len(selection)
    controls = corrected[corrected["Metadata_ControlType"] == "negative"].groupby("Metadata_Plate")
    np.testing.assert_allclose(controls[list(selection["feature"][selection["kept"]])].std(), 1)


@pytest.mark.parametrize("corrector", [correct.Standardize, correct.MadRobustize, correct.MinMaxControls])
def test_estimators_clone_and_answer_nan_without_a_scale(corrector):
    X = np.array([[0.1, 1, 1, 1e6], [0.1, 2, np.nan, 1e6 * (1 + 1e-12)], [0.1, 4, np.inf, 1e6], [0.1, 9, 3, 1e6]])
    wells = correct.context.context_of(pd.DataFrame({"Metadata_Plate": ["P1"] * 4}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z = clone(corrector()).fit(X, wells).transform(X, wells)
    assert np.isnan(Z[:, [0, 2, 3]]).all() and np.isfinite(Z[:, 1]).all()
    message = f"{corrector.__name__} was given 1 control wells on plate P1; expected at least 2"
    with pytest.raises(PlatelineError, match=message):
        corrector().fit(X[:1], wells[:1])
    with pytest.raises(PlatelineError, match="was given no control wells"):
        corrector().fit(X[:0], wells[:0])


def test_identity_needs_no_controls():
    profiles = screen()
    profiles["Metadata_ControlType"] = "sample"
    corrected, _, _ = run(profiles, correct.Identity, min_controls=0, max_correlation=1)
    pd.testing.assert_frame_equal(corrected, profiles)


def test_empty_tables_have_all_columns():
    profiles = screen()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for empty in (profiles[:0], profiles[:0].astype(object), profiles.assign(Metadata_Status="failed")):
            corrected, selection, left_out = run(empty, correct.Standardize, **OPTIONS)
            assert list(corrected) == list(profiles.columns[:4]) and corrected.empty
            assert reasons(selection) == dict.fromkeys(FEATURES, "no well left to correct")
            assert list(left_out) == ["Metadata_Plate", "Metadata_Well", "reason"] and len(left_out) == len(empty)
        bare = profiles[profiles.columns[:4]]
        corrected, selection, _ = run(bare, correct.Standardize, **OPTIONS)
    pd.testing.assert_frame_equal(corrected, bare)
    assert list(selection) == ["feature", "kept", "reason"] and selection.empty


def test_what_cannot_be_corrected_is_refused():
    profiles = screen()
    with pytest.raises(PlatelineError, match=r"lack the columns \['Metadata_Status'\].*rerun rule profile_plate"):
        run(profiles.drop(columns="Metadata_Status"), correct.Standardize, **OPTIONS)
    with pytest.raises(PlatelineError, match=r"features \['Compound'\] .* have dtype object; expected numbers"):
        run(profiles.assign(Compound="DMSO"), correct.Standardize, **OPTIONS)

    twice = pd.concat([profiles, profiles[:1]])
    with pytest.raises(PlatelineError, match="plate P1 well A01 stands twice in the profiles; expected one row"):
        run(twice, correct.Standardize, **OPTIONS)

    class Clairvoyant(correct.Identity):
        kind = "labelled"

    with pytest.raises(PlatelineError, match="Clairvoyant is of kind 'labelled'; expected inductive or transductive"):
        run(profiles, Clairvoyant, **OPTIONS)
