"""Effects of position: naive loops, mirrored and turned plates, what may not be tested, and how surely it is found."""

import itertools
import statistics
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kruskal, mannwhitneyu, spearmanr
from skimage.filters import threshold_otsu
from skimage.io import imread

from plateline import assay
from plateline.assay import rank
from plateline.assay.layout import aligned_with
from plateline.assay.positions import on_edge
from plateline.errors import PlatelineError
from plateline.identity import SHAPES, row_number, well_name

ROOT = Path(__file__).parents[1]
BBBC013 = ROOT / "resources" / "bbbc013"
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
import edge  # noqa: E402

TESTS = {"n_permutations": 499, "confidence": 0.95, "seed": 0}
OPTIONS = {"shape": 384, "n_bootstrap": 199, "confidence": 0.95, "seed": 0}


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def names(shape):
    rows, columns = SHAPES[shape]
    return [well_name(r, c) for r in range(rows) for c in range(columns)]


def library(controls, *, shape=384, seed=0, effect=0.0):
    """A plate with a compound per well, and those wells DMSO; readout `signal` of level 10 and CV 10 %."""
    wells = names(shape)
    rng = np.random.default_rng(seed)
    control = np.isin(wells, controls)
    treatment = np.where(control, "DMSO", [f"compound {i}" for i in range(shape)])
    table = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": wells, "Metadata_Status": "ok"})
    table["Metadata_ControlType"] = np.where(control, "negative", "sample")
    table["Metadata_Compound"] = table["Metadata_Treatment"] = treatment.astype(object)
    table["Metadata_Concentration"] = np.where(control, np.nan, 10.0)
    table["Metadata_Readout_signal"] = 10 * (1 + effect * on_edge(wells, shape)) * rng.normal(1, 0.1, shape)
    return table


def scattered(n, shape=384, seed=1):
    return sorted(np.random.default_rng(seed).choice(names(shape), n, replace=False))


def row_of(table, effect):
    return table[table["effect"] == effect].iloc[0]


def moved(wells, move, shape):
    """The wells at other places of the plate."""
    rows, columns = SHAPES[shape]
    return [well_name(*move(row_number(w[:-2]), int(w[-2:]) - 1, rows, columns)) for w in wells]


TURN = {
    "turned": lambda r, c, rows, columns: (rows - 1 - r, columns - 1 - c),
    "left to right": lambda r, c, rows, columns: (r, columns - 1 - c),
    "top to bottom": lambda r, c, rows, columns: (rows - 1 - r, c),
}


# --- naive loops


def test_rank_statistics_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for n in (9, 20, 60):
        values, groups = np.round(rng.normal(0, 1, n), 1), rng.permutation(np.arange(n) % 4)
        ranks = rank.permuted_ranks(values, 3, 0)
        assert ranks.shape == (4, n) and np.array_equal(np.sort(ranks[0]), np.sort(ranks[3]))
        expected = kruskal(*(values[groups == g] for g in range(4))).statistic
        assert rank.between_groups(ranks, groups)[0] == pytest.approx(expected)
        assert rank.along_lines(ranks, groups)[0] == pytest.approx(spearmanr(values, groups).statistic)
        marked = groups < 2
        pairs = [np.sign(a - b) for a in values[marked] for b in values[~marked]]
        assert rank.rank_biserial(ranks[0], marked) == pytest.approx(np.mean(pairs))


def test_equal_values_have_no_rank_statistic():
    ranks = rank.permuted_ranks(np.ones(6), 2, 0)
    assert not rank.between_groups(ranks, np.arange(6) % 2).any()
    assert not rank.along_lines(ranks, np.arange(6)).any()
    assert np.isnan(rank.epsilon_squared(3.0, 4, 4))


@pytest.mark.parametrize("groups", [[0, 0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2]])
def test_the_smallest_p_is_that_of_all_arrangements(groups):
    groups = np.array(groups)
    ranks = np.arange(groups.size) - (groups.size - 1) / 2
    every = np.array(list(set(itertools.permutations(groups.tolist()))))
    h = [rank.between_groups(ranks[None], arrangement)[0] for arrangement in every]
    floor = rank.smallest_p(groups, 10**9, ordered=False)
    assert floor <= np.mean(np.array(h) >= max(h) - 1e-9) + 1e-12
    assert rank.smallest_p(groups, 9, ordered=False) == max(floor, 0.1)
    assert rank.smallest_p(groups, 10**9, ordered=True) == pytest.approx(2 / len(every))


def test_p_is_that_of_the_exact_rank_sum_test():
    rng = np.random.default_rng(2)
    wells = ["A01", "A05", "H07", "C12", "C03", "C05", "D05", "E09", "F06", "D08"]
    for shift in (0.0, 1.0, 2.5):
        values = rng.normal(0, 1, 10) + shift * (np.arange(10) < 4)
        found = assay.edge_effect(values, wells, shape=96, n_permutations=9999, confidence=0.9, seed=0)
        exact = mannwhitneyu(values[:4], values[4:], method="exact").pvalue
        assert found["p"] == pytest.approx(exact, abs=0.02)
        assert found["p_floor"] == pytest.approx(1 / 210)
        assert found["detail"] == "4 wells on the edge, 6 elsewhere"


def test_the_difference_is_that_of_trimmed_means():
    values = [8.0, 7, 9, 60, 1, 20, 22, 19, 21, 18]
    wells = ["A01", "A05", "A09", "H03", "H05", "C03", "C07", "D05", "E09", "F06"]
    found = assay.edge_effect(values, wells, shape=96, **TESTS)
    assert found["difference"] == pytest.approx(statistics.mean([7, 8, 9]) - statistics.mean([19, 20, 21]))
    assert found["relative"] == pytest.approx(found["difference"] / 20)
    assert found["low"] <= found["difference"] <= found["high"]
    assert np.isnan(assay.edge_effect(np.subtract(values, 10), wells, shape=96, **TESTS)["relative"])


def test_a_gradient_is_the_slope_from_first_to_last_line():
    wells = scattered(40)
    rows = np.array([row_number(w[:-2]) for w in wells])
    values = 5 + 0.2 * rows
    found = assay.pattern_effect(values, wells, "row gradient", **TESTS)
    assert found["effect_size"] == pytest.approx(1) and found["p"] == found["p_floor"] == 1 / 500
    change = 0.2 * np.ptp(rows)
    assert [found[k] for k in ("difference", "low", "high")] == pytest.approx([change] * 3)
    assert found["relative"] == pytest.approx(change / (5 + 0.2 * rows.min()))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_edge_is_the_outermost_ring(shape):
    rows, columns = SHAPES[shape]
    ring = sum(r in (0, rows - 1) or c in (0, columns - 1) for r in range(rows) for c in range(columns))
    assert on_edge(names(shape), shape).sum() == ring


def test_alignment_is_the_share_of_pairs_beyond_chance():
    rng = np.random.default_rng(4)
    levels, lines, whole = rng.integers(3, size=20), rng.integers(4, size=20), rng.integers(4, size=50)

    def share(levels, lines):
        pairs = [(i, j) for i, j in itertools.combinations(range(len(lines)), 2) if levels[i] == levels[j]]
        return np.mean([lines[i] == lines[j] for i, j in pairs])

    chance = share(np.zeros(50), whole)
    assert assay.alignment(levels, lines, whole) == pytest.approx((share(levels, lines) - chance) / (1 - chance))
    assert assay.alignment([0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]) == 1
    assert np.isnan(assay.alignment([0, 1], [0, 0], [0, 1, 2]))
    assert np.isnan(assay.alignment([0, 0], [0, 0], [0, 0]))


def test_median_polish_equals_its_naive_loop():
    rng = np.random.default_rng(5)
    grid = rng.normal(0, 1, (5, 7)) + rng.normal(0, 3, 7) + rng.normal(0, 3, (5, 1))
    grid[1, 2] = np.nan
    left = [[float(v) for v in line] for line in grid]
    for _ in range(20):
        for line in left:
            middle = statistics.median(v for v in line if v == v)
            line[:] = [v - middle for v in line]
        for c in range(7):
            middle = statistics.median(line[c] for line in left if line[c] == line[c])
            for line in left:
                line[c] -= middle
    overall, rows, columns, residual = assay.median_polish(grid)
    np.testing.assert_allclose(residual, left, atol=1e-9)
    np.testing.assert_allclose(overall + rows[:, None] + columns + residual, grid, atol=1e-12)
    assert np.median(rows) == pytest.approx(0) and np.median(columns) == pytest.approx(0)
    assert np.isnan(residual[1, 2])


# --- properties


@pytest.mark.parametrize("turn", TURN)
def test_a_turned_plate_keeps_its_edge_and_turns_its_gradients(turn):
    wells = library(scattered(60), effect=-0.2)
    after = wells.assign(Metadata_Well=moved(wells["Metadata_Well"], TURN[turn], 384))
    one, other = (assay.position_effects(w, ["signal"], **OPTIONS).set_index("effect") for w in (wells, after))
    assert one.loc["edge", "effect_size"] == pytest.approx(other.loc["edge", "effect_size"])
    assert one.loc["edge", "difference"] == pytest.approx(other.loc["edge", "difference"])
    for name in ("row", "column", "quadrants", "B-score", "edge of the samples"):
        assert one.loc[name, "effect_size"] == pytest.approx(other.loc[name, "effect_size"], rel=1e-6), name
    signs = {"row gradient": turn == "left to right", "column gradient": turn == "top to bottom"}
    for name, kept in signs.items():
        expected = one.loc[name, ["effect_size", "difference"]].to_numpy(float) * (1 if kept else -1)
        assert other.loc[name, ["effect_size", "difference"]].to_numpy(float) == pytest.approx(expected)


def test_a_transposed_plate_exchanges_rows_and_columns():
    square = [well_name(r, c) for r in range(8) for c in range(8)]
    values = np.random.default_rng(6).normal(0, 1, 64) + np.repeat(np.arange(8), 8)
    transposed = moved(square, lambda r, c, *_: (c, r), 96)
    for by_row, by_column in (("row", "column"), ("row gradient", "column gradient")):
        one = assay.pattern_effect(values, square, by_row, **TESTS)
        other = assay.pattern_effect(values, transposed, by_column, **TESTS)
        assert one["effect_size"] == pytest.approx(other["effect_size"])
        assert one["p"] == other["p"] == 1 / 500
    assert assay.pattern_effect(values, square, "column", **TESTS)["p"] > 0.05


def test_a_constant_a_unit_and_the_order_of_rows_change_nothing():
    wells = library(scattered(40), effect=-0.3)
    table = assay.position_effects(wells, ["signal"], **OPTIONS)
    pd.testing.assert_frame_equal(
        table, assay.position_effects(wells.sample(frac=1, random_state=0), ["signal"], **OPTIONS)
    )
    other = wells.assign(Metadata_Readout_signal=3 * wells["Metadata_Readout_signal"] + 100)
    shifted = assay.position_effects(other, ["signal"], **OPTIONS)
    same = ["effect", "n_wells", "effect_size", "p", "p_floor", "q", "detail", "reason"]
    pd.testing.assert_frame_equal(table[same], shifted[same])
    np.testing.assert_allclose(shifted["difference"], 3 * table["difference"])


def test_names_of_treatments_change_nothing():
    wells = library(scattered(40), effect=-0.3)
    other = wells.replace({"DMSO": "zz water"})
    one, two = (assay.position_effects(w, ["signal"], **OPTIONS).drop(columns="treatment") for w in (wells, other))
    pd.testing.assert_frame_equal(one, two)


def test_a_planted_pattern_is_named():
    wells = names(384)
    noise = np.random.default_rng(7).normal(0, 1, 384)
    rows, columns = np.divmod(np.arange(384), 24)
    planted = {
        "row": rows == 5,
        "column": columns == 7,
        "alternate rows": rows % 2,
        "alternate columns": columns % 2,
        "quadrants": (rows % 2) & (columns % 2),
        "eight tips": rows % 8 == 3,
    }
    for name, where in planted.items():
        found = assay.pattern_effect(noise + 3 * where, wells, name, **TESTS)
        assert found["p"] == 1 / 500 and found["effect_size"] > 0.05, name
        assert assay.pattern_effect(noise, wells, name, **TESTS)["p"] > 0.01, name
    found = assay.pattern_effect(noise + 3 * (rows % 2), wells, "alternate rows", **TESTS)
    assert found["low"] < 3 < found["high"] or found["difference"] == pytest.approx(3, abs=0.3)


# --- which wells are used


def test_only_wells_of_one_treatment_are_used():
    wells = library(scattered(40), effect=-0.3)
    table = assay.position_effects(wells, ["signal"], **OPTIONS)
    other = wells.copy()
    others = other["Metadata_ControlType"] == "sample"
    other.loc[others, "Metadata_Readout_signal"] = np.arange(others.sum(), dtype=float)
    changed = assay.position_effects(other, ["signal"], **OPTIONS)
    own = table["treatment"] == "negative DMSO"
    assert own.sum() == 10
    columns = [c for c in table if c != "q"]
    pd.testing.assert_frame_equal(table.loc[own, columns], changed.loc[own, columns])
    assert (table.loc[own, "n_wells"] <= 40).all()


def test_a_scattered_treatment_goes_before_a_larger_one_in_a_column():
    wells = library([f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in (1, 24)])
    there = wells["Metadata_Well"].isin([well_name(r, c) for r, c in zip(range(16), range(2, 22), strict=False)])
    wells.loc[there, ["Metadata_Compound", "Metadata_Treatment"]] = "one compound"
    chosen, reason = assay.one_treatment(assay.places(wells))
    assert reason == "" and set(chosen["treatment"]) == {"sample one compound"} and len(chosen) == 16


def test_cell_lines_and_donors_are_treatments_apart():
    wells = library(scattered(40)).assign(Metadata_CellLine="U2OS")
    first = wells.index[wells["Metadata_ControlType"] == "negative"][:18]
    wells.loc[first, "Metadata_CellLine"] = "HeLa"
    chosen, _ = assay.one_treatment(assay.places(wells))
    assert set(chosen["treatment"]) == {"negative DMSO|U2OS"} and len(chosen) == 22


def test_wells_that_are_not_ok_excluded_or_blank_do_not_count():
    wells = library(scattered(40))
    expected = assay.position_effects(wells.iloc[5:], ["signal"], **OPTIONS)
    odd = wells.copy()
    odd.loc[:4, "Metadata_Readout_signal"] = 999.0
    odd.loc[0, "Metadata_Status"] = "failed"
    odd.loc[1, "Metadata_ControlType"] = "exclude"
    odd.loc[2, "Metadata_ControlType"] = "blank"
    odd.loc[3:4, "Metadata_Readout_signal"] = [np.nan, np.inf]
    kept = expected["effect"] != "orientation"
    table = assay.position_effects(odd, ["signal"], **OPTIONS)
    pd.testing.assert_frame_equal(table[kept], expected[kept])


# --- not estimable


def test_controls_in_the_first_and_last_column_are_not_estimable():
    ends = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in (1, 24)]
    table = assay.position_effects(library(ends, effect=-0.3), ["signal"], **OPTIONS)
    tested = table["family"] == "positions"
    assert tested.sum() == 9
    why = "not estimable: treatment is aligned with column: negative DMSO stands in 2 columns"
    assert set(table.loc[tested, "reason"]) == {why}
    assert table.loc[tested, ["effect_size", "difference", "p", "q"]].isna().all(axis=None)
    assert row_of(table, "edge of the samples")["reason"] == (
        "not estimable: fewer than 3 sample wells in the first column, the last column"
    )


@pytest.mark.parametrize(("n", "shape"), [(8, 96), (16, 96), (32, 384), (96, 384)])
def test_scattered_wells_are_seldom_called_aligned(n, shape):
    calls = []
    for seed in range(60):
        table = assay.places(library(scattered(n, shape, seed), shape=shape))
        calls.append(aligned_with(table[table["kind"] == "negative"], table) != "")
    assert np.mean(calls) <= 0.1


def test_few_wells_are_not_estimable():
    table = assay.position_effects(library(scattered(7)), ["signal"], **OPTIONS)
    for effect in ("edge", "row", "quadrants"):
        assert row_of(table, effect)["reason"] == (
            "not estimable: 7 wells of the largest treatment, negative DMSO, at least 8 needed"
        )
    assert row_of(table, "position outliers")["reason"] == "not estimable: 7 wells, at least 8 needed"
    nameless = library([]).assign(Metadata_Compound="", Metadata_Treatment="")
    table = assay.position_effects(nameless, ["signal"], **OPTIONS)
    assert row_of(table, "edge")["reason"] == "not estimable: 0 wells of any one treatment, at least 8 needed"
    unnamed = "not estimable: the plate map does not name what is in every sample well"
    assert row_of(table, "B-score")["reason"] == row_of(table, "edge of the samples")["reason"] == unnamed


@pytest.mark.parametrize(
    ("wells", "values", "pattern", "reason"),
    [
        (names(96)[12:19], range(7), "edge", "7 wells, at least 8 needed"),
        (names(96)[:12], range(12), "edge", "0 wells elsewhere, at least 3 needed"),
        (names(384)[30:44], range(14), "edge", "0 wells on the edge, at least 3 needed"),
        (names(96), np.ones(96), "edge", "all wells have one value"),
        (names(96)[:7], range(7), "column gradient", "7 wells, at least 8 needed"),
        (names(96)[:12], range(12), "row", "1 rows with 2 wells of the treatment, at least 2 needed"),
        (names(96)[:12], range(12), "column", "0 columns with 2 wells of the treatment, at least 2 needed"),
        (names(96)[:24], range(24), "row gradient", "2 rows, at least 3 needed"),
        (names(96), np.ones(96), "row", "all wells have one value"),
    ],
)
def test_too_few_positions_say_why(wells, values, pattern, reason):
    if pattern == "edge":
        found = assay.edge_effect(list(values), wells, shape=384 if len(wells) == 14 else 96, **TESTS)
    else:
        found = assay.pattern_effect(list(values), wells, pattern, **TESTS)
    assert found["reason"] == f"not estimable: {reason}"
    assert all(np.isnan(found[name]) for name in ("effect_size", "difference", "low", "high", "p", "p_floor"))


def test_outliers_are_named_in_reading_order():
    wells = [*names(96)[20:40], "AA03"]
    values = np.r_[np.linspace(9, 11, 20), -50.0]
    values[[3, 9]] = 60.0
    found = assay.outliers(values, wells)
    assert found["detail"] == "B12, C06, AA03"
    center = statistics.median(values)
    mad = 1.4826 * statistics.median(abs(values - center))
    assert found["effect_size"] == pytest.approx(max(abs(values - center)) / mad)
    assert assay.outliers([1.0] * 7 + [2.0, 3.0], names(96)[:9])["reason"] == (
        "not estimable: more than half of the wells have one value"
    )


def test_the_samples_edge_is_refused_where_it_could_be_laid_out():
    wells = library(scattered(32))
    sample = np.flatnonzero(wells["Metadata_ControlType"] == "sample")
    replicates, doses, few = wells.copy(), wells.copy(), wells.copy()
    replicates.loc[sample[:2], ["Metadata_Compound", "Metadata_Treatment"]] = "twice"
    doses.loc[sample[0], "Metadata_Concentration"] = 1.0
    few.loc[sample[7:], "Metadata_Status"] = "failed"
    cases = {
        "compounds have several wells or doses, which may be laid out on purpose": replicates,
        "samples have several doses, which may be laid out on purpose": doses,
        "7 sample wells, at least 8 needed": few,
    }
    for reason, table in cases.items():
        assert assay.single_samples(assay.places(table), 384)[1] == f"not estimable: {reason}"
    chosen, reason = assay.single_samples(assay.places(wells), 384)
    assert reason == "" and len(chosen) == 352
    table = assay.position_effects(library(scattered(32), effect=-0.2), ["signal"], **OPTIONS)
    row = row_of(table, "edge of the samples")
    assert row["family"] == "samples" and row["q"] == row["p"] == 1 / 200
    assert row["treatment"] == "samples of one well each"


# --- B-score


def fkhr_of_bbbc013():
    """Plate map of BBBC013 with the log ratio of FKHR over and beside the nuclei of each field."""
    wells = pd.read_csv(BBBC013 / "platemap.csv")
    values = []
    for well in wells["Well"]:
        pair = (next((BBBC013 / "images").glob(f"Channel{c}-*-{well[0]}-{well[1:]}.tif")) for c in (1, 2))
        fkhr, dna = (imread(path).astype(float) for path in pair)
        nuclei = dna > threshold_otsu(dna)
        values.append(np.log2(fkhr[nuclei].mean() / fkhr[~nuclei].mean()))
    dose = ["" if np.isnan(d) else f"@{d:g}" for d in wells["Concentration"]]
    return pd.DataFrame(
        {
            "Metadata_Plate": "bbbc013",
            "Metadata_Well": wells["Well"],
            "Metadata_Status": "ok",
            "Metadata_ControlType": wells["ControlType"],
            "Metadata_Compound": wells["Compound"],
            "Metadata_Concentration": wells["Concentration"],
            "Metadata_Treatment": wells["Compound"].fillna("") + dose,
            "Metadata_Readout_ratio": values,
        }
    )


def test_on_bbbc013_the_b_score_would_remove_the_dose_and_is_refused():
    wells = fkhr_of_bbbc013()
    values = wells["Metadata_Readout_ratio"].to_numpy().reshape(8, 12)
    residual = assay.median_polish(values)[3]
    removed = 1 - residual.var() / values.var()
    assert removed == pytest.approx(0.78, abs=0.03)
    # All of it stands in the columns, and the columns are the doses.
    assert 1 - (values - np.median(values, axis=0)).var() / values.var() == pytest.approx(removed, abs=0.01)
    scores, share, reason = assay.b_scores(wells, "ratio")
    assert len(scores) == 0 and np.isnan(share)
    assert reason == "not estimable: treatment is aligned with column (18 of them in 9 columns)"
    table = assay.position_effects(wells, ["ratio"], **{**OPTIONS, "shape": 96})
    estimable = table[table["reason"] == ""]["effect"]
    assert set(estimable) == {"position outliers", "orientation"}
    assert assay.findings(table).empty


def test_b_scores_take_away_rows_and_columns_and_leave_the_hit():
    wells = library(scattered(32))
    rows, columns = np.divmod(np.arange(384), 24)
    hit = wells.index[wells["Metadata_ControlType"] == "sample"][100]
    wells["Metadata_Readout_signal"] += 2.0 * rows - columns
    wells.loc[hit, "Metadata_Readout_signal"] += 10
    scores, removed, reason = assay.b_scores(wells, "signal")
    assert reason == "" and removed > 0.9 and len(scores) == 352
    assert scores.idxmax() == wells.loc[hit, "Metadata_Well"] and scores.max() > 6
    assert abs(scores.median()) < 0.05
    assert statistics.median(abs(scores - scores.median())) == pytest.approx(1 / 1.4826)


def test_b_scores_of_every_well_are_kept_with_why_there_is_none():
    wells = library(scattered(32)).assign(Metadata_Readout_flat=1.0)
    wells.loc[wells.index[wells["Metadata_ControlType"] == "sample"][0], "Metadata_Readout_signal"] = np.nan
    table = assay.well_scores(wells, ["signal", "flat"])
    assert list(table.columns) == assay.B_SCORES
    assert len(table) == 2 * 384
    signal = table[table["readout"] == "signal"].set_index("Metadata_Well")
    expected = assay.b_scores(wells, "signal")[0]
    assert signal["b_score"].dropna().to_dict() == expected.to_dict()
    assert signal["reason"].value_counts().to_dict() == {"": 351, "no sample well with a value": 33}
    flat = table[table["readout"] == "flat"]
    assert flat["b_score"].isna().all()
    assert set(flat["reason"]) == {"not estimable: rows and columns leave no spread"}
    assert assay.well_scores(wells, []).empty


def test_b_scores_of_a_plate_without_samples_are_of_one_treatment():
    wells = library(names(96), shape=96)
    scores, _, reason = assay.b_scores(wells, "signal")
    assert reason == "" and len(scores) == 96


@pytest.mark.parametrize("line", ["row", "column"])
def test_b_scores_refuse_compounds_and_doses_in_lines(line):
    wells = library(scattered(32))
    rows, columns = np.divmod(np.arange(384), 24)
    place = rows if line == "row" else columns
    sample = wells["Metadata_ControlType"] == "sample"
    series = wells.copy()
    series.loc[sample, "Metadata_Compound"] = [f"series {i}" for i in place[sample]]
    assert assay.b_scores(series, "signal")[2].startswith(f"not estimable: compound is aligned with {line}")
    doses = wells.copy()
    doses.loc[sample, "Metadata_Concentration"] = 2.0 ** place[sample]
    assert assay.b_scores(doses, "signal")[2].startswith(f"not estimable: dose is aligned with {line}")


def test_b_scores_need_wells_in_every_line():
    wells = library([])
    thin = wells[wells["Metadata_Well"].str[0].isin(list("ABC"))]
    assert assay.b_scores(thin, "signal")[2] == (
        "not estimable: 3 rows, the smallest with 24 wells; at least 4 of 4 needed"
    )
    flat = wells.assign(Metadata_Readout_signal=1.0)
    assert assay.b_scores(flat, "signal")[2] == "not estimable: rows and columns leave no spread"


# --- orientation


def controls_on_one_side(shape=384, seed=3):
    """Negative wells in the upper half of column 1, positive in the lower half of column 2, samples like nothing."""
    rows = SHAPES[shape][0]
    wells = library([], shape=shape, seed=seed)
    negative = wells["Metadata_Well"].isin([well_name(r, 0) for r in range(rows // 2)])
    positive = wells["Metadata_Well"].isin([well_name(r, 1) for r in range(rows // 2, rows)])
    wells.loc[negative, "Metadata_ControlType"] = "negative"
    wells.loc[positive, "Metadata_ControlType"] = "positive"
    wells.loc[positive, "Metadata_Readout_signal"] += 8
    wells.loc[negative, "Metadata_Readout_signal"] -= 8
    return wells


SWAPS = {"turned": "turned by 180 degrees", "left to right": "mirrored left to right"}
SWAPS |= {"top to bottom": "mirrored top to bottom"}
ORIENTED = {"shape": 384, "n_permutations": 199, "seed": 0}


def test_a_plate_that_stands_right_fits_its_map_best():
    found = assay.orientation(controls_on_one_side(), "signal", **ORIENTED)
    assert found["reason"] == "" and found["effect_size"] < 0 and found["detail"] == "" and found["p"] > 0.5
    assert found["n_wells"] == 16


@pytest.mark.parametrize("turn", TURN)
def test_a_turned_plate_is_told_from_its_controls(turn):
    wells = controls_on_one_side()
    values = dict(zip(moved(wells["Metadata_Well"], TURN[turn], 384), wells["Metadata_Readout_signal"], strict=True))
    wells["Metadata_Readout_signal"] = wells["Metadata_Well"].map(values)
    found = assay.orientation(wells, "signal", **ORIENTED)
    assert found["detail"] == SWAPS[turn] and found["effect_size"] > 0.5 and found["p"] == 1 / 200
    table = assay.position_effects(wells, ["signal"], **OPTIONS)
    warning = assay.findings(table)
    assert warning["reason"].iloc[-1].startswith(f"signal: the controls fit better {SWAPS[turn]}, effect size")


def test_another_plates_map_is_named():
    wells = controls_on_one_side()
    mapped = wells.copy()
    away = moved(wells["Metadata_Well"], lambda r, c, rows, columns: (r, (c + 9) % columns), 384)
    kinds = dict(zip(away, wells["Metadata_ControlType"], strict=True))
    mapped["Metadata_ControlType"] = mapped["Metadata_Well"].map(kinds)
    found = assay.orientation(mapped, "signal", **ORIENTED, others={"the map of P2": wells})
    assert found["detail"] == "the map of P2" and found["p"] == 1 / 200


def test_without_any_effect_no_arrangement_is_found():
    found = [assay.orientation(controls_without_effect(seed), "signal", **ORIENTED)["p"] for seed in range(60)]
    assert np.mean(np.array(found) <= 0.05) <= 0.15


def controls_without_effect(seed):
    noise = np.random.default_rng(seed).normal(0, 1, 384)
    return controls_on_one_side().assign(Metadata_Readout_signal=noise)


def test_an_orientation_that_cannot_be_told_says_why():
    few = library(scattered(8))
    few.loc[few.index[few["Metadata_ControlType"] == "sample"][:2], "Metadata_ControlType"] = "positive"
    reason = assay.orientation(few, "signal", **ORIENTED)["reason"]
    assert reason == "not estimable: 2 positive wells, at least 3 needed"
    reason = assay.orientation(library([]), "signal", **ORIENTED)["reason"]
    assert reason == "not estimable: 0 negative wells and 0 positive wells, at least 3 needed"
    halves = library([], shape=6).assign(Metadata_ControlType=["negative"] * 3 + ["positive"] * 3)
    reason = assay.orientation(halves, "signal", **{**ORIENTED, "shape": 6})["reason"]
    assert reason.startswith("not estimable: every other arrangement keeps or exchanges the controls as a whole")


# --- the table, and what is refused


def test_one_row_per_readout_and_effect():
    wells = library(scattered(32)).assign(Metadata_Readout_count=1.0 + np.arange(384))
    table = assay.position_effects(wells, ["signal", "count"], **OPTIONS)
    assert list(table) == list(assay.POSITION_COLUMNS)
    effects = ["edge", *assay.PATTERNS, "position outliers", "edge of the samples", "B-score", "orientation"]
    assert list(table["effect"]) == effects * 2 and (table["Metadata_Plate"] == "P1").all()
    tested = table[table["family"] == "positions"]
    ordered = tested.sort_values("p")["p"].to_numpy()
    m = len(ordered)
    naive = [min(ordered[j] * m / (j + 1) for j in range(i, m)) for i in range(m)]
    np.testing.assert_allclose(np.sort(tested["q"]), np.minimum(naive, 1))
    assert assay.findings(table)["reason"].str.startswith("count: row").any()
    small = assay.position_effects(library(scattered(16, 96), shape=96), ["signal"], **{**OPTIONS, "shape": 96})
    assert {"quadrants", "eight tips"} & set(small["effect"]) == set()
    alone = assay.position_effects(wells, ["signal"], **OPTIONS)
    columns = [c for c in table if c != "q"]
    pd.testing.assert_frame_equal(alone[columns], table.loc[table["readout"] == "signal", columns])


def test_a_table_without_wells_gives_all_columns():
    wells = library(scattered(32))
    full = assay.position_effects(wells, ["signal"], **OPTIONS)
    empty = assay.position_effects(wells[:0], ["signal"], **OPTIONS)
    assert len(empty) == 0 and list(empty.dtypes) == list(full.dtypes)
    assert len(assay.findings(empty)) == 0
    failed = assay.position_effects(wells.assign(Metadata_Status="failed"), ["signal"], **OPTIONS)
    assert failed["reason"].str.startswith("not estimable").all() and len(failed) == len(full)
    bare = wells.drop(columns=["Metadata_Treatment", "Metadata_Concentration"])
    assert len(assay.position_effects(bare, ["signal"], **OPTIONS)) == len(full)


def test_two_plates_and_a_missing_readout_are_refused():
    wells = library(scattered(32))
    two = pd.concat([wells, wells.assign(Metadata_Plate="P2")])
    for call in (
        lambda w, r: assay.position_effects(w, [r], **OPTIONS),
        assay.b_scores,
        lambda w, r: assay.orientation(w, r, **ORIENTED),
    ):
        with pytest.raises(PlatelineError, match=r"take one plate; got 2: \['P1', 'P2'\]"):
            call(two, "signal")
        with pytest.raises(PlatelineError, match=r"need the columns \['Metadata_Readout_ratio'\].* \['signal'\]"):
            call(wells, "ratio")


# --- how surely it is found (the full table is printed by tests/benchmarks/edge.py)


def test_power_and_false_alarm_of_the_edge():
    power, alarm = edge.edge_power(150, seed=1)
    assert alarm <= 0.09  # 0.05 and three standard errors of 150 plates
    # The bound of every test on 32 wells is below what the issue asks for; ours is what rank tests reach.
    assert 0.1 <= power <= edge.ceiling(edge.N_CONTROLS) < 0.5
    assert edge.found_share(60, 1, effect=-0.4, n_controls=32) >= 0.85
    samples = edge.edge_power_of_samples(40, seed=1)
    assert samples[0] >= 0.8 and samples[1] <= 0.15
