"""The null of control wells: no fit has seen the plate it scores, its p is uniform where nothing happens."""

import numpy as np
import pandas as pd
import pytest

from plateline.hits import null


def screen(seed=0, plates=12, controls=6, samples=6, features=20, batches=4):
    """Plates with their own offset and correlated features; sample j stands on the three plates of a batch."""
    rng = np.random.default_rng(seed)
    wells = controls + samples
    plate = np.repeat([f"P{n:02d}" for n in range(plates)], wells)
    mixing = np.eye(features) + rng.normal(size=(features, features)) / 8
    values = rng.normal(size=(len(plate), features)) @ mixing
    values += 2 * rng.normal(size=(plates, features)).repeat(wells, axis=0)
    place = np.tile(np.arange(wells), plates)
    batch = np.repeat(np.arange(plates) * batches // plates, wells)
    names = pd.Series([f"t{j}_{b}" if j >= controls else None for j, b in zip(place, batch, strict=True)], dtype=object)
    return values, plate, place < controls, names, batch


def test(values, plate, negative, names, **options):
    return null.control_test(values, plate, negative, names, **({"ridge": 1.0, "n_draws": 999, "seed": 0} | options))


test.__test__ = False


def naive_whitening(values, plate, negative, left_out, ridge):
    """The matrix that scores wells of some plates, refitted from scratch on the others."""
    rows = []
    for name in sorted(set(plate[~left_out])):
        own = values[(plate == name) & negative]
        rows.append(own - own.mean(axis=0))
    degrees = sum(len(own) - 1 for own in rows)
    residuals = np.concatenate(rows)
    spread = np.sqrt((residuals**2).sum(axis=0) / degrees)
    correlation = (residuals / spread).T @ (residuals / spread) / degrees
    roots, vectors = np.linalg.eigh(correlation)
    return np.diag(1 / spread) @ vectors @ np.diag(1 / np.sqrt(roots + ridge)) @ vectors.T


def test_whitening_against_a_refit():
    values, plate, negative, _, _ = screen(plates=4)
    white = null.whiten_across(values, plate, negative, left_out=plate, ridge=1.0)
    for name in sorted(set(plate)):
        here = plate == name
        centre = values[here & negative].mean(axis=0)
        matrix = naive_whitening(values, plate, negative, here, 1.0)
        np.testing.assert_allclose(white[here], (values[here] - centre) @ matrix, rtol=1e-8, atol=1e-10)


def test_no_fit_has_seen_the_plate_that_it_scores():
    values, plate, negative, _, _ = screen(plates=4)
    before = null.whiten_across(values, plate, negative, left_out=plate, ridge=1.0)
    changed = values.copy()
    shift = (plate == "P01") & negative
    changed[shift] *= np.random.default_rng(3).uniform(1, 9, values.shape[1])
    changed[shift] += values[shift].mean(axis=0) - changed[shift].mean(axis=0)
    after = null.whiten_across(changed, plate, negative, left_out=plate, ridge=1.0)
    samples = (plate == "P01") & ~negative
    np.testing.assert_allclose(after[samples], before[samples], rtol=1e-8, atol=1e-10)
    assert not np.allclose(after[plate == "P02"], before[plate == "P02"])


def test_a_treatment_is_scored_without_all_of_its_plates():
    values, plate, negative, names, batch = screen()
    before = test(values, plate, negative, names)
    changed = values.copy()
    own = (batch == 0) & negative
    for name in sorted(set(plate[own])):
        rows = own & (plate == name)
        changed[rows] = changed[rows].mean(axis=0) + 5 * (changed[rows] - changed[rows].mean(axis=0))
    after = test(changed, plate, negative, names)
    of_batch = [name for name in before.index if name.endswith("_0")]
    np.testing.assert_allclose(after.loc[of_batch, "null_distance"], before.loc[of_batch, "null_distance"], rtol=1e-8)


def test_the_distance_of_a_set_is_that_of_leaving_it_out():
    values, plate, negative, _, _ = screen(plates=3)
    white, _ = null.centre_on_negatives(values, plate, negative)
    controls = np.flatnonzero(negative)
    negatives = {name: int(((plate == name) & negative).sum()) for name in set(plate)}
    for chosen in ([0, 6, 12], [0, 1, 8], [2, 3, 4]):
        rows = controls[chosen]
        means = []
        for row in rows:
            mates = rows[plate[rows] == plate[row]]
            rest = [w for w in np.flatnonzero(negative & (plate == plate[row])) if w not in mates]
            means.append(values[row] - values[rest].mean(axis=0))
        expected = np.sqrt((np.mean(means, axis=0) ** 2).mean())
        found = null.set_distances(white, plate, negatives, rows[None])
        np.testing.assert_allclose(found, [expected], rtol=1e-10)


def test_p_is_uniform_where_nothing_happens():
    p = np.concatenate([test(*screen(seed)[:4])["null_p"] for seed in range(25)])
    assert 0.02 < np.mean(p <= 0.05) < 0.08
    assert 0.4 < p.mean() < 0.62


def test_a_strong_treatment_has_the_smallest_p_and_the_floor_is_said():
    values, plate, negative, names, _ = screen()
    values[names == "t7_1"] += 4
    found = test(values, plate, negative, names)
    assert found.loc["t7_1", "null_p"] == found.loc["t7_1", "null_floor"] == 1 / (1 + found.loc["t7_1", "n_null"])
    assert found.loc["t7_1", "n_null"] > 500


def test_where_there_is_no_null_the_reason_is_said():
    values, plate, negative, names, _ = screen(plates=3, batches=1, controls=8)
    everywhere = test(values, plate, negative, names)
    assert everywhere["null_p"].isna().all()
    assert set(everywhere["null_reason"]) == {"no null of controls: no plates without this treatment, or one well"}
    few = test(*screen(plates=2, controls=3, batches=2)[:4])
    assert set(few["null_reason"]) == {"6 negative control wells; expected 20 for a null of controls"}
    values, plate, negative, names, _ = screen()
    single = names.where(np.arange(len(names)) == np.flatnonzero(names.notna())[0])
    assert test(values, plate, negative, single)["null_p"].isna().all()


def test_many_layouts_are_refused(monkeypatch):
    monkeypatch.setattr(null, "MOST_LAYOUTS", 3)
    found = test(*screen()[:4])
    assert set(found["null_reason"]) == {"treatments stand on 4 different sets of plates; at most 3"}


def test_plates_with_too_few_controls_have_no_set():
    assert null.draw_sets([np.array([1]), np.array([2, 3])], [1, 1], 9, [0]).shape == (0, 2)


def test_other_seeds_and_the_order_of_wells():
    values, plate, negative, names, _ = screen()
    found = test(values, plate, negative, names)
    order = np.random.default_rng(0).permutation(len(plate))
    other = test(values[order], plate[order], negative[order], names.iloc[order].reset_index(drop=True))
    np.testing.assert_allclose(other["null_distance"], found["null_distance"], rtol=1e-8)


def test_false_positives_are_near_five_percent_on_plates_like_each_other():
    values, plate, negative, _, batch = screen(plates=20, controls=12, samples=0)
    profiles = pd.DataFrame({"Metadata_Plate": plate, "Metadata_Batch": batch.astype(str)})
    found = null.false_positives(values, profiles, negative, ridge=1.0, seed=0).set_index("held_out")
    assert 0.02 < found.loc["plate", "rate"] < 0.09
    assert found.loc["plate", "low"] <= found.loc["plate", "rate"] <= found.loc["plate", "high"]
    assert found.loc["batch", "n_blocks"] == 4


def test_a_batch_unlike_the_others_is_said():
    values, plate, negative, _, batch = screen(plates=12, controls=12, samples=0, batches=2)
    centre = pd.DataFrame(values).groupby(plate).transform("mean").to_numpy()
    values = centre + (values - centre) * np.where(batch == 0, 6, 1)[:, None]
    profiles = pd.DataFrame({"Metadata_Plate": plate, "Metadata_Batch": batch.astype(str)})
    found = null.false_positives(values, profiles, negative, ridge=1.0, seed=0).set_index("held_out")
    assert found.loc["batch", "rate"] > 0.1
    assert found.loc["batch", "reason"].startswith("calls do not transfer across batches")


def test_one_plate_has_no_rate():
    values, plate, negative, _, _ = screen(plates=1, batches=1)
    found = null.false_positives(values, pd.DataFrame({"Metadata_Plate": plate}), negative, ridge=1.0, seed=0)
    assert found["rate"].isna().all()
    assert found["reason"].str.contains("6 controls|0 controls", regex=True).all()


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_a_constant_feature_does_nothing(constant):
    values, plate, negative, names, _ = screen()
    wider = np.hstack([values, np.full((len(values), 1), constant)])
    found = test(wider, plate, negative, names)
    expected = test(values, plate, negative, names)
    share = values.shape[1] / wider.shape[1]
    np.testing.assert_allclose(found["null_distance"], expected["null_distance"] * np.sqrt(share), rtol=1e-8)
