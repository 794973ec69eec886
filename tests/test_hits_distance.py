import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from plateline.errors import PlatelineError
from plateline.hits import distances, effect_size, permutation_test, treatments
from plateline.hits.distance import TREATMENT_COLUMNS, WELL_COLUMNS
from plateline.hits.permute import _draw
from plateline.identity import features_of

OPTIONS = {"n_permutations": 9999, "max_fdr": 0.05, "seed": 0}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def plate(name="P1", *, treated=4, negatives=12, shift=(0.0,), n_features=20, seed=0):
    """One plate: `negatives` controls and `treated` wells of one compound per entry of `shift`."""
    rng = np.random.default_rng(seed)
    kinds = ["negative"] * negatives + ["sample"] * (treated * len(shift))
    names = ["DMSO"] * negatives + [f"c{i}@1 nM" for i in range(len(shift)) for _ in range(treated)]
    values = rng.normal(size=(len(kinds), n_features))
    values[negatives:] += np.repeat(shift, treated)[:, None]
    wells = pd.DataFrame({"Metadata_Plate": name, "Metadata_Well": [f"{i:03d}" for i in range(len(kinds))]})
    wells = wells.assign(Metadata_ControlType=kinds, Metadata_Treatment=names, Metadata_Status="ok")
    wells["Metadata_Compound"] = [text.split("@")[0] for text in names]
    wells["Metadata_Concentration"] = np.where(wells["Metadata_ControlType"] == "sample", 1.0, np.nan)
    wells["Metadata_ConcentrationUnit"] = np.where(wells["Metadata_ControlType"] == "sample", "nM", None)
    features = pd.DataFrame(values, columns=[f"Cells_F{i}" for i in range(n_features)])
    return pd.concat([wells, features], axis=1)


def distance_naive(values, negative, row):
    """Distance of one well by a fit on the negatives without that well."""
    controls = np.array([v for i, v in enumerate(values) if negative[i] and i != row])
    z = [
        (values[row, j] - controls[:, j].mean()) / controls[:, j].std(ddof=1)
        for j in range(values.shape[1])
        if not np.isnan(values[row, j])
    ]
    return math.sqrt(sum(x * x for x in z) / len(z))


def permutation_naive(values, plates, treated):
    """Every relabelling within plates, one at a time, with the weighted mean differences written out."""
    scaled = np.array(values)
    for block in np.unique(plates):
        rows = plates == block
        scaled[rows] = (values[rows] - values[rows].mean(axis=0)) / values[rows].std(axis=0)

    def statistic(labels):
        total = np.zeros(values.shape[1])
        for block in np.unique(plates):
            one, other = scaled[(plates == block) & labels], scaled[(plates == block) & ~labels]
            weight = len(one) * len(other) / (len(one) + len(other))
            total += weight * (one.mean(axis=0) - other.mean(axis=0))
        return np.linalg.norm(total)

    blocks = [np.flatnonzero(plates == block) for block in np.unique(plates)]
    choices = [list(itertools.combinations(rows, treated[rows].sum())) for rows in blocks]
    found = []
    for choice in itertools.product(*choices):
        labels = np.zeros(len(plates), dtype=bool)
        labels[[row for rows in choice for row in rows]] = True
        found.append(statistic(labels))
    return np.mean(np.array(found) >= statistic(treated) * (1 - 1e-9))


@pytest.mark.parametrize("seed", range(5))
def test_distances_equal_naive_leave_one_out(seed):
    profiles = pd.concat([plate("P1", shift=(0, 2), seed=seed), plate("P2", negatives=5, seed=seed + 50)])
    profiles.iloc[14, -1] = np.nan
    wells = distances(profiles)
    for name, of_plate in profiles.reset_index(drop=True).groupby("Metadata_Plate"):
        values = of_plate[features_of(list(of_plate.columns))].to_numpy()
        negative = (of_plate["Metadata_ControlType"] == "negative").to_numpy()
        naive = [distance_naive(values, negative, row) for row in range(len(values))]
        np.testing.assert_allclose(wells.loc[wells["Metadata_Plate"] == name, "distance"], naive)


def test_robust_z_equals_naive():
    wells = distances(plate(shift=(1,)))
    distance, negative = wells["distance"].to_numpy(), (wells["Metadata_ControlType"] == "negative").to_numpy()
    for row in range(len(wells)):
        others = np.array([d for i, d in enumerate(distance) if negative[i] and i != row])
        spread = 1.4826 * np.median(np.abs(others - np.median(others)))
        assert wells["robust_z"].iloc[row] == pytest.approx((distance[row] - np.median(others)) / spread)


def test_rank_orders_by_distance_and_ties_share_the_smaller():
    profiles = plate(shift=(5,))
    profiles.loc[12, features_of(list(profiles.columns))] = profiles.loc[13, features_of(list(profiles.columns))]
    wells = distances(profiles)
    assert wells["rank"].min() == 1
    assert wells.loc[12, "rank"] == wells.loc[13, "rank"]
    assert wells["distance"].idxmax() in wells.index[wells["rank"] == 1]


def test_distance_of_a_null_well_is_about_that_of_a_negative():
    many = pd.concat([plate(f"P{i}", negatives=16, treated=16, seed=i, n_features=50) for i in range(20)])
    medians = distances(many).groupby("Metadata_ControlType")["distance"].median()
    assert medians["sample"] / medians["negative"] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_distances_do_not_change_with_plate_units_or_row_order(seed):
    profiles = plate(shift=(1, 3), seed=seed)
    rescaled, features = profiles.copy(), features_of(list(profiles.columns))
    rescaled[features] = profiles[features] * 7 + np.arange(len(features))
    shuffled = profiles.sample(frac=1, random_state=seed)
    np.testing.assert_allclose(distances(rescaled)["distance"], distances(profiles)["distance"])
    np.testing.assert_allclose(distances(shuffled)["distance"].sort_index(), distances(profiles)["distance"])


def test_changing_samples_moves_no_other_well():
    profiles = plate(shift=(0, 1))
    changed, features = profiles.copy(), features_of(list(profiles.columns))
    changed.loc[changed["Metadata_Treatment"] == "c1@1 nM", features] += 100
    same = (profiles["Metadata_Treatment"] != "c1@1 nM").to_numpy()
    np.testing.assert_array_equal(distances(changed)["distance"][same], distances(profiles)["distance"][same])


def test_wells_that_cannot_count_say_why():
    profiles = plate(shift=(1, 1))
    profiles.loc[12, "Metadata_Status"] = "failed"
    profiles.loc[13, "Metadata_ControlType"] = "exclude"
    profiles.loc[14, features_of(list(profiles.columns))] = np.nan
    profiles.loc[15, "Cells_F0"] = np.inf
    profiles.loc[0, "Metadata_Status"] = "few cells"
    wells = distances(profiles)
    assert wells.loc[[12, 13, 14], "reason"].tolist() == [
        "status: failed",
        "excluded by the plate map",
        "no finite feature",
    ]
    assert wells.loc[[0, 12, 13, 14], "distance"].isna().all()
    assert np.isfinite(wells.loc[15, "distance"])
    assert (wells["n_negative"] == 11).all()
    without = distances(profiles.drop(index=[0, 12, 13, 14]))
    np.testing.assert_allclose(without["distance"], wells["distance"].drop([0, 12, 13, 14]))


@pytest.mark.parametrize("negatives", [0, 1, 2])
def test_too_few_negatives_give_no_distance_and_a_reason(negatives):
    profiles = plate(negatives=negatives, shift=(3,))
    wells = distances(profiles)
    assert wells["distance"].isna().all() and wells["rank"].isna().all()
    assert wells["reason"].str.contains(f"{negatives} negative control wells on the plate; expected 3").all()
    table = treatments(profiles, **OPTIONS)
    assert table["p"].isna().all() and table["reason"].str.contains("no usable well: ").all()


def test_constant_features_are_left_out_and_constant_plates_say_so():
    profiles = plate(shift=(2,))
    constant = profiles.assign(Cells_Constant=0.1)
    np.testing.assert_allclose(distances(constant)["distance"], distances(profiles)["distance"])
    profiles[features_of(list(profiles.columns))] = 0.3
    assert distances(profiles)["reason"].str.contains("no feature varies among the negative").all()
    assert treatments(profiles, **OPTIONS)["reason"].str.contains("no feature varies").all()


def test_empty_and_featureless_tables_keep_their_columns():
    empty = plate().iloc[:0]
    assert set(WELL_COLUMNS) <= set(distances(empty).columns) and distances(empty).empty
    assert list(treatments(empty, **OPTIONS).columns) == list(TREATMENT_COLUMNS)
    assert treatments(empty, **OPTIONS)["hit"].dtype == bool
    bare = plate()[[c for c in plate().columns if c.startswith("Metadata_")]]
    assert (distances(bare)["reason"] == "no finite feature").all()


def test_only_negatives_give_no_treatment():
    assert treatments(plate(shift=()), **OPTIONS).empty


def test_a_missing_column_is_named():
    with pytest.raises(PlatelineError, match="lacks Metadata_ControlType"):
        distances(plate().drop(columns="Metadata_ControlType"))


def test_a_well_that_stands_twice_is_refused():
    with pytest.raises(PlatelineError, match="plate P1 well 000 stands more than once"):
        treatments(pd.concat([plate(), plate()]), **OPTIONS)


@pytest.mark.parametrize("seed", range(6))
def test_exact_enumeration_equals_naive_loop(seed):
    rng = np.random.default_rng(seed)
    plates = np.repeat(["a", "b"], [6, 5]) if seed % 2 else np.repeat("a", 9)
    treated = np.isin(np.arange(len(plates)), [0, 3, 7] if seed % 2 else [1, 4, 8])
    values = rng.normal(size=(len(plates), 4 if seed < 3 else 30)) + treated[:, None] * 0.5
    p, floor = permutation_test(values, plates, treated, n_permutations=9999, seed=0)
    assert p == pytest.approx(permutation_naive(values, plates, treated))
    assert floor == pytest.approx(1 / (math.comb(6, 2) * math.comb(5, 1) if seed % 2 else math.comb(9, 3)))


def test_draws_agree_with_enumeration():
    profiles = np.random.default_rng(3).normal(size=(14, 8))
    treated = np.arange(14) < 4
    profiles[treated] += 0.7
    exact, _ = permutation_test(profiles, np.zeros(14), treated, n_permutations=1001, seed=0)
    drawn, floor = permutation_test(profiles, np.zeros(14), treated, n_permutations=1000, seed=0)
    assert floor == 1 / 1001
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1000) + 1e-3)


def test_drawn_subsets_are_all_equally_likely():
    chosen = _draw(6, 3, 40000, np.random.default_rng(0))
    assert (chosen.sum(axis=1) == 3).all()
    _, counts = np.unique(chosen, axis=0, return_counts=True)
    assert len(counts) == 20
    assert ((counts - 2000) ** 2 / 2000).sum() < 43.8  # chi-square, 19 df, p = 0.001


@pytest.mark.parametrize(
    ("treated_wells", "wells", "n_plates", "n_permutations"), [(4, 16, 1, 9999), (2, 7, 2, 9999), (2, 12, 3, 499)]
)
def test_p_is_uniform_on_null_plates_after_correction_on_the_negatives(treated_wells, wells, n_plates, n_permutations):
    rng = np.random.default_rng(treated_wells)
    mixing = rng.normal(size=(30, 30))  # features of cells are correlated
    plates, treated = np.repeat(np.arange(n_plates), wells), np.tile(np.arange(wells) < treated_wells, n_plates)
    found = []
    for seed in range(400):
        values = rng.normal(size=(len(plates), 30)) @ mixing + 5 * rng.normal(size=(n_plates, 30))[plates]
        for block in range(n_plates):
            negatives = values[(plates == block) & ~treated]
            values[plates == block] = (values[plates == block] - negatives.mean(axis=0)) / negatives.std(axis=0)
        found.append(permutation_test(values, plates, treated, n_permutations=n_permutations, seed=seed)[0])
    assert kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.033)  # 3 standard errors


def test_p_does_not_change_with_an_affine_correction_of_a_plate():
    rng = np.random.default_rng(1)
    values, plates = rng.normal(size=(20, 6)), np.repeat([0, 1], 10)
    treated = np.tile(np.arange(10) < 3, 2)
    other = values.copy()
    other[plates == 1] = other[plates == 1] * [2, 3, 4, 5, 6, 7] + 11
    first = permutation_test(values, plates, treated, n_permutations=500, seed=4)
    assert first == permutation_test(other, plates, treated, n_permutations=500, seed=4)


def test_the_floor_counts_the_swap_of_equal_groups():
    values = np.r_[np.zeros((3, 2)), np.ones((3, 2))] + np.random.default_rng(0).normal(scale=0.01, size=(6, 2))
    p, floor = permutation_test(values, np.zeros(6), np.arange(6) < 3, n_permutations=9999, seed=0)
    assert p == floor == pytest.approx(2 / 20)


@pytest.mark.parametrize("treated", [np.zeros(5, dtype=bool), np.ones(5, dtype=bool)])
def test_one_group_alone_has_no_p(treated):
    values = np.random.default_rng(0).normal(size=(5, 3))
    assert np.isnan(permutation_test(values, np.zeros(5), treated, n_permutations=99, seed=0)).all()
    assert np.isnan(effect_size(values, np.zeros(5), treated))


def test_effect_size_recovers_the_truth_and_not_the_noise():
    rng = np.random.default_rng(0)
    plates, treated = np.repeat([0, 1], 15), np.tile(np.arange(15) < 5, 2)
    for delta in (0.0, 0.5, 2.0):
        squares = []
        for _ in range(200):
            values = rng.normal(size=(30, 200)) + delta * treated[:, None] + 3 * plates[:, None]
            squares.append(effect_size(values, plates, treated) ** 2)
        assert np.mean(squares) == pytest.approx(delta**2, rel=0.03, abs=0.03)


def test_strong_treatments_are_hits_and_null_ones_are_not():
    table = treatments(plate(shift=(3, 0, 0, 2, 0)), **OPTIONS).set_index("Metadata_Compound")
    assert table.index[table["hit"]].tolist() == ["c0", "c3"]
    assert table.loc["c0", "p"] == table.loc["c0", "p_floor"] == pytest.approx(1 / math.comb(16, 4))
    assert table.loc["c0", "rank"] == 1 and table.loc["c0", "effect_size"] == pytest.approx(3, rel=0.2)
    assert (table["n_wells"] == 4).all() and (table["n_negative"] == 12).all() and (table["reason"] == "").all()
    assert (table["family"] == "sample treatments against negative controls, 5 tests").all()


def test_q_is_benjamini_hochberg_of_one_family():
    table = treatments(plate(shift=(3, 1, 0.6, 0.3, 0)), **OPTIONS)
    p = table["p"].to_numpy()
    naive = [min(len(p) * other / (p <= other).sum() for other in p if other >= value) for value in p]
    np.testing.assert_allclose(table["q"], naive)


def test_controls_get_p_but_stand_outside_the_family():
    profiles = plate(shift=(3, 1, 0))
    without = treatments(profiles[profiles["Metadata_Compound"] != "c0"], **OPTIONS)
    profiles.loc[profiles["Metadata_Compound"] == "c0", "Metadata_ControlType"] = "positive"
    table = treatments(profiles, **OPTIONS)
    control = table.iloc[0]
    assert control["p"] == control["p_floor"] and np.isnan(control["q"]) and not control["hit"]
    assert control["reason"] == "not a sample: outside the family, no q"
    np.testing.assert_array_equal(table["q"].iloc[1:], without["q"])


def test_one_replicate_has_robust_z_and_rank_but_no_p():
    table = treatments(plate(treated=1, shift=(5, 0)), **OPTIONS)
    assert table[["p", "p_floor", "q"]].isna().all(axis=None) and not table["hit"].any()
    assert table["rank"].tolist() == [1, 2] and np.isfinite(table["robust_z"]).all()
    assert (table["reason"] == "one replicate well: robust z and rank, no p").all()


def test_a_floor_above_max_fdr_is_said():
    table = treatments(plate(negatives=4, treated=2, shift=(9,)), **OPTIONS)
    assert table["p_floor"].tolist() == [pytest.approx(1 / 15)]
    assert table["reason"].tolist() == ["the smallest attainable p is above max_fdr 0.05"]


def test_other_treatments_and_row_order_do_not_change_a_p():
    profiles = plate(shift=(0.5, 1, 0), negatives=30)
    alone = treatments(profiles[profiles["Metadata_Compound"].isin(["DMSO", "c1"])], **OPTIONS)
    table = treatments(profiles, **OPTIONS)
    assert table["p_floor"].iloc[1] == 1 / 10000  # drawn, not enumerated
    assert alone["p"].iloc[0] == table["p"].iloc[1]
    pd.testing.assert_frame_equal(table, treatments(profiles, **OPTIONS))


def test_family_false_discoveries_are_held_on_null_screens():
    hits = [treatments(plate(shift=(0,) * 10, seed=seed), **OPTIONS)["hit"].any() for seed in range(60)]
    assert np.mean(hits) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


def test_real_profiles_taxol_is_far_and_dmso_is_near(data):
    folder = data / "bbbc021"
    profiles = pd.read_csv(folder / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz").rename(
        columns=lambda name: name.replace("Image_Metadata_", "Metadata_")
    )
    wells = pd.read_csv(folder / "BBBC021_v1_image.csv.gz").rename(
        columns=lambda name: name.replace("Image_Metadata_Plate_DAPI", "Metadata_Plate").replace("Image_", "")
    )
    wells = wells.rename(columns={"Metadata_Well_DAPI": "Metadata_Well"})
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Metadata_Concentration"]
    profiles = profiles.merge(
        wells[keys].drop_duplicates(), on=keys[:2]
    ).copy()  # one block: an added column must not warn
    profiles["Metadata_Treatment"] = (
        profiles["Metadata_Compound"] + "@" + profiles["Metadata_Concentration"].map("{:g} uM".format)
    )
    dmso = profiles["Metadata_Compound"] == "DMSO"
    profiles["Metadata_ControlType"] = np.where(dmso, "negative", "sample")
    table = treatments(profiles, **OPTIONS).set_index("Metadata_Treatment")
    assert table["n_plates"].median() == 3
    assert table.loc[["taxol@3 uM", "nocodazole@3 uM"], "p"].max() < 0.01
    assert distances(profiles).groupby("Metadata_ControlType")["distance"].median().diff()["sample"] > 1
