"""The classifiers, their wrappers, and how far their answers can be trusted: naive loops and known answers."""

import numpy as np
import pytest
import torch

from plateline import classify, methods
from plateline.classify import calibration, novelty, wrappers
from plateline.errors import ConfigError
from plateline.models import mlp

MLP = {"hidden": 16, "dropout": 0.2, "epochs": 80, "loss": "ce", "mc_samples": 0}
OPTIONS = {
    "logistic": {"C": 1.0},
    "nearest": {"sharpness": 10.0},
    "neighbours": {"n_neighbours": 3, "sharpness": 10.0},
    "lda": {},
    "svm": {"C": 1.0},
    "forest": {"n_trees": 20},
    "boosting": {"n_rounds": 10, "learning_rate": 0.1},
    "mlp": MLP,
}


def draw(n=90, seed=0, spread=1.0, names=("a", "b", "c")):
    """Rows of three classes round three directions, and their names."""
    rng = np.random.default_rng(seed)
    y = np.array(names, object)[np.arange(n) % 3]
    return 4 * np.eye(6)[np.arange(n) % 3] + rng.normal(0, spread, (n, 6)), y


@pytest.mark.parametrize("name", methods.CLASSIFIERS)
def test_every_classifier_keeps_its_contract(name):
    X, y = draw()
    estimator = methods.load("classify", name)(**OPTIONS[name], seed=0)
    probability = estimator.fit(X, y).predict_proba(X[:20])
    assert list(estimator.classes_) == ["a", "b", "c"] and probability.shape == (20, 3)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (estimator.classes_[probability.argmax(axis=1)] == y[:20]).mean() > 0.9
    again = methods.load("classify", name)(**OPTIONS[name], seed=0).fit(X, y).predict_proba(X[:20])
    np.testing.assert_array_equal(again, probability)
    two = y != "c"
    halved = methods.load("classify", name)(**OPTIONS[name], seed=0).fit(X[two], y[two]).predict_proba(X[:6])
    assert halved.shape == (6, 2)


def test_the_nearest_equals_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    X, y = draw(spread=3.0)
    asked = draw(seed=1, spread=3.0)[0]
    theirs = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(X, y).predict(asked)
    ours = classify.nearest(sharpness=10.0, seed=0).fit(X, y)
    assert (ours.predict(asked) == theirs).all()
    blunt = classify.nearest(sharpness=0.1, seed=0).fit(X, y)
    assert (blunt.predict(asked) == theirs).all()
    assert blunt.predict_proba(asked).max() < ours.predict_proba(asked).max()


def test_neighbours_equal_their_naive_loop():
    X, y = draw(n=20, spread=3.0)
    asked = draw(n=5, seed=1)[0]
    probability = classify.neighbours(n_neighbours=4, sharpness=2.0, seed=0).fit(X, y).predict_proba(asked)
    for row, x in zip(probability, asked, strict=True):
        scores = []
        for name in "abc":
            cosine = sorted(x @ z / np.linalg.norm(x) / np.linalg.norm(z) for z in X[y == name])
            scores.append(np.exp(2.0 * np.mean(cosine[-4:])))
        np.testing.assert_allclose(row, np.array(scores) / sum(scores))


# --- the network


def test_each_loss_equals_its_formula():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    counts = np.array([100.0, 10.0, 30.0])
    expected = dict.fromkeys(mlp.LOSSES, 0.0)
    weights = (1 - mlp.BALANCE) / (1 - mlp.BALANCE**counts)
    for z, k in zip(logits, target, strict=True):
        p = np.exp(z)[k] / np.exp(z).sum()
        shifted = z + np.log(counts / counts.sum())
        expected["ce"] += -np.log(p) / 12
        expected["focal"] += -((1 - p) ** mlp.FOCUS) * np.log(p) / 12
        expected["class-balanced"] += -weights[k] * np.log(p) / weights[target].sum()
        expected["logit-adjusted"] += -np.log(np.exp(shifted)[k] / np.exp(shifted).sum()) / 12
    for loss, value in expected.items():
        found = mlp.loss_of(torch.tensor(logits), torch.tensor(target), torch.tensor(counts), loss)
        assert float(found) == pytest.approx(value)
    with pytest.raises(ConfigError, match=r"classify\.mlp\.loss is 'mse'; expected one of ce, focal"):
        mlp.mlp(**MLP | {"loss": "mse"}, seed=0).fit(*draw())


def test_monte_carlo_dropout_is_less_sure_and_repeats_itself():
    X, y = draw(spread=2.5)
    asked = draw(seed=1, spread=4.0)[0]
    plain = mlp.mlp(**MLP | {"dropout": 0.5}, seed=0).fit(X, y).predict_proba(asked)
    drawn = mlp.mlp(**MLP | {"dropout": 0.5, "mc_samples": 30}, seed=0).fit(X, y)
    assert drawn.predict_proba(asked).max(axis=1).mean() < plain.max(axis=1).mean()
    np.testing.assert_array_equal(drawn.predict_proba(asked), drawn.predict_proba(asked))


def test_the_network_leaves_the_global_chance_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    mlp.mlp(**MLP, seed=0).fit(*draw()).predict_proba(draw()[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("remedy", [{"loss": "class-balanced"}, {"loss": "logit-adjusted"}, {"resample": "over"}])
def test_rare_classes_are_found_by_each_remedy(remedy):
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y = np.repeat([0, 1], [200, 20])
        X, truth = 0.9 * y[:, None] + rng.normal(size=(220, 4)), np.repeat([0, 1], 200)
        asked, scores = 0.9 * truth[:, None] + rng.normal(size=(400, 4)), []
        for options in ({}, remedy):
            loss, resample = options.get("loss", "ce"), options.get("resample", "none")
            make = lambda seed, loss=loss: mlp.mlp(**MLP | {"loss": loss}, seed=seed)  # noqa: E731
            wrapped = classify.wrap(make, resample=resample, clean=False, ensemble=1, temperature=False, seed=seed)
            answer = wrapped().fit(X, y).predict_proba(asked).argmax(axis=1)
            scores.append(np.mean([(answer[truth == k] == k).mean() for k in (0, 1)]))
        gains.append(scores[1] - scores[0])
    assert np.mean(gains) > 0.05


# --- wrappers


def wrapped(make=lambda seed: classify.logistic(C=1.0, seed=seed), **options):
    return classify.wrap(
        make, **{"resample": "none", "clean": False, "ensemble": 1, "temperature": False, "seed": 0} | options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"resample": "over"},
        {"resample": "under"},
        {"clean": True},
        {"ensemble": 3},
        {"temperature": True},
        {"resample": "over", "clean": True, "ensemble": 2, "temperature": True},
    ],
)
def test_every_wrapper_keeps_the_contract(options):
    X, y = draw()
    estimator = wrapped(**options)()
    probability = estimator.fit(X, y).predict_proba(X[:9])
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert (estimator.classes_[probability.argmax(axis=1)] == y[:9]).all()


def test_wrappers_refuse_what_cannot_be_meant():
    with pytest.raises(ConfigError, match=r"classify\.resample is 'smote'; expected one of none, over, under"):
        wrapped(resample="smote")
    with pytest.raises(ConfigError, match=r"classify\.ensemble is 0; expected at least 1"):
        wrapped(ensemble=0)


def test_rows_are_drawn_evenly():
    y = np.array(list("aaaaaabbc"))
    rng = np.random.default_rng(0)
    over, under = wrappers.balanced_rows(y, "over", rng), wrappers.balanced_rows(y, "under", rng)
    assert [int((y[over] == k).sum()) for k in "abc"] == [6, 6, 6] and set(over) == set(range(9))
    assert [int((y[under] == k).sum()) for k in "abc"] == [1, 1, 1]


def test_an_ensemble_is_the_mean_of_its_members():
    X, y = draw(spread=2.0)
    make = lambda seed: mlp.mlp(**MLP, seed=seed)  # noqa: E731
    members = [make(seed).fit(X, y).predict_proba(X) for seed in (7, 8, 9)]
    found = wrapped(make, ensemble=3, seed=7)().fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, np.mean(members, axis=0))


def naive_confident(probability, y, classes):
    kept = []
    for i, label in enumerate(y):
        best, strongest = None, -1.0
        for k, name in enumerate(classes):
            threshold = np.mean([probability[j, k] for j in range(len(y)) if y[j] == name])
            if probability[i, k] >= threshold and probability[i, k] > strongest:
                best, strongest = name, probability[i, k]
        kept.append(best is None or best == label)
    return kept


def test_flipped_labels_are_found():
    X, y = draw(n=150)
    flipped = np.arange(150) % 10 == 0
    noisy = np.where(flipped, np.roll(np.array(["a", "b", "c"]), 1)[np.arange(150) % 3], y)
    probability = classify.logistic(C=1.0, seed=0).fit(X, y).predict_proba(X)
    kept = wrappers.confident_rows(probability, noisy, np.array(["a", "b", "c"]))
    assert kept.tolist() == naive_confident(probability, noisy, ["a", "b", "c"])
    cleaned = wrappers.Cleaned(classify.logistic(C=1.0, seed=0)).fit(X, noisy)
    assert cleaned.kept_[flipped].mean() < 0.5 and cleaned.kept_[~flipped].mean() > 0.9


def test_cleaning_never_empties_a_class():
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05]])
    kept = wrappers.confident_rows(probability, np.array(["a", "a", "b"]), np.array(["a", "b"]))
    assert kept[2] and kept.any()


class Recorder(wrappers.ClassifierMixin, wrappers.BaseEstimator):
    """Remembers which rows, by their first feature, taught and were asked."""

    calls = []  # noqa: RUF012

    def fit(self, X, y):  # noqa: D102
        self.classes_, self.seen_ = np.unique(y), set(X[:, 0])
        return self

    def predict_proba(self, X):  # noqa: D102
        Recorder.calls.append((self.seen_, set(X[:, 0])))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize("wrapper", [wrappers.Cleaned, wrappers.Tempered])
def test_what_a_wrapper_asks_its_own_classifier_about_has_not_taught(wrapper):
    X, y = draw(n=60)
    X[:, 0] = np.arange(60)
    groups = np.array([f"g{i // 4}" for i in range(60)], object)
    Recorder.calls = []
    wrapper(Recorder()).fit(X, y, groups)
    assert len(Recorder.calls) == wrappers.MAX_FOLDS
    for seen, asked in Recorder.calls:
        assert not {groups[int(i)] for i in seen} & {groups[int(i)] for i in asked}


def test_a_temperature_makes_sure_answers_as_sure_as_they_are_right():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.ones(4), 3000)
    label = (rng.random((3000, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=3)
    assert wrappers.likeliest_temperature(probability, label) == pytest.approx(1, abs=0.1)
    too_sure = wrappers.temper(probability, 0.25)
    assert wrappers.likeliest_temperature(too_sure, label) == pytest.approx(4, rel=0.1)
    np.testing.assert_allclose(wrappers.temper(too_sure, 4.0), probability, atol=1e-6)
    assert wrappers.likeliest_temperature(np.full((2, 2), np.nan), np.array([0, 1])) == 1


# --- measures


def test_scores_of_probabilities_equal_their_loops():
    rng = np.random.default_rng(0)
    P, Y = rng.dirichlet(np.ones(4), 50), np.zeros((50, 4), bool)
    Y[np.arange(50), rng.integers(0, 4, 50)] = True
    Y[:5, 0] = True  # some rows have two classes
    loss, squares, right = [], [], []
    for p, own in zip(P, Y, strict=True):
        loss.append(-np.log(sum(p[own])))
        meant = max(np.flatnonzero(own), key=lambda k: p[k])
        squares.append(sum((p[k] - (k == meant)) ** 2 for k in range(4)))
        right.append(own[p.argmax()])
    assert calibration.log_loss(P, Y) == pytest.approx(np.mean(loss))
    np.testing.assert_allclose(calibration.brier(P, Y), squares)
    assert calibration.is_right(P, Y).tolist() == right
    constant = calibration.constant_confidence(P, Y)
    np.testing.assert_allclose(constant.sum(axis=1), 1)
    assert constant.max() == pytest.approx(np.mean(right)) or np.mean(right) < 0.25
    recall = np.mean([np.mean(np.array(right)[Y[:, k]]) for k in range(4)])
    assert calibration.balanced_accuracy(np.array(right), Y) == pytest.approx(recall)


def test_the_calibration_error_is_that_of_equal_bins():
    rng = np.random.default_rng(0)
    confidence = rng.random(200)
    right = rng.random(200) < confidence
    order = np.argsort(confidence)
    bins = [order[i * 20 : (i + 1) * 20] for i in range(10)]
    expected = np.mean([abs(confidence[b].mean() - right[b].mean()) for b in bins])
    assert calibration.calibration_error(confidence, right) == pytest.approx(expected)
    assert calibration.calibration_error(np.full(100, 0.9), np.zeros(100)) == pytest.approx(0.9)
    assert calibration.calibration_error(np.array([0.5]), [True]) == 0.5


def test_risk_and_coverage():
    assert calibration.risk_coverage_area(np.array([0.9, 0.8, 0.1]), [True, True, False]) == pytest.approx(1 / 9)
    assert calibration.risk_coverage_area(np.array([0.1, 0.2, 0.9]), [True, True, False]) > 0.5
    tied = calibration.risk_coverage_area(np.full(4, 0.5), [True, False, True, True])
    assert tied == pytest.approx(0.25)  # an order that says nothing has the share of wrong answers


def test_sets_are_valid_on_exchangeable_data():
    held = []
    for seed in range(200):
        score = np.random.default_rng(seed).random(199)
        held.append((score[99:] <= calibration.conformal_quantile(score[:99], 0.9)).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)


def test_a_compound_has_no_say_in_its_own_sets():
    rng = np.random.default_rng(0)
    P, Y = rng.dirichlet(np.ones(3), 40), np.eye(3, dtype=bool)[rng.integers(0, 3, 40)]
    groups = np.array([f"c{i // 4}" for i in range(40)], object)
    sets = calibration.cross_conformal(P, Y, groups, 0.8)
    for i in range(40):
        others = [1 - P[j][Y[j]].max() for j in range(40) if groups[j] != groups[i]]
        limit = sorted(others)[int(np.ceil(37 * 0.8)) - 1]
        assert sets[i].tolist() == (1 - P[i] <= limit).tolist()
    changed = Y.copy()
    changed[:4] = np.roll(Y[:4], 1, axis=1)
    np.testing.assert_array_equal(calibration.cross_conformal(P, changed, groups, 0.8)[:4], sets[:4])


def test_the_bootstrap_draws_whole_groups():
    groups = np.array(list("aaaabbcc"), object)
    seen = []
    calibration.bootstrap_interval(lambda rows: seen.append(sorted(rows)) or 0.0, groups, 0, n_draws=50)
    for rows in seen:
        for name in "abc":
            own = np.flatnonzero(groups == name)
            assert len({rows.count(i) for i in own}) == 1
    values = np.repeat([0.0, 1.0, 2.0, 3.0], 5)
    low, high = calibration.bootstrap_interval(lambda rows: values[rows].mean(), np.repeat(list("abcd"), 5), 0)
    assert low < 1.5 < high


def test_novelty_tells_the_unseen_class():
    rng = np.random.default_rng(0)
    Y = np.eye(3, dtype=bool)[np.repeat(np.arange(3), 12)]
    X = 6 * np.eye(5)[np.repeat(np.arange(3), 12)] + rng.normal(size=(36, 5))
    compounds = np.array([f"c{i // 3}" for i in range(36)], object)
    distance = novelty.distances(X, np.ones(36, bool), direction=True)
    areas = novelty.leave_class_out_auroc(distance, Y, compounds)
    assert min(areas) > 0.95
    naive = []
    for i in range(36):
        allowed = [j for j in range(36) if not Y[j, 1] and compounds[j] != compounds[i]]
        naive.append(min(distance[i, j] for j in allowed))
    assert areas[1] == pytest.approx(calibration.novelty_auroc(np.array(naive), Y[:, 1]))
    assert np.isnan(calibration.novelty_auroc(np.ones(3), np.ones(3, bool)))
    noise = novelty.distances(rng.normal(size=(36, 5)), np.ones(36, bool), direction=False)
    assert 0.2 < np.mean(novelty.leave_class_out_auroc(noise, Y, compounds)) < 0.8
