"""Mean average precision against a plain ranking, against copairs where it is installed, and under relabelling."""

import numpy as np
import pandas as pd
import pytest

from plateline import precision
from plateline.precision import average_precision, mean_average_precision


def screen(seed=0, wells=60, features=12):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(wells * 2 // 3) // 4, np.full(wells - wells * 2 // 3, -1)])
    values = rng.normal(size=(wells, features)) + 0.7 * rng.normal(size=(wells, features))[labels]
    return values, labels, rng.integers(3, size=wells)


def naive(values, labels, well, rival):
    """Average precision of one well by sorting all others."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    same = [w for w in range(len(labels)) if labels[w] == labels[well] and w != well]
    ranked = sorted(same + rival, key=lambda w: (np.float32(1) - np.float32(unit[w] @ unit[well]), w not in same))
    hits, score = 0, 0.0
    for place, w in enumerate(ranked, 1):
        if w in same:
            hits += 1
            score += hits / place
    return score / hits if hits and rival else np.nan


@pytest.mark.parametrize("question", ["controls", "others"])
def test_average_precision_against_a_plain_ranking(question):
    values, labels, plates = screen()
    controls = labels < 0
    options = {"rivals": controls, "blocks": plates} if question == "controls" else {}
    found = average_precision(values, labels, **options)
    for well in range(len(labels)):
        if question == "controls":
            rival = [w for w in range(len(labels)) if controls[w] and plates[w] == plates[well]]
        else:
            rival = [w for w in range(len(labels)) if labels[w] >= 0 and labels[w] != labels[well]]
        expected = np.nan if labels[well] < 0 else naive(values, labels, well, rival)
        np.testing.assert_allclose(found["average_precision"].iloc[well], expected, rtol=1e-12)
        if labels[well] >= 0:
            assert found["n_total"].iloc[well] == found["n_positive"].iloc[well] + len(rival)


def test_blocks_of_wells_change_nothing(monkeypatch):
    values, labels, plates = screen()
    whole = average_precision(values, labels, rivals=labels < 0, blocks=plates)
    monkeypatch.setattr(precision, "LARGEST", 7)
    pd.testing.assert_frame_equal(average_precision(values, labels, rivals=labels < 0, blocks=plates), whole)


def test_relabelling_length_and_order_change_nothing():
    values, labels, _ = screen()
    expected = average_precision(values, labels)["average_precision"].to_numpy()
    order = np.random.default_rng(1).permutation(len(labels))
    renamed = np.where(labels >= 0, 90 - labels, -1)
    found = average_precision(3.0 * values[order], renamed[order])["average_precision"].to_numpy()
    np.testing.assert_allclose(found, expected[order], rtol=1e-12)


def test_wells_without_replicate_rival_or_direction():
    values = np.array([[1.0, 0], [0, 1], [1, 0.1], [0, 0]])
    found = average_precision(values, [0, 1, 0, 1])
    assert found["average_precision"].notna().all()
    assert average_precision(values, [0, 1, 2, -1])["average_precision"].isna().all()
    assert average_precision(values, [0, 0, 0, 0])["average_precision"].isna().all()
    assert average_precision(np.zeros((0, 2)), np.zeros(0, int)).empty


def test_where_nothing_happens_p_is_not_too_small():
    rng, ps = np.random.default_rng(2), []
    _, labels, _ = screen()
    for _ in range(40):
        values = rng.normal(size=(len(labels), 12))
        table = mean_average_precision(average_precision(values, labels), pd.Series(labels), n_null=500, seed=0)
        ps += list(table["p"])
    # Wells with the same numbers share their random rankings: conservative, as copairs is.
    assert np.mean(np.array(ps) <= 0.05) < 0.07
    assert 0.4 < np.mean(ps) < 0.6


def test_a_perfect_treatment_has_the_smallest_p():
    values, labels, _ = screen()
    values[labels == 3] = np.random.default_rng(5).normal(size=values.shape[1]) * 50
    table = mean_average_precision(average_precision(values, labels), pd.Series(labels), n_null=999, seed=0)
    assert table.loc[3, "map"] == 1
    assert table.loc[3, "p"] == pytest.approx(0.001, abs=1e-3)
    assert table.loc[3, "n_wells"] == 4
    again = mean_average_precision(average_precision(values, labels), pd.Series(labels), n_null=999, seed=0)
    pd.testing.assert_frame_equal(table, again)


@pytest.mark.parametrize(("number", "total"), [(2, 60), (5, 8)])
def test_random_places_are_different_and_equally_likely(number, total):
    places = precision._choose(number, total, 20_000, np.random.default_rng(0))
    assert (np.diff(np.sort(places, axis=1), axis=1) > 0).all()
    share = np.bincount(places.ravel(), minlength=total) / len(places)
    np.testing.assert_allclose(share, number / total, atol=0.02)


def test_equals_copairs(tmp_path):
    copairs = pytest.importorskip("copairs.map")
    values, labels, plates = screen(seed=4, wells=90)
    names = np.where(labels < 0, -1 - np.arange(len(labels)), labels)
    meta = pd.DataFrame({"treatment": names, "plate": plates, "control": labels < 0})
    rules = {"pos_sameby": ["treatment"], "pos_diffby": [], "neg_sameby": ["plate"], "neg_diffby": ["control"]}
    theirs = copairs.average_precision(meta, values, **rules, progress_bar=False)
    ours = average_precision(values, labels, rivals=labels < 0, blocks=plates)
    scored = labels >= 0
    np.testing.assert_allclose(ours["average_precision"][scored], theirs["average_precision"][scored], atol=1e-6)
    theirs = copairs.mean_average_precision(
        theirs[scored],
        ["treatment"],
        null_size=4000,
        threshold=0.05,
        seed=0,
        progress_bar=False,
        cache_dir=tmp_path,
    ).set_index("treatment")
    found = mean_average_precision(ours, pd.Series(labels), n_null=4000, seed=0)
    np.testing.assert_allclose(found["map"], theirs["mean_average_precision"].loc[found.index], atol=1e-6)
    np.testing.assert_allclose(found["p"], theirs["p_value"].loc[found.index], atol=0.04)
