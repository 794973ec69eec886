"""Scaling over batches and the methods against batch effects: naive loops, peers, leaks, and nothing to work on."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest

from plateline import correct, methods
from plateline.correct import harmony, mixing, mnn, select, sphering
from plateline.correct.context import context_of
from plateline.errors import ConfigError, PlatelineError

BATCHWISE = {
    "tvn": correct.TypicalVariation,
    "combat": correct.Combat,
    "harmony": correct.Harmony,
    "mnn": correct.MutualNeighbours,
}
N_FEATURES = 6


def screen(n_batches=3, shift=3.0, seed=0, n_features=N_FEATURES):
    """Two plates a batch, each of 5 negative wells and 3 of each of 4 treatments; every batch has its own shift."""
    rng, tables = np.random.default_rng(seed), []
    effects = rng.normal(0, 6, (4, n_features))
    for batch in range(n_batches):
        moved, spread = rng.normal(0, shift, n_features), rng.uniform(0.7, 1.4, n_features)
        for plate in range(2):
            treatment = ["DMSO"] * 5 + [f"drug {i}" for i in range(4) for _ in range(3)]
            signal = np.concatenate([np.zeros((5, n_features)), effects.repeat(3, axis=0)])
            values = (signal + rng.normal(0, 1, signal.shape)) * spread + moved
            metadata = {
                "Metadata_Plate": f"B{batch}P{plate}",
                "Metadata_Well": [f"A{i + 1:02d}" for i in range(len(treatment))],
                "Metadata_Batch": f"week {batch}",
                "Metadata_Status": "ok",
                "Metadata_ControlType": ["negative" if t == "DMSO" else "sample" for t in treatment],
                "Metadata_Treatment": treatment,
                "Metadata_MoA": treatment,
            }
            features = pd.DataFrame(values, columns=[f"Cells_F{i}" for i in range(n_features)])
            tables.append(pd.concat([pd.DataFrame(metadata), features], axis=1))
    return pd.concat(tables, ignore_index=True)


def parts(profiles):
    """Features, context and which wells are negative controls."""
    return (
        profiles.filter(like="Cells_").to_numpy(),
        context_of(profiles),
        (profiles["Metadata_ControlType"] == "negative").to_numpy(),
    )


def batch_share(X, profiles):
    """Share of the variance within treatments that lies between batches."""
    within = X - pd.DataFrame(X).groupby(profiles["Metadata_Treatment"]).transform("mean").to_numpy()
    between = pd.DataFrame(within).groupby(profiles["Metadata_Batch"]).transform("mean").to_numpy()
    return (between**2).sum() / (within**2).sum()


# --- scale


def test_a_plate_with_few_controls_borrows_its_scale_from_the_batch():
    profiles = screen()
    X, context, negative = parts(profiles)
    estimator = correct.Standardize(own_scale_from=16).fit(X[negative], context[negative].reset_index(drop=True))
    for plate, batch in profiles[["Metadata_Plate", "Metadata_Batch"]].drop_duplicates().to_numpy():
        own = X[negative & (profiles["Metadata_Plate"] == plate)]
        squares, wells, plates = 0, 0, 0
        for other in profiles.loc[profiles["Metadata_Batch"] == batch, "Metadata_Plate"].unique():
            theirs = X[negative & (profiles["Metadata_Plate"] == other)]
            squares, wells, plates = squares + ((theirs - theirs.mean(0)) ** 2).sum(0), wells + len(theirs), plates + 1
        expected = np.sqrt(5 / 16 * own.var(axis=0, ddof=1) + 11 / 16 * squares / (wells - plates))
        np.testing.assert_allclose(estimator.scale_[plate], expected)
        np.testing.assert_allclose(estimator.center_[plate], own.mean(axis=0))


@pytest.mark.parametrize("method", [correct.Standardize, correct.MadRobustize, correct.MinMaxControls])
def test_a_plate_with_enough_controls_is_scaled_by_its_own_alone(method):
    profiles, found = screen(), []
    for table in (profiles, profiles[profiles["Metadata_Plate"] == "B0P0"]):
        X, context, negative = parts(table)
        estimator = method(own_scale_from=5).fit(X[negative], context[negative].reset_index(drop=True))
        found.append(estimator.transform(X, context)[:17])
    np.testing.assert_allclose(*found)


def test_the_controls_span_0_to_1_by_their_percentiles():
    profiles = screen()
    X, context, negative = parts(profiles)
    estimator = correct.MinMaxControls(own_scale_from=2).fit(X[negative], context[negative].reset_index(drop=True))
    own = X[:5]
    low, high = np.percentile(own, 1, axis=0), np.percentile(own, 99, axis=0)
    np.testing.assert_allclose(estimator.transform(X, context)[:17], (X[:17] - low) / (high - low))


def test_robust_scale_equals_pycytominer():
    from pycytominer.operations import RobustMAD

    profiles = screen()[:17].drop(columns="Metadata_Batch")
    X, context, negative = parts(profiles)
    ours = correct.MadRobustize().fit(X[negative], context[negative]).transform(X, context)
    theirs = RobustMAD(epsilon=0).fit(pd.DataFrame(X[negative])).transform(pd.DataFrame(X))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)  # they take 1.482602..., we 1.4826


def test_z_scores_equal_scikit_learn():
    from sklearn.preprocessing import StandardScaler

    X, context, _ = parts(screen())
    theirs = StandardScaler().fit_transform(X) * np.sqrt((len(X) - 1) / len(X))
    np.testing.assert_allclose(correct.ZScore().fit_transform(X, context), theirs)
    assert np.isnan(correct.ZScore().fit_transform(X[:1], context[:1])).all()
    assert np.isnan(correct.ZScore().fit_transform(np.ones((4, 1)), context[:4])).all()


def test_cell_lines_and_time_points_are_scaled_apart():
    profiles = screen(1)
    profiles["Metadata_CellLine"] = ["A549", "U2OS"] * 17
    moved = profiles.copy()
    other = moved["Metadata_CellLine"] == "U2OS"
    features = [c for c in moved if c.startswith("Cells_")]
    moved.loc[other, features] = moved.loc[other, features] * 5 + 3
    a, b = (
        correct.correct_profiles(table, correct.Standardize, min_controls=2).profiles for table in (profiles, moved)
    )
    pd.testing.assert_frame_equal(a, b)
    late = profiles.assign(Metadata_TimePoint_h=np.where(profiles["Metadata_ControlType"] == "negative", 24, 48))
    made = correct.correct_profiles(late, correct.Standardize, min_controls=2)
    assert set(made.left_out["reason"]) >= {
        "plate has 0 negative control wells of CellLine A549, TimePoint_h 48, 2 needed",
        "plate has 0 negative control wells of CellLine U2OS, TimePoint_h 48, 2 needed",
    }


# --- sphering


@pytest.mark.parametrize("variant", ["ZCA", "ZCA-cor", "PCA"])
def test_whitened_controls_have_unit_covariance(variant):
    X = np.random.default_rng(0).normal(size=(500, 8)) @ np.random.default_rng(1).normal(size=(8, 8)) + 5
    white = correct.Sphering(variant=variant, ridge=1e-9).fit(X).transform(X)
    np.testing.assert_allclose(np.cov(white.T), np.eye(8), atol=1e-6)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("variant", ["ZCA", "ZCA-cor", "PCA"])
def test_whitening_equals_pycytominer(variant):
    from pycytominer.operations import Spherize

    X = np.random.default_rng(0).normal(size=(300, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    ours = correct.Sphering(variant=variant, ridge=1e-12).fit(X).transform(X)
    theirs = Spherize(method=variant, epsilon=1e-12, return_numpy=True).fit(pd.DataFrame(X)).transform(pd.DataFrame(X))
    theirs = np.asarray(theirs)
    if variant == "PCA":  # the sign of a component is free
        theirs = theirs * np.sign((ours * theirs).sum(axis=0))
    # For the correlation they divide by n, we by n - 1.
    scale = np.sqrt(300 / 299) if variant == "ZCA-cor" and not np.allclose(ours, theirs, atol=1e-6) else 1
    np.testing.assert_allclose(ours * scale, theirs, atol=1e-6)


def test_whitening_equals_its_definition_with_a_ridge():
    X = np.random.default_rng(0).normal(size=(20, 5))
    fitted = correct.Sphering(ridge=1.0).fit(X)
    C = np.cov(X.T) + np.eye(5)
    np.testing.assert_allclose(fitted.matrix_ @ fitted.matrix_, np.linalg.inv(C))
    np.testing.assert_allclose(fitted.transform(X), (X - X.mean(axis=0)) @ fitted.matrix_)


def test_fewer_controls_than_features_are_whitened():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10, 40))
    for variant in sphering.VARIANTS:
        for ridge in ("auto", 0.1):
            white = correct.Sphering(variant=variant, ridge=ridge).fit(X).transform(X)
            assert np.isfinite(white).all() and white.shape == X.shape


def test_single_precision_stays_and_blocks_change_nothing(monkeypatch):
    X = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    whole = correct.Sphering(ridge=0.1).fit(X)
    expected = whole.transform(X)
    monkeypatch.setattr(sphering, "BLOCK", 7)
    fitted = correct.Sphering(ridge=0.1).fit(X)
    assert expected.dtype == np.float32 == fitted.matrix_.dtype
    np.testing.assert_allclose(fitted.transform(X), expected, atol=1e-5)
    place = X.copy()
    assert fitted.transform(place, copy=False) is place
    np.testing.assert_allclose(place, expected, atol=1e-5)


def naive_ridge(X, plates, ridges):
    """The ridge of the largest likelihood of held-out plates, by a normal density per fold."""
    from scipy.stats import multivariate_normal

    names = sorted(set(plates))
    scores = []
    for ridge in ridges:
        score = 0
        for fold in range(min(5, len(names))):
            held = np.isin(plates, names[fold :: min(5, len(names))])
            covariance = np.cov(X[~held].T) + ridge * np.eye(X.shape[1])
            score += multivariate_normal(X[~held].mean(axis=0), covariance).logpdf(X[held]).sum()
        scores.append(score)
    return ridges[int(np.argmax(scores))]


def test_the_likeliest_ridge_equals_its_naive_loop():
    rng = np.random.default_rng(3)
    for n, spread in [(60, 0.1), (30, 1.0), (14, 3.0)]:
        X = rng.normal(size=(n, 8)) @ np.diag(np.r_[np.full(4, 4.0), np.full(4, spread)])
        plates = np.array([f"P{i % 7}" for i in range(n)])
        X -= X.mean(axis=0)
        ridges = np.array(sphering.RIDGES) * X.var(axis=0).mean()
        assert sphering.likeliest_ridge(X, plates) == pytest.approx(naive_ridge(X, plates, ridges))


def test_the_components_are_named_in_order():
    made = correct.correct_profiles(screen(), partial(correct.Sphering, variant="PCA"), min_controls=3)
    names = [c for c in made.profiles if not c.startswith("Metadata_")]
    assert names == [f"Sphering_PC{i + 1:03d}" for i in range(N_FEATURES)]
    assert made.selection["kept"].all()


def test_what_cannot_be_whitened_is_refused():
    X = np.zeros((3, 2))
    with pytest.raises(ConfigError, match=r"correct\.sphering\.variant is 'LDA'; expected one of ZCA, ZCA-cor, PCA"):
        correct.Sphering(variant="LDA").fit(X)
    for ridge in (0, -1, "much"):
        with pytest.raises(ConfigError, match=r"expected a number above 0, or auto"):
            correct.Sphering(ridge=ridge).fit(X)
    with pytest.raises(PlatelineError, match="whitening was given 1 control wells; expected at least 2"):
        correct.Sphering().fit(X[:1])


# --- batches


@pytest.mark.parametrize("name", BATCHWISE)
def test_each_method_takes_the_batch_out_and_leaves_the_treatments(name):
    profiles = screen()
    scale = correct.Standardize if name == "tvn" else correct.ZScore
    made = correct.correct_profiles(profiles, BATCHWISE[name], scale=scale, min_controls=3)
    X = made.profiles.filter(like="Cells_").to_numpy()
    order = profiles.sort_values(["Metadata_Plate", "Metadata_Well"])
    assert batch_share(X, order) < 0.5 * batch_share(order.filter(like="Cells_").to_numpy(), order)
    mixed = made.mixing.set_index("metric")
    assert mixed.loc["lisi_batch", "after"] > mixed.loc["lisi_batch", "before"]
    assert mixed.loc["silhouette_treatment", "after"] > mixed.loc["silhouette_treatment", "before"]


@pytest.mark.parametrize("name", BATCHWISE)
def test_one_batch_says_so(name):
    profiles = screen(1)
    made = correct.correct_profiles(profiles, BATCHWISE[name], min_controls=3)
    answer = "whitened, and not aligned" if name == "tvn" else "passed through"
    kind = BATCHWISE[name].__name__
    assert f"{kind} needs two batches and was given one (week 0): profiles are {answer}" in made.warnings
    if name != "tvn":
        plain = correct.correct_profiles(profiles, correct.Identity, min_controls=3)
        drop = "Metadata_Correction"
        pd.testing.assert_frame_equal(made.profiles.drop(columns=drop), plain.profiles.drop(columns=drop))


@pytest.mark.parametrize("name", [n for n in methods.CORRECTORS if n != "none"])
def test_labels_have_no_say(name):
    profiles = screen()
    make, kind = methods.load("correct", name), methods.load("correct", name).kind
    told = profiles.copy()
    sample = told["Metadata_ControlType"] == "sample"
    told.loc[sample, ["Metadata_Treatment", "Metadata_MoA"]] = told.loc[sample, ["Metadata_Treatment", "Metadata_MoA"]][
        ::-1
    ].to_numpy()
    a, b = (correct.correct_profiles(t, make, min_controls=3).profiles.filter(like="Cells_") for t in (profiles, told))
    pd.testing.assert_frame_equal(a, b)
    text = correct.correct_profiles(profiles, make, scale=correct.Identity, min_controls=3).profiles
    assert set(text["Metadata_Correction"]) == {f"{make.__name__}: {kind}"}


@pytest.mark.parametrize("name", [n for n in methods.CORRECTORS if methods.load("correct", n).kind == "inductive"])
def test_a_sample_well_has_no_say_in_an_inductive_correction(name):
    profiles = screen()
    make = methods.load("correct", name)
    changed = profiles.copy()
    touched = changed["Metadata_Treatment"] == "drug 1"
    features = [c for c in profiles if c.startswith("Cells_")]
    changed.loc[touched, features] = changed.loc[touched, features] * 30 + 7
    a, b = (correct.correct_profiles(t, make, min_controls=3).profiles[features] for t in (profiles, changed))
    same = (
        profiles.sort_values(["Metadata_Plate", "Metadata_Well"], ignore_index=True)["Metadata_Treatment"] != "drug 1"
    )
    pd.testing.assert_frame_equal(a[same], b[same])


@pytest.mark.parametrize("name", [n for n in methods.CORRECTORS if methods.load("correct", n).kind == "transductive"])
def test_a_transductive_correction_knows_no_controls(name):
    X, context, _ = parts(screen())
    assert set(context) == {"Metadata_Plate", "Metadata_Batch", "Metadata_CellLine", "Metadata_TimePoint_h"}
    order = np.random.default_rng(0).permutation(len(X))
    estimator = methods.load("correct", name)()
    one = estimator.fit_transform(X, context)
    other = estimator.fit_transform(X[order], context.loc[order].reset_index(drop=True))
    np.testing.assert_allclose(other, one[order], atol=0.35 if name == "harmony" else 1e-8)


def naive_combat(X, batch):
    """The formulas of Johnson et al., one feature and one batch at a time."""
    n, D, names = len(X), X.shape[1], sorted(set(batch))
    Z, out = np.zeros_like(X), np.zeros_like(X)
    center, sigma = np.zeros(D), np.zeros(D)
    for g in range(D):
        means = {b: X[batch == b, g].mean() for b in names}
        center[g] = sum((batch == b).sum() / n * means[b] for b in names)
        sigma[g] = np.sqrt(sum((X[i, g] - means[batch[i]]) ** 2 for i in range(n)) / n)
        Z[:, g] = (X[:, g] - center[g]) / sigma[g]
    for b in names:
        rows = np.flatnonzero(batch == b)
        gamma, delta = Z[rows].mean(axis=0), Z[rows].var(axis=0, ddof=1)
        gamma_bar, tau = gamma.mean(), gamma.var(ddof=1)
        m, s = delta.mean(), delta.var(ddof=1)
        lam, theta = (m**2 + 2 * s) / s, (m**3 + m * s) / s
        for g in range(D):
            shift, spread = gamma[g], delta[g]
            for _ in range(500):
                shift = (len(rows) * tau * gamma[g] + spread * gamma_bar) / (len(rows) * tau + spread)
                spread = (theta + 0.5 * sum((Z[i, g] - shift) ** 2 for i in rows)) / (len(rows) / 2 + lam - 1)
            out[rows, g] = sigma[g] * (Z[rows, g] - shift) / np.sqrt(spread) + center[g]
    return out


def test_combat_equals_its_naive_loop():
    X, context, _ = parts(screen())
    expected = naive_combat(X, context["Metadata_Batch"].to_numpy())
    np.testing.assert_allclose(correct.Combat().fit_transform(X, context), expected, rtol=1e-4, atol=1e-4)


def test_combat_bears_batches_of_one_well_and_features_without_spread():
    X, context, _ = parts(screen().assign(Cells_F0=3.0))
    context.loc[0, "Metadata_Batch"] = "alone"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for columns in (slice(None), slice(1, 2)):
            made = correct.Combat().fit_transform(X[:, columns], context)
            assert np.isfinite(made).all()
    assert (correct.Combat().fit_transform(X, context)[:, 0] == 3).all()


def test_coral_brings_the_covariance_of_a_batch_to_the_common_one():
    X, context, negative = parts(screen(2, seed=1))
    estimator = correct.TypicalVariation(ridge=1e-6, coral_ridge=1e-9).fit(X[negative], context[negative])
    made = estimator.transform(X, context)
    white = estimator.sphering_.transform(X)
    for batch in ("week 0", "week 1"):
        rows = negative & (context["Metadata_Batch"] == batch).to_numpy()
        np.testing.assert_allclose(np.cov(made[rows].T), np.cov(white[negative].T), atol=1e-4)


def test_a_batch_without_controls_is_whitened_only():
    X, context, negative = parts(screen(2))
    negative = negative & (context["Metadata_Batch"] == "week 0").to_numpy()
    estimator = correct.TypicalVariation(ridge=1.0).fit(X[negative], context[negative])
    other = (context["Metadata_Batch"] == "week 1").to_numpy()
    np.testing.assert_allclose(estimator.transform(X, context)[other], estimator.sphering_.transform(X)[other])


def naive_moves(X, membership, batch, n_batches, ridge):
    """Ridge regression on intercept and batch in each cluster, by its normal equations."""
    out = X.astype(np.float64).copy()
    for k in range(membership.shape[1]):
        design = np.column_stack([np.ones(len(X)), np.eye(n_batches)[batch]])
        weighted = design * membership[:, [k]]
        penalty = np.diag([0.0] + [ridge] * n_batches)
        coefficients = np.linalg.solve(weighted.T @ design + penalty, weighted.T @ X)
        coefficients[0] = 0
        out -= weighted @ coefficients
    return out


def test_harmonys_correction_equals_the_ridge_regression_of_its_paper():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    batch = np.sort(rng.integers(0, 3, 60))
    membership = rng.dirichlet(np.ones(5), 60).astype(np.float32)
    observed = harmony._by_batch(membership, batch, 3)
    clusters = harmony.Clusters(X, membership, batch, observed, np.bincount(batch) / 60)
    found = harmony._correct(X, clusters, 1.5)
    np.testing.assert_allclose(found, naive_moves(X, membership, batch, 3, 1.5), atol=1e-4)


def test_a_redrawn_block_equals_the_update_of_the_paper():
    rng = np.random.default_rng(1)
    directions = harmony._directions(rng.normal(size=(40, 3)).astype(np.float32))
    batch = np.sort(rng.integers(0, 2, 40))
    membership = rng.dirichlet(np.ones(4), 40).astype(np.float32)
    centroids = harmony._directions(rng.normal(size=(4, 3)).astype(np.float32))
    shares = np.bincount(batch) / 40
    block = np.arange(0, 40, 3)
    others = np.setdiff1d(np.arange(40), block)
    expected = membership.copy()
    for i in block:
        row = np.zeros(4)
        for k in range(4):
            seen = membership[others][batch[others] == batch[i], k].sum()
            even = shares[batch[i]] * membership[others, k].sum()
            distance = 2 * (1 - directions[i] @ centroids[k])
            row[k] = np.exp(-distance / harmony.SIGMA) * ((even + 1) / (seen + 1)) ** 2
        expected[i] = row / row.sum()
    observed = harmony._by_batch(membership, batch, 2)
    clusters = harmony.Clusters(directions, membership, batch, observed, shares)
    harmony._redraw(clusters, block, centroids, 2.0)
    np.testing.assert_allclose(clusters.membership, expected, atol=1e-4)
    np.testing.assert_allclose(clusters.observed, harmony._by_batch(clusters.membership, batch, 2), atol=1e-3)


def test_harmony_agrees_with_harmonypy():
    harmonypy = pytest.importorskip("harmonypy")
    rng = np.random.default_rng(0)
    cluster, batch = rng.integers(0, 5, 1500), rng.integers(0, 3, 1500)
    X = rng.normal(0, 3, (5, 10))[cluster] + rng.normal(0, 1, (3, 10))[batch] + rng.normal(0, 1, (1500, 10))
    names = np.array(["a", "b", "c"])[batch]
    ours = correct.Harmony().fit_transform(X, pd.DataFrame({"Metadata_Batch": names}))
    theirs = harmonypy.run_harmony(X.astype(np.float32), pd.DataFrame({"b": names}), ["b"], verbose=False)
    theirs = np.asarray(theirs.Z_corr)
    theirs = theirs if theirs.shape == X.shape else theirs.T
    assert np.corrcoef((ours - X).ravel(), (theirs - X).ravel())[0, 1] > 0.97


def test_harmony_bears_few_wells_and_zeros():
    for n in (2, 3, 5):
        context = context_of(pd.DataFrame({"Metadata_Plate": [f"P{i % 2}" for i in range(n)]}))
        made = correct.Harmony().fit_transform(np.zeros((n, 3)), context)
        assert np.isfinite(made).all()
    a, b = (correct.Harmony(seed=1).fit_transform(*parts(screen())[:2]) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def naive_pairs(A, B, k):
    """Mutual nearest neighbours, one pair at a time."""

    def near(a, others):
        cosine = [a @ o / np.linalg.norm(a) / np.linalg.norm(o) for o in others]
        return set(np.argsort(-np.array(cosine), kind="stable")[:k])

    return [[i, j] for i in range(len(A)) for j in range(len(B)) if j in near(A[i], B) and i in near(B[j], A)]


def test_mutual_pairs_equal_their_naive_loop():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(15, 4)), rng.normal(size=(11, 4))
    for k in (1, 3, 50):
        assert mnn.mutual_pairs(A, B, k).tolist() == naive_pairs(A, B, k)


def test_a_shifted_copy_of_a_batch_is_moved_back():
    rng = np.random.default_rng(0)
    A = rng.normal(0, 5, (40, 6)) + 20
    profiles = pd.DataFrame({"Metadata_Plate": ["a"] * 40 + ["b"] * 40})
    X = np.concatenate([A, A + 1.5])
    made = correct.MutualNeighbours(n_neighbours=1, bandwidth=0.1).fit_transform(X, context_of(profiles))
    np.testing.assert_array_equal(made[:40], A)
    assert np.abs(made[40:] - A).mean() < 0.2


# --- selection


def test_steps_of_the_selection_say_why():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(60, 5)), columns=list("abcde"))
    table["a"] *= 1e-4
    table.loc[3, "b"] = 700
    table["d"] = table["c"] * 2 + 1
    negative = np.arange(60) < 20
    table.loc[~negative, "e"] += 5
    found = select.select_features(
        table, negative, min_variance=1e-6, max_outlier=500, max_correlation=0.9, n_relevant=1
    )
    assert found == {
        "a": "variance below 1e-06",
        "b": "a value above 500",
        "d": "correlation above 0.9 with c",
        "c": "not among the 1 most relevant",
    }
    assert select.select_features(table, negative) == {}


def test_small_variance_goes_as_in_pycytominer():
    from pycytominer.operations import variance_threshold

    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(50, 6)) * [1e-4, 1e-3, 0.9e-3, 1.2e-3, 1, 2], columns=list("abcdef"))
    theirs = variance_threshold(table, features=list(table), min_variance=1e-6)
    assert list(select.select_features(table, np.zeros(50, bool), min_variance=1e-6)) == theirs


def naive_mrmr(X, negative, n):
    """F ratio over mean absolute correlation, one feature at a time."""
    from scipy.stats import f_oneway

    relevance = [f_oneway(X[negative, j], X[~negative, j]).statistic for j in range(X.shape[1])]
    taken = [int(np.argmax(relevance))]
    while len(taken) < n:
        scores = []
        for j in range(X.shape[1]):
            redundancy = np.mean([abs(np.corrcoef(X[:, j], X[:, t])[0, 1]) for t in taken])
            scores.append(-1 if j in taken else relevance[j] / redundancy)
        taken.append(int(np.argmax(scores)))
    return taken


def test_mrmr_equals_its_naive_loop():
    rng = np.random.default_rng(0)
    negative = np.arange(80) < 30
    X = rng.normal(size=(80, 12)) + np.outer(~negative, rng.uniform(0, 2, 12))
    assert select.most_relevant(X, negative, 6).tolist() == naive_mrmr(X, negative, 6)
    assert len(select.most_relevant(X, np.zeros(80, bool), 3)) == 3


def test_the_blocklist_names_whole_features():
    made = correct.correct_profiles(screen(), correct.Standardize, min_controls=3, blocklist=["Cells_F1", "Cells_F"])
    assert dict(made.selection.loc[~made.selection["kept"], ["feature", "reason"]].to_numpy()) == {
        "Cells_F1": "on the blocklist"
    }


# --- what the correction did


def naive_lisi(X, labels, perplexity, k):
    """Effective number of labels, one row and one bisection at a time."""
    values = []
    for i in range(len(X)):
        distance = np.linalg.norm(X - X[i], axis=1)
        near = [j for j in np.argsort(distance, kind="stable") if j != i][:k]
        low, high = 0.0, 1e6
        for _ in range(200):
            beta = (low + high) / 2
            p = np.exp(-(distance[near] - distance[near].min()) * beta)
            p /= p.sum()
            entropy = -sum(q * np.log(q) for q in p if q > 0)
            low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
        shares = [p[[labels[j] == name for j in near]].sum() for name in set(labels)]
        values.append(1 / np.square(shares).sum())
    return values


def test_lisi_equals_its_naive_loop():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(60, 3)), rng.choice(list("abc"), 60)
    np.testing.assert_allclose(mixing.lisi(X, labels, 5), naive_lisi(X, labels, 5, 15), rtol=1e-4)


def test_mixed_and_parted_batches_have_the_ends_of_each_scale():
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], 40)
    centers = np.repeat(rng.normal(0, 10, (3, 5)), 40, axis=0)
    parted, mixed = centers + rng.normal(0, 0.1, (120, 5)), rng.normal(0, 1, (120, 5))
    table = mixing.mixing_table(mixed, parted, groups, groups).set_index("metric")
    assert table.loc["lisi_batch", "after"] < 0.05 < 0.7 < table.loc["lisi_batch", "before"]
    assert table.loc["silhouette_batch", "after"] < 0.1 < 0.9 < table.loc["silhouette_batch", "before"]
    assert table.loc["lisi_treatment", "after"] > 0.95
    assert table.loc["silhouette_treatment", "after"] > 0.9
    assert table.loc["graph_connectivity", "after"] == 1
    assert table.loc["map_treatment", "after"] == 1 and table.loc["map_treatment", "before"] < 0.5
    assert (table["n"] == 120).all() and (table["reason"] == "").all()


def test_connectivity_counts_the_largest_piece():
    X = np.concatenate([np.zeros((20, 2)), np.full((10, 2), 50.0), np.full((16, 2), -50.0)])
    X += np.random.default_rng(0).normal(0, 0.1, X.shape)
    # The ten wells of `a` far off have only nine others near, and reach over to the sixteen of `b`.
    assert correct.mixing.graph_connectivity(X, ["a"] * 30 + ["b"] * 16) == pytest.approx((1 + 1) / 2, abs=0.5)
    assert correct.mixing.graph_connectivity(X[:20], ["a"] * 20) == 1


def test_the_map_equals_a_naive_loop():
    rng = np.random.default_rng(0)
    labels = np.repeat(list("abcd"), 4).astype(object)
    X = rng.normal(size=(16, 5))
    scores = []
    for name in "abcd":
        for i in np.flatnonzero(labels == name):
            cosine = X @ X[i] / np.linalg.norm(X, axis=1)
            order = [j for j in np.argsort(-cosine) if j != i]
            hits = [rank + 1 for rank, j in enumerate(order) if labels[j] == name]
            scores.append(np.mean([(n + 1) / rank for n, rank in enumerate(hits)]))
    assert mixing._precision(X, labels) == pytest.approx(np.mean(scores))


def test_what_cannot_be_measured_says_why():
    made = correct.correct_profiles(
        screen(1).drop(columns="Metadata_Treatment"), correct.Standardize, min_controls=3
    ).mixing.set_index("metric")
    assert made.loc["lisi_batch", "reason"] == "1 batch, 2 needed" and np.isnan(made.loc["lisi_batch", "after"])
    assert made.loc["silhouette_treatment", "reason"] == "fewer than two treatments with two wells"
    empty = correct.correct_profiles(screen()[:0], correct.Harmony, min_controls=3)
    assert len(empty.mixing) == 6 and empty.mixing["after"].isna().all() and empty.warnings == []


def test_treatments_of_one_batch_are_named():
    profiles = screen()
    assert correct.correct_profiles(profiles, correct.Standardize, min_controls=3).warnings == []
    lonely = profiles[(profiles["Metadata_Treatment"] != "drug 2") | (profiles["Metadata_Batch"] == "week 1")]
    warnings_ = correct.correct_profiles(lonely, correct.Standardize, min_controls=3).warnings
    assert len(warnings_) == 1
    assert warnings_[0].startswith("1 of 4 treatments lie in one batch only (drug 2): what they do")


def test_a_correction_that_removes_biology_is_named():
    class Mixer(correct.Identity):
        kind = "transductive"

        def fit_transform(self, X, wells):
            return np.random.default_rng(0).normal(size=X.shape)

    made = correct.correct_profiles(screen(), Mixer, min_controls=3)
    for word in ("silhouette", "mAP"):
        assert any(w.startswith(f"the correction removes biology: {word} of treatments") for w in made.warnings)


def test_plates_of_another_pixel_size_are_left_out():
    profiles = screen().assign(Metadata_PixelSize_um=0.65)
    profiles.loc[profiles["Metadata_Plate"] == "B1P0", "Metadata_PixelSize_um"] = 0.325
    made = correct.correct_profiles(profiles, correct.Standardize, min_controls=3)
    assert set(made.left_out["Metadata_Plate"]) == {"B1P0"}
    assert set(made.left_out["reason"]) == {"pixel size 0.325 um, most wells have 0.65 um"}
