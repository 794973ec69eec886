"""Plate statistics: naive loops, invariances, and every answer that is `not estimable`."""

import statistics
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.io import imread

from plateline import assay
from plateline.errors import PlatelineError

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013"
OPTIONS = {"n_bootstrap": 500, "confidence": 0.95, "seed": 0}
values = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def naive_zprime(negative, positive):
    spread = statistics.stdev(negative) + statistics.stdev(positive)
    return 1 - 3 * spread / abs(statistics.mean(positive) - statistics.mean(negative))


def naive_robust_zprime(negative, positive):
    def mad(wells):
        return 1.4826 * statistics.median(abs(w - statistics.median(wells)) for w in wells)

    shift = abs(statistics.median(positive) - statistics.median(negative))
    return 1 - 3 * (mad(negative) + mad(positive)) / shift


def naive_ssmd(negative, positive):
    variance = statistics.variance(negative) + statistics.variance(positive)
    return (statistics.mean(positive) - statistics.mean(negative)) / variance**0.5


def naive_signal_window(negative, positive):
    low, high = sorted([negative, positive], key=statistics.mean)
    gap = statistics.mean(high) - statistics.mean(low)
    return (gap - 3 * statistics.stdev(high) - 3 * statistics.stdev(low)) / statistics.stdev(high)


NAIVE = {
    "zprime": naive_zprime,
    "robust_zprime": naive_robust_zprime,
    "ssmd": naive_ssmd,
    "signal_window": naive_signal_window,
}


def plate(negative, positive, compounds=None):
    """A profile table with one readout, `shift`."""
    n, p = len(negative), len(positive)
    return pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Well": [f"A{i + 1:02d}" for i in range(n)] + [f"B{i + 1:02d}" for i in range(p)],
            "Metadata_Status": "ok",
            "Metadata_ControlType": ["negative"] * n + ["positive"] * p,
            "Metadata_Compound": ["DMSO"] * n + (compounds or ["wortmannin"] * p),
            "Metadata_Readout_shift": [*negative, *positive],
        }
    )


@pytest.fixture
def wells():
    rng = np.random.default_rng(1)
    return plate(rng.normal(10, 1, 12), rng.normal(30, 2, 8), ["reference inhibitor"] * 4 + ["wortmannin"] * 4)


def test_each_statistic_equals_its_naive_loop():
    rng = np.random.default_rng(0)
    for n, p in [(2, 2), (3, 7), (32, 4)]:
        negative, positive = rng.normal(0, 1, (5, n)), rng.normal(4, 2, (5, p))
        for name, naive in NAIVE.items():
            expected = [naive(a, b) for a, b in zip(negative.tolist(), positive.tolist(), strict=True)]
            np.testing.assert_allclose(assay.STATISTICS[name](negative, positive), expected, rtol=1e-12)


def test_each_statistic_equals_its_naive_loop_on_real_wells():
    wells = pd.read_csv(BBBC013 / "platemap.csv").query("Well.str.match('[A-D](01|02|12)')")
    files = [next((BBBC013 / "images").glob(f"Channel1-*-{w[0]}-{w[1:]}.tif")) for w in wells["Well"]]
    spread = np.array([np.std(imread(f).astype(float)) for f in files])
    negative, positive = (spread[wells["ControlType"] == c] for c in ("negative", "positive"))
    assert (negative.size, positive.size) == (8, 4)
    for name, naive in NAIVE.items():
        assert float(assay.STATISTICS[name](negative, positive)) == pytest.approx(naive(list(negative), list(positive)))
    assert assay.ssmd(negative, positive) != 0


@settings(max_examples=50, deadline=None)
@given(values, values, st.floats(0.1, 10), st.floats(-100, 100))
def test_scale_offset_and_order_change_nothing(negative, positive, scale, offset):
    for name, statistic in assay.STATISTICS.items():
        if name == "signal_window" and abs(np.mean(negative) - np.mean(positive)) < 1e-6:
            continue  # which of two equal means is the higher one is rounding
        before = statistic(negative, positive)
        moved = statistic(np.array(negative[::-1]) * scale + offset, np.array(positive) * scale + offset)
        if abs(before) < 1e4:  # beyond, the difference of the means is rounding
            assert moved == pytest.approx(before, rel=1e-5, abs=1e-5), name


def test_swapping_the_groups_keeps_zprime_and_turns_ssmd():
    negative, positive = [1.0, 2, 4], [9.0, 11, 12, 15]
    assert assay.zprime(negative, positive) == assay.zprime(positive, negative)
    assert assay.robust_zprime(negative, positive) == assay.robust_zprime(positive, negative)
    assert assay.ssmd(negative, positive) == -assay.ssmd(positive, negative)
    assert assay.signal_window(negative, positive) == assay.signal_window(positive, negative)


def test_the_signal_window_is_in_units_of_the_higher_group():
    assert float(assay.signal_window([-1, 0, 1], [18, 20, 22])) == 5.5
    assert float(assay.signal_window([1, 0, -1], [-18, -20, -22])) == 11.0
    # Equal means: the larger spread counts.
    assert float(assay.signal_window([-1, 0, 1], [-2, 0, 2])) == -4.5


def test_variation_is_of_positive_quantities():
    assert float(assay.variation([8.0, 10, 12])) == pytest.approx(0.2)
    for values in ([], [3.0], [0.0, 1, 2], [-1.0, 2]):
        assert np.isnan(assay.variation(values))
    np.testing.assert_array_equal(assay.variation([[8.0, 10, 12], [-1, 10, 12]]), [0.2, np.nan])
    assert np.isnan(assay.variation(5.0))


def test_limits_without_spread_or_difference():
    # 0.1 has no exact mean: rounding must not make a spread.
    assert assay.zprime([0.1] * 3, [0.7] * 3) == 1
    assert assay.ssmd([0.1] * 3, [0.7] * 3) == np.inf
    assert assay.zprime([0.0, 2], [1.0, 1]) == -np.inf
    for statistic in assay.STATISTICS.values():
        assert np.isnan(statistic([0.1] * 3, [0.1] * 7))


@pytest.mark.parametrize("statistic", assay.STATISTICS.values())
def test_one_well_has_no_spread(statistic):
    with pytest.raises(PlatelineError, match=r"1 negative control well\(s\); expected at least 2"):
        statistic([1.0], [2.0, 3])
    with pytest.raises(PlatelineError, match=r"0 positive control well\(s\)"):
        statistic([1.0, 2], [])
    with pytest.raises(PlatelineError, match=r"1 negative control well"):
        statistic(1.0, [2.0, 3])


def test_one_row_per_readout_and_positive_control(wells):
    wells["Metadata_Readout_count"] = 5.0 + np.arange(len(wells))
    table = assay.plate_statistics(wells, ["shift", "count"], **OPTIONS)
    assert list(table) == assay.COLUMNS
    assert list(table["readout"]) == ["shift"] * 3 + ["count"] * 3
    assert list(table["positive"]) == ["all positive", "reference inhibitor", "wortmannin"] * 2
    assert list(table["n_negative"]) == [12] * 6
    assert list(table["n_positive"]) == [8, 4, 4] * 2
    assert (table["reason"] == "").all() and (table["Metadata_Plate"] == "P1").all()
    for name in assay.STATISTICS:
        inside = (table[f"{name}_low"] <= table[name]) & (table[name] <= table[f"{name}_high"])
        assert inside.all()


def test_the_point_is_that_of_the_wells(wells):
    row = assay.plate_statistics(wells, ["shift"], **OPTIONS).iloc[2]
    negative, positive = (list(wells["Metadata_Readout_shift"][rows]) for rows in (slice(0, 12), slice(16, 20)))
    for name, naive in NAIVE.items():
        assert row[name] == pytest.approx(naive(negative, positive))
    for group, values in (("negative", negative), ("positive", positive)):
        assert row[f"cv_{group}"] == pytest.approx(statistics.stdev(values) / statistics.mean(values))
        assert row[f"cv_{group}_low"] < row[f"cv_{group}"] < row[f"cv_{group}_high"]


def test_a_single_positive_compound_has_one_row():
    table = assay.plate_statistics(plate([1.0, 2, 3], [8.0, 9]), ["shift"], **OPTIONS)
    assert list(table["positive"]) == ["wortmannin"]


def test_the_interval_is_the_percentiles_of_stratified_resamples():
    rng = np.random.default_rng(3)
    negative, positive = rng.normal(0, 1, 12), rng.normal(9, 1, 6)
    row = assay.plate_statistics(plate(negative, positive), ["shift"], n_bootstrap=4000, confidence=0.9, seed=1).iloc[0]
    other = np.random.default_rng(99)
    drawn = [naive_zprime(list(other.choice(negative, 12)), list(other.choice(positive, 6))) for _ in range(4000)]
    assert [row["zprime_low"], row["zprime_high"]] == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.02)


def test_intervals_widen_with_confidence_and_narrow_with_wells():
    rng = np.random.default_rng(5)
    many = plate(rng.normal(0, 1, 64), rng.normal(9, 1, 64))
    few = pd.concat([many[:8], many[64:72]])

    def width(wells, confidence):
        row = assay.plate_statistics(wells, ["shift"], n_bootstrap=500, confidence=confidence, seed=0).iloc[0]
        return row["ssmd_high"] - row["ssmd_low"]

    assert width(many, 0.5) < width(many, 0.95) < width(few, 0.95)


def test_rows_and_readouts_do_not_influence_each_other(wells):
    wells["Metadata_Readout_other"] = np.arange(len(wells), dtype=float)
    table = assay.plate_statistics(wells, ["shift"], **OPTIONS)
    shuffled = assay.plate_statistics(wells.sample(frac=1, random_state=0), ["shift"], **OPTIONS)
    pd.testing.assert_frame_equal(table, shuffled)
    with_other = assay.plate_statistics(wells, ["other", "shift"], **OPTIONS)[3:].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, with_other)
    assert not table.equals(assay.plate_statistics(wells, ["shift"], n_bootstrap=500, confidence=0.95, seed=1))


def test_only_good_control_wells_count(wells):
    expected = assay.plate_statistics(wells, ["shift"], **OPTIONS)
    others = plate([999.0] * 5, [-999.0] * 2).assign(Metadata_Well=[f"H{i:02d}" for i in range(1, 8)])
    others["Metadata_ControlType"] = ["reference", "untreated", "sample", "exclude", "blank", "negative", "positive"]
    others.loc[5:, "Metadata_Status"] = ["failed", "few cells"]
    missing = plate([np.nan, np.inf], []).assign(Metadata_Well=["G01", "G02"])
    pd.testing.assert_frame_equal(
        expected, assay.plate_statistics(pd.concat([others, missing, wells]), ["shift"], **OPTIONS)
    )


@pytest.mark.parametrize(
    ("negative", "positive", "reason"),
    [
        ([], [1.0, 2], "not estimable: 0 negative wells, at least 2 needed"),
        ([1.0, 2], [5.0], "not estimable: 1 positive well, at least 2 needed"),
        ([1.0, np.nan], [], "not estimable: 1 negative well and 0 positive wells, at least 2 needed"),
        ([1.0, 1], [1.0, 1], "not estimable: zprime, robust_zprime, ssmd, signal_window: no difference or no spread"),
        ([1.0, 1], [2.0, 2], "not estimable: ssmd, signal_window: no difference or no spread"),
    ],
)
def test_not_estimable_says_why(negative, positive, reason):
    table = assay.plate_statistics(plate(negative, positive), ["shift"], **OPTIONS)
    assert len(table) == 1
    row = table.iloc[0]
    assert row["reason"].startswith(reason)
    for name in assay.STATISTICS:
        named = name in reason or "needed" in reason
        assert np.isnan(row[name]) == np.isnan(row[f"{name}_low"]) == np.isnan(row[f"{name}_high"]) == named


def test_cv_needs_values_above_zero(wells):
    wells.loc[0, "Metadata_Readout_shift"] = 0.0
    table = assay.plate_statistics(wells, ["shift"], **OPTIONS)
    assert table[["cv_negative", "cv_negative_low", "cv_negative_high"]].isna().all(axis=None)
    assert table["zprime"].notna().all() and table["cv_positive"].notna().all()


def test_a_table_without_wells_gives_all_columns(wells):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = assay.plate_statistics(wells[:0], ["shift"], **OPTIONS)
        failed = assay.plate_statistics(wells.assign(Metadata_Status="failed"), ["shift"], **OPTIONS)
    full = assay.plate_statistics(wells, ["shift"], **OPTIONS)
    assert len(empty) == 0 and list(empty.dtypes) == list(full.dtypes) and list(empty) == assay.COLUMNS
    assert len(failed) == 1 and failed["reason"].iloc[0].startswith("not estimable: 0 negative wells and 0 positive")


def test_two_plates_and_a_missing_readout_are_refused(wells):
    two = pd.concat([wells, wells.assign(Metadata_Plate="P2")])
    with pytest.raises(PlatelineError, match=r"take one plate; got 2: \['P1', 'P2'\]"):
        assay.plate_statistics(two, ["shift"], **OPTIONS)
    with pytest.raises(PlatelineError, match=r"need the columns \['Metadata_Readout_ratio'\].* readouts \['shift'\]"):
        assay.plate_statistics(wells, ["ratio"], **OPTIONS)
