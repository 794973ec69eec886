import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares
from scipy.stats import f, spearmanr
from skimage.filters import gaussian, threshold_otsu
from skimage.io import imread
from skimage.morphology import dilation, disk

from plateline.errors import PlatelineError
from plateline.hits import dose_response, four_parameter
from plateline.hits.dose import COLUMNS, HILLS, MARGIN, _profile

REAL = Path(__file__).parents[1] / "resources" / "bbbc013"
# Nine two-fold doses up to 250 nM, as on the demo plate, in log10 molar.
DOSES = np.log10(250e-9 / 2.0 ** np.arange(9))
ESTIMATES = ["pEC50", "EC50", "low", "high", "bottom", "top", "hill", "r2", "p_flat"]


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def screen(curve, *, sd=0.0, replicates=4, plates=1, plate_sd=0.0, compounds=1, doses=DOSES, seed=0):
    """Well table of `compounds` with the true `curve` of log10 molar, noise between wells and between plates."""
    rng = np.random.default_rng(seed)
    x = np.tile(np.repeat(doses, replicates * plates), compounds)
    plate = np.arange(len(x)) % plates
    compound = np.repeat(np.arange(compounds), len(x) // compounds)
    y = (
        curve(x)
        + rng.normal(scale=sd, size=len(x))
        + rng.normal(scale=plate_sd, size=(compounds, plates))[compound, plate]
    )
    return pd.DataFrame(
        {
            "Metadata_Plate": [f"P{number}" for number in plate],
            "Metadata_Well": [f"W{number}" for number in range(len(x))],
            "Metadata_ControlType": "sample",
            "Metadata_Status": "ok",
            "Metadata_Compound": [f"c{number:03d}" for number in compound],
            "Metadata_Concentration": 10 ** (x + 9),
            "Metadata_ConcentrationUnit": "nM",
            "Metadata_log10_molar": x,
            "Metadata_Readout_r": y,
        }
    )


def sigmoid(bottom=0.0, top=1.0, pEC50=8.0, hill=1.2):
    return lambda x: four_parameter(x, bottom, top, pEC50, hill)


def fit(wells):
    return dose_response(wells, ["r"], confidence=0.95).iloc[0]


def test_four_parameter_equals_the_formula():
    x = np.linspace(-12, -3, 50)
    naive = [1 + (5 - 1) / (1 + 10 ** (1.7 * (-7.5 - dose))) for dose in x]
    np.testing.assert_allclose(four_parameter(x, 1, 5, 7.5, 1.7), naive)
    assert four_parameter(-7.5, 1, 5, 7.5, -1.7) == pytest.approx(3)
    assert np.isnan(four_parameter([np.nan, -7.5], 1, 5, 7.5, 1.7)).tolist() == [True, False]
    assert four_parameter([-400.0, 400.0], 0, 1, 7.5, 9).tolist() == [0, 1]


@pytest.mark.parametrize("hill", [0.6, 1.0, 2.3, -0.8, -1.5])
@pytest.mark.parametrize("pEC50", [7.2, 7.9, 8.4])
def test_noise_free_curves_give_back_their_parameters(hill, pEC50):
    row = fit(screen(sigmoid(-2, 3, pEC50, hill)))
    assert row["qualifier"] == "="
    assert row["pEC50"] == row["fitted_pEC50"] == pytest.approx(pEC50, abs=1e-4)
    assert row["EC50"] == pytest.approx(10 ** (9 - pEC50), rel=1e-3)
    assert row["low"] == pytest.approx(row["EC50"], rel=1e-3) and row["high"] == pytest.approx(row["EC50"], rel=1e-3)
    assert row[["bottom", "top", "hill"]].tolist() == pytest.approx([-2, 3, hill], rel=2e-3)
    assert row["r2"] == pytest.approx(1) and row["p_flat"] < 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_is_no_worse_than_a_general_optimiser_from_many_starts(seed):
    wells = screen(sigmoid(hill=1.5), sd=0.15, replicates=2, seed=seed)
    x, y = wells["Metadata_log10_molar"].to_numpy(), wells["Metadata_Readout_r"].to_numpy()
    row = fit(wells)
    residual = y - four_parameter(x, *row[["bottom", "top", "fitted_pEC50", "hill"]])
    starts = [[y.min(), y.max(), -centre, 1.0] for centre in np.linspace(x.min(), x.max(), 7)]
    bounds = ([-np.inf, -np.inf, -x.max(), HILLS[0]], [np.inf, np.inf, -x.min(), HILLS[-1]])
    costs = [
        2
        * least_squares(lambda p: y - four_parameter(x, *p), np.clip(start, *bounds), bounds=bounds, x_scale="jac").cost
        for start in starts
    ]
    assert residual @ residual == pytest.approx(min(costs), rel=1e-4)
    assert row["r2"] == pytest.approx(1 - residual @ residual / ((y - y.mean()) ** 2).sum())
    assert row["spearman"] == pytest.approx(spearmanr(x.round(6), y).statistic)


def test_profile_equals_naive_least_squares_per_ec50_and_hill():
    wells = screen(sigmoid(), sd=0.1, replicates=2, plates=2, plate_sd=0.5)
    x, y = wells["Metadata_log10_molar"].to_numpy(), wells["Metadata_Readout_r"].to_numpy()
    blocks = (wells["Metadata_Plate"].to_numpy()[:, None] == ["P0", "P1"]).astype(float)
    average = blocks @ np.linalg.pinv(blocks)
    grid = np.linspace(x.min() - MARGIN, x.max() + MARGIN, 11)
    fast = _profile((x, y - average @ y, average), grid)[0]
    for ec50, rss in zip(grid, fast, strict=True):
        naive = []
        for hill in np.geomspace(HILLS[0], HILLS[-1], 400):
            design = np.column_stack([blocks, four_parameter(x, 0, 1, -ec50, hill)])
            naive.append(((y - design @ np.linalg.lstsq(design, y)[0]) ** 2).sum())
        assert rss == pytest.approx(min(naive), rel=1e-3)


@pytest.mark.parametrize(("hill", "replicates", "sd"), [(1.2, 4, 0.1), (2.5, 2, 0.1), (-0.9, 3, 0.1)])
def test_the_interval_holds_the_truth_95_times_in_100(hill, replicates, sd):
    table = dose_response(
        screen(sigmoid(hill=hill), sd=sd, replicates=replicates, compounds=150), ["r"], confidence=0.95
    )
    covered = (table["low"] <= 10) & (table["high"] >= 10)
    assert covered.mean() == pytest.approx(0.95, abs=0.045)  # 2.5 standard errors
    assert table["fitted_pEC50"].median() == pytest.approx(8, abs=0.05)
    assert ((table["low"] <= table["EC50"]) & (table["EC50"] <= table["high"])).all()


def test_plates_are_blocks_so_that_their_offsets_cost_no_coverage():
    wells = screen(sigmoid(), sd=0.1, replicates=1, plates=3, plate_sd=2.0, compounds=100)
    table = dose_response(wells, ["r"], confidence=0.95)
    assert ((table["low"] <= 10) & (table["high"] >= 10)).mean() == pytest.approx(0.95, abs=0.055)
    assert (table["n_plates"] == 3).all() and (table["reason"] == "").all()
    shifted = wells.assign(Metadata_Readout_r=wells["Metadata_Readout_r"] + 9 * (wells["Metadata_Plate"] == "P1"))
    np.testing.assert_allclose(dose_response(shifted, ["r"], confidence=0.95)["EC50"], table["EC50"], rtol=1e-4)


def test_doses_aligned_with_plates_are_pooled_and_said():
    wells = screen(sigmoid(), sd=0.02)
    wells["Metadata_Plate"] = "P" + wells["Metadata_Concentration"].rank(method="dense").astype(int).astype(str)
    row = fit(wells)
    assert row["reason"] == "doses and plates are aligned: differences between plates are in the curve"
    assert row["EC50"] == pytest.approx(10, rel=0.1)


def test_wider_confidence_gives_a_wider_interval():
    wells = screen(sigmoid(), sd=0.1)
    narrow, wide = (dose_response(wells, ["r"], confidence=share).iloc[0] for share in (0.5, 0.99))
    assert wide["low"] < narrow["low"] < narrow["EC50"] < narrow["high"] < wide["high"]


def test_interval_ends_lie_on_the_limit():
    wells = screen(sigmoid(), sd=0.1)
    x, y = wells["Metadata_log10_molar"].to_numpy(), wells["Metadata_Readout_r"].to_numpy()
    row, average = fit(wells), np.full((len(x), len(x)), 1 / len(x))
    ends = np.log10(row[["low", "EC50", "high"]].to_numpy(dtype=float) * 1e-9)
    low, least, high = _profile((x, y - y.mean(), average), ends)[0]
    limit = least * (1 + f.ppf(0.95, 1, len(x) - 4) / (len(x) - 4))
    assert [low, high] == pytest.approx([limit, limit], rel=1e-3)


@pytest.mark.parametrize("hill", [1.5, -1.5])
def test_ec50_beyond_the_top_dose_answers_greater_than(hill):
    row = fit(screen(sigmoid(pEC50=5.8, hill=hill), sd=0.001))
    assert row["qualifier"] == ">" and row["curve_class"] == "partial"
    assert row["EC50"] == row["highest_dose"] == pytest.approx(250)
    assert row["pEC50"] == pytest.approx(-np.log10(250e-9))
    assert row["high"] > 250
    assert np.isfinite(row[["bottom", "top", "hill", "fitted_pEC50"]].astype(float)).all()


@pytest.mark.parametrize("hill", [1.5, -1.5])
def test_ec50_below_the_lowest_dose_answers_less_than(hill):
    row = fit(screen(sigmoid(pEC50=10.2, hill=hill), sd=0.002))
    assert row["qualifier"] == "<" and row["curve_class"] == "partial"
    assert row["EC50"] == row["lowest_dose"] == pytest.approx(250 / 256)
    assert row["low"] == 0


def test_a_line_without_plateaus_is_hardly_ever_given_a_number():
    line = screen(lambda x: x, sd=0.3, doses=DOSES[:5], replicates=3, compounds=60)
    table = dose_response(line, ["r"], confidence=0.95)
    assert (table["qualifier"] == "=").mean() <= 0.1
    unbound = table[(table["qualifier"] == "") & (table["curve_class"] == "partial")]
    assert len(unbound) > 20
    assert unbound[["EC50", "pEC50"]].isna().all(axis=None)
    assert (unbound["low"] == 0).all() and (unbound["high"] == np.inf).all()
    assert (unbound["reason"] == "the EC50 has no bound on either side").all()


def test_a_plateau_that_is_not_reached_makes_a_bracketed_curve_partial():
    assert fit(screen(sigmoid(pEC50=8.1), sd=0.01))["curve_class"] == "complete"
    row = fit(screen(sigmoid(pEC50=6.9), sd=0.001))
    assert row["qualifier"] == "=" and row["curve_class"] == "partial"


def test_descending_curves_mirror_ascending_ones():
    up = screen(sigmoid(hill=1.4), sd=0.1)
    down = up.assign(Metadata_Readout_r=-up["Metadata_Readout_r"])
    first, second = fit(up), fit(down)
    assert second["hill"] == -first["hill"] and second["spearman"] == -first["spearman"]
    assert second[["bottom", "top"]].tolist() == pytest.approx([-first["top"], -first["bottom"]])
    assert second[["EC50", "low", "high", "r2"]].tolist() == pytest.approx(
        first[["EC50", "low", "high", "r2"]].tolist()
    )
    assert first["hill"] > 0 and second["bottom"] < second["top"]


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, 5.0), (3.0, -1e3)])
def test_units_of_the_readout_do_not_change_the_ec50(scale, offset):
    wells = screen(sigmoid(), sd=0.1)
    other = wells.assign(Metadata_Readout_r=wells["Metadata_Readout_r"] * scale + offset)
    columns = ["EC50", "low", "high", "hill", "r2"]
    assert fit(other)[columns].tolist() == pytest.approx(fit(wells)[columns].tolist(), rel=1e-3)
    assert fit(other)["top"] == pytest.approx(fit(wells)["top"] * scale + offset, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_equal_responses_are_inactive_without_division_by_zero(value):
    row = fit(screen(lambda x: np.full_like(x, value)))
    assert row["curve_class"] == "inactive" and row["qualifier"] == ">" and row["EC50"] == pytest.approx(250)
    assert row["bottom"] == row["top"] == pytest.approx(value) and np.isnan(row["hill"]) and np.isnan(row["spearman"])
    assert (row["low"], row["high"]) == (0, np.inf)


@pytest.mark.parametrize("replicates", [1, 4])
def test_noise_alone_is_called_active_no_more_often_than_promised(replicates):
    table = dose_response(screen(np.zeros_like, sd=1.0, replicates=replicates, compounds=200), ["r"], confidence=0.95)
    assert (table["p_flat"] <= 0.05).mean() <= 0.05
    inactive = table[table["curve_class"] == "inactive"]
    assert len(inactive) >= 190 and (inactive["qualifier"] == ">").all()
    np.testing.assert_allclose(inactive["EC50"], 250)


@pytest.mark.parametrize(("doses", "replicates"), [(DOSES[:3], 8), (DOSES[:5], 1)])
def test_too_few_doses_or_wells_are_not_estimable(doses, replicates):
    row = fit(screen(sigmoid(), doses=doses, replicates=replicates))
    assert row["curve_class"] == "not estimable" and row["qualifier"] == ""
    assert row["reason"] == f"{len(doses)} doses, {len(doses) * replicates} wells; expected 4 doses, 6 wells"
    assert row[ESTIMATES].isna().all() and row["spearman"] == pytest.approx(1)


def test_too_few_wells_for_their_plates_are_not_estimable():
    wells = screen(sigmoid(), doses=DOSES[:4], replicates=1, plates=2)
    row = fit(wells.drop(index=[0, 7]))
    assert row["curve_class"] == "not estimable" and row["reason"].startswith("6 wells on 2 plates are too few")


def test_smallest_estimable_curve_has_four_doses_and_six_wells():
    row = fit(screen(sigmoid(), doses=DOSES[[0, 2, 4, 6]], replicates=2).drop(index=[0, 7]))
    assert row["n_wells"] == 6 and row["n_doses"] == 4 and row["curve_class"] != "not estimable"


def test_repeated_doses_count_once_in_spite_of_rounding():
    wells = screen(sigmoid(), sd=0.05)
    wells["Metadata_log10_molar"] += np.random.default_rng(0).uniform(-1e-9, 1e-9, len(wells))
    assert fit(wells)["n_doses"] == 9


def test_wells_that_do_not_count_change_nothing():
    wells = screen(sigmoid(), sd=0.05)
    bad = [
        {"Metadata_ControlType": "negative"},
        {"Metadata_ControlType": "positive"},
        {"Metadata_ControlType": "exclude"},
        {"Metadata_Status": "failed"},
        {"Metadata_Readout_r": np.nan},
        {"Metadata_Readout_r": np.inf},
        {"Metadata_Concentration": 0.0, "Metadata_log10_molar": -np.inf},
        {"Metadata_Concentration": np.nan, "Metadata_log10_molar": np.nan},
    ]
    extra = wells.iloc[: len(bad)].assign(Metadata_Well=[f"X{i}" for i in range(len(bad))], Metadata_Readout_r=50.0)
    for row, values in enumerate(bad):
        extra.loc[row, list(values)] = list(values.values())
    pd.testing.assert_series_equal(fit(pd.concat([wells, extra])), fit(wells))


def test_row_order_does_not_matter():
    wells = screen(sigmoid(), sd=0.1, replicates=2, plates=2, plate_sd=1.0)
    first, second = fit(wells), fit(wells.sample(frac=1, random_state=0))
    assert second[ESTIMATES].tolist() == pytest.approx(first[ESTIMATES].tolist(), rel=1e-6)


def test_a_compound_without_usable_wells_keeps_its_row():
    row = fit(screen(sigmoid()).assign(Metadata_Status="few cells"))
    assert row["n_wells"] == 0 and row["curve_class"] == "not estimable"
    assert row["reason"].startswith("no usable well")


def test_units_that_are_not_molar_are_fitted_without_a_pec50():
    wells = screen(sigmoid(), sd=0.05)
    grams = wells.assign(Metadata_log10_molar=np.nan, Metadata_ConcentrationUnit="ug/mL")
    row, molar = fit(grams), fit(wells)
    assert np.isnan(row["pEC50"]) and row["unit"] == "ug/mL"
    assert row[["EC50", "low", "high"]].tolist() == pytest.approx(molar[["EC50", "low", "high"]].tolist())
    assert row["fitted_pEC50"] == pytest.approx(-np.log10(row["EC50"]))


def test_molar_units_may_be_mixed_and_answer_in_that_of_the_top_dose():
    wells = screen(sigmoid(), sd=0.05)
    mixed, micro = wells.copy(), (wells["Metadata_Concentration"] > 50)
    mixed.loc[micro, "Metadata_Concentration"] /= 1000
    mixed.loc[micro, "Metadata_ConcentrationUnit"] = "uM"
    row = fit(mixed)
    assert row["unit"] == "uM" and row["EC50"] * 1000 == pytest.approx(fit(wells)["EC50"])


def test_units_that_cannot_be_compared_are_not_estimable():
    wells = screen(sigmoid())
    wells.loc[:5, ["Metadata_log10_molar", "Metadata_ConcentrationUnit"]] = [np.nan, "mg/mL"]
    assert fit(wells)["reason"] == "units that cannot be compared: mg/mL, nM"
    assert fit(wells)["curve_class"] == "not estimable"


def test_rows_are_every_compound_with_every_readout_in_order():
    wells = screen(sigmoid(), compounds=3, sd=0.1).assign(Metadata_Readout_a=lambda table: -table["Metadata_Readout_r"])
    table = dose_response(wells, ["r", "a"], confidence=0.95)
    pairs = [(f"c{number:03d}", name) for number in range(3) for name in ("r", "a")]
    assert list(zip(table["Metadata_Compound"], table["readout"], strict=True)) == pairs
    assert list(table.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(table, dose_response(wells, ["r", "a"], confidence=0.95))


def test_no_samples_and_no_wells_give_an_empty_table():
    wells = screen(sigmoid())
    for none in (wells.iloc[:0], wells.assign(Metadata_ControlType="negative"), wells.assign(Metadata_Compound=None)):
        table = dose_response(none, ["r"], confidence=0.95)
        assert table.empty and list(table.columns) == list(COLUMNS)
        assert table["n_wells"].dtype == int and table["EC50"].dtype == float


def test_a_missing_readout_is_named():
    with pytest.raises(PlatelineError, match=r"lacks Metadata_Readout_other.*profile\.readouts"):
        dose_response(screen(sigmoid()), ["other"], confidence=0.95)


def test_a_repeated_well_is_refused():
    with pytest.raises(PlatelineError, match="plate P0 well W0 stands more than once"):
        dose_response(pd.concat([screen(sigmoid())] * 2), ["r"], confidence=0.95)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_an_impossible_confidence_is_refused(confidence):
    with pytest.raises(PlatelineError, match="expected a share above 0 and below 1"):
        dose_response(screen(sigmoid()), ["r"], confidence=confidence)


def log2_ratio(well):
    """log2 of FKHR in Otsu nuclei over a ring around them, from the pixels of one well."""
    row, column = well[0], well[1:]
    fkhr, dna = (imread(next((REAL / "images").glob(f"Channel{c}-*-{row}-{column}.tif"))).astype(float) for c in (1, 2))
    smooth = gaussian(dna, 1)
    nuclei = smooth > threshold_otsu(smooth)
    near = dilation(nuclei, disk(2))
    ring = dilation(near, disk(3)) & ~near
    return np.log2(fkhr[nuclei].mean() / fkhr[ring].mean())


def test_real_plate_gives_the_known_ec50():
    wells = pd.read_csv(REAL / "platemap.csv").add_prefix("Metadata_").assign(Metadata_Plate="BBBC013")
    scale = wells["Metadata_ConcentrationUnit"].map({"nM": 1e-9, "uM": 1e-6})
    wells["Metadata_log10_molar"] = np.log10(wells["Metadata_Concentration"] * scale)
    wells["Metadata_Readout_log2_ratio"] = [log2_ratio(well) for well in wells["Metadata_Well"]]
    table = dose_response(wells, ["log2_ratio"], confidence=0.95).set_index("Metadata_Compound")
    assert table.index.tolist() == ["LY294002", "wortmannin"] and (table["n_wells"] == 36).all()
    assert (table["qualifier"] == "=").all() and (table["spearman"] > 0.85).all()
    assert 6 < table.loc["wortmannin", "EC50"] < 14 and table.loc["wortmannin", "unit"] == "nM"
    assert 2.5 < table.loc["LY294002", "EC50"] < 5.5 and table.loc["LY294002", "unit"] == "uM"
