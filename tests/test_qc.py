"""Image quality: measures against naive ones, and flags that catch blur but spare sharp, sparse and real fields."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from plateline.layouts.pattern import read_plane
from plateline.qc import FLAGS, METRICS, MIN_FIELDS, flag_fields, measure_field, no_metrics, power_slope

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"
CHANNELS = ["FKHR", "DNA"]
LIMITS = {"blurred_z": 5, "saturated_fraction": 0.05, "blank_range": 3}


def read_field(file):
    names = [file.name, file.name.replace("Channel1", "Channel2")]
    return np.stack([read_plane(BBBC013, name, 0) for name in names])


def measure(image, name="x", channels=CHANNELS):
    return measure_field(image, channels, [255] * len(channels), background_percentile=25).assign(
        Metadata_Plate="P1", Metadata_Well=name
    )


def blurred(image, sigma, seed=0):
    """The field out of focus: smoothed, with the camera's noise drawn anew."""
    rng = np.random.default_rng(seed)
    planes = []
    for plane in image.astype(float):
        noise = 1.4826 * np.median(np.abs(plane - ndimage.median_filter(plane, 3)))
        planes.append(ndimage.gaussian_filter(plane, sigma) + rng.normal(0, max(noise, 0.5), plane.shape))
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def files():
    return sorted(BBBC013.glob("Channel1-*.tif"))


@pytest.fixture(scope="module")
def plate(files):
    """Metrics of all 96 real fields."""
    return pd.concat([measure(read_field(file), file.stem) for file in files], ignore_index=True)


def naive_slope(plane):
    """Slope by a loop over rings of the full, shifted spectrum."""
    power = np.abs(np.fft.fftshift(np.fft.fft2(plane - plane.mean()))) ** 2
    height, width = plane.shape
    short = min(plane.shape)
    y, x = np.indices(plane.shape)
    radius = np.sqrt(((y - height // 2) * short / height) ** 2 + ((x - width // 2) * short / width) ** 2)
    rings = range(2, short // 8)
    sums = [power[(radius >= r) & (radius < r + 1)].sum() for r in rings]
    return np.polyfit(np.log(list(rings)), np.log(sums), 1)[0]


@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (97, 65)])
def test_power_slope_equals_a_naive_loop(shape):
    plane = ndimage.gaussian_filter(np.random.default_rng(0).normal(100, 10, shape), 1.5)
    assert power_slope(plane) == pytest.approx(naive_slope(plane), rel=1e-9)


def test_power_slope_equals_a_naive_loop_on_a_real_field(files):
    plane = read_field(files[0])[1]
    assert power_slope(plane) == pytest.approx(naive_slope(plane), rel=1e-9)


def test_power_slope_of_known_spectra():
    rng = np.random.default_rng(0)
    white = rng.normal(0, 1, (512, 512))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512))
    frequency[0, 0] = 1
    # Rings hold more pixels outwards, which adds 1 to the slope of power per pixel.
    assert power_slope(white) == pytest.approx(1, abs=0.05)
    pink = np.fft.ifft2(np.fft.fft2(white) / frequency).real
    assert power_slope(pink) == pytest.approx(-1, abs=0.1)


def test_power_slope_knows_no_gain_offset_or_transposition(files):
    plane = read_field(files[3])[1].astype(float)
    for same in (7 * plane + 100, plane[::-1], plane.T):
        assert power_slope(same) == pytest.approx(power_slope(plane), rel=1e-9)


@pytest.mark.parametrize("plane", [np.full((64, 64), 7), np.zeros((20, 20)), np.eye(16)])
def test_power_slope_of_a_constant_or_tiny_image_is_nan(plane):
    assert np.isnan(power_slope(plane))


def test_metrics_equal_naive_ones(files):
    image = read_field(files[10])
    table = measure(image)
    assert table["Metadata_Channel"].tolist() == CHANNELS
    for plane, (_, row) in zip(image.astype(float), table.iterrows(), strict=True):
        padded = np.pad(plane, 1, mode="symmetric")
        curvature = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * plane
        assert row["focus_laplacian"] == pytest.approx(curvature.var() / plane.mean() ** 2, rel=1e-5)
        assert row["saturation"] == (plane >= 255).sum() / plane.size
        assert row["background"] == np.percentile(plane, 25)
        assert row["range"] == np.percentile(plane, 99.9) - np.percentile(plane, 0.1)
        bright = plane > threshold_otsu(plane.astype(np.uint8))
        assert row["foreground"] == bright.mean()
        rest = plane[~bright]
        noise = max(1.4826 * np.median(np.abs(rest - np.median(rest))), 12**-0.5)
        assert row["snr"] == pytest.approx((plane[bright].mean() - np.median(rest)) / noise)


def test_constant_empty_and_nan_fields_are_measured():
    constant = measure(np.zeros((2, 64, 64), np.uint16)).iloc[0]
    assert constant[["saturation", "background", "foreground", "range"]].tolist() == [0, 0, 0, 0]
    assert constant[["focus_slope", "focus_laplacian", "snr"]].isna().all()
    broken = np.ones((2, 64, 64), np.float32)
    broken[0, 3, 3] = np.nan
    assert measure(broken).loc[0, METRICS].isna().all()
    assert measure(broken).loc[1, METRICS].notna().any()
    empty = measure(np.zeros((0, 64, 64), np.uint8), channels=[])
    assert empty.empty
    assert list(empty.columns[:8]) == ["Metadata_Channel", *METRICS]


def test_unknown_full_scale_gives_unknown_saturation():
    table = measure_field(np.ones((1, 64, 64)), ["DNA"], [np.nan], background_percentile=25)
    assert np.isnan(table.loc[0, "saturation"])


def test_no_real_field_is_flagged(plate):
    flagged = flag_fields(plate, **LIMITS)
    assert len(flagged) == 192
    assert not flagged[FLAGS].to_numpy().any()
    assert set(flagged["flags"]) == {""}
    # With room to spare: the limit could be as low as 3.
    assert not flag_fields(plate, **{**LIMITS, "blurred_z": 3})["blurred"].any()


@pytest.mark.parametrize(("sigma", "channels"), [(2, ["DNA"]), (4, CHANNELS)])
def test_blurred_copies_of_real_fields_are_flagged_and_no_other(plate, files, sigma, channels):
    chosen = files[4:96:12]
    copies = pd.concat([measure(blurred(read_field(file), sigma), file.stem) for file in chosen])
    names = [file.stem for file in chosen]
    mixed = pd.concat([plate[~plate["Metadata_Well"].isin(names)], copies], ignore_index=True)
    flagged = flag_fields(mixed, **LIMITS)
    is_copy = flagged["Metadata_Well"].isin(names)
    assert flagged.loc[is_copy & flagged["Metadata_Channel"].isin(channels), "blurred"].all()
    assert not flagged.loc[~is_copy, FLAGS].to_numpy().any()


def test_a_field_of_few_sharp_cells_is_not_blurred(plate, files):
    rng = np.random.default_rng(0)
    dna = read_field(files[0])
    window = dna[:, 200:280, 200:280]
    sparse = rng.integers(0, 4, dna.shape).astype(np.uint8)
    sparse[:, 300:380, 300:380] = window
    empty = rng.integers(0, 4, dna.shape).astype(np.uint8)
    mixed = pd.concat([plate, measure(sparse, "sparse"), measure(empty, "empty")], ignore_index=True)
    assert not flag_fields(mixed, **LIMITS)["blurred"].any()


def table_of(slopes, **columns):
    """One channel of made-up fields; `focus_laplacian` falls with the slope."""
    slopes = np.asarray(slopes, dtype=float)
    return pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Channel": "DNA",
            "focus_slope": slopes,
            "focus_laplacian": slopes + 10,
            "saturation": 0.0,
            "range": 100.0,
            **columns,
        }
    )


def naive_blurred(table, blurred_z):
    result = []
    for _, row in table.iterrows():
        peers = table[
            (table["Metadata_Plate"] == row["Metadata_Plate"])
            & (table["Metadata_Channel"] == row["Metadata_Channel"])
            & (table["range"] > LIMITS["blank_range"])
        ]
        slopes = peers["focus_slope"].dropna().tolist()
        if len(slopes) < MIN_FIELDS or not row["range"] > LIMITS["blank_range"]:
            result.append(False)
            continue
        spread = 1.4826 * np.median([abs(s - np.median(slopes)) for s in slopes])
        steep = spread > 0 and (row["focus_slope"] - np.median(slopes)) / spread < -blurred_z
        result.append(bool(steep and row["focus_laplacian"] < peers["focus_laplacian"].median()))
    return result


@pytest.mark.parametrize("seed", range(5))
def test_blurred_equals_a_naive_loop(seed):
    rng = np.random.default_rng(seed)
    n = 60
    table = table_of(
        rng.standard_t(2, n),
        Metadata_Plate=rng.choice(["P1", "P2"], n),
        Metadata_Channel=rng.choice(["a", "b", "rare"], n, p=[0.45, 0.45, 0.1]),
        focus_laplacian=rng.uniform(0, 1, n),
        range=rng.choice([0.0, 50.0, np.nan], n, p=[0.1, 0.8, 0.1]),
    )
    table.loc[::13, "focus_slope"] = np.nan
    shuffled = table.sample(frac=1, random_state=seed)
    expected = naive_blurred(table, 2)
    assert flag_fields(table, **{**LIMITS, "blurred_z": 2})["blurred"].tolist() == expected
    again = flag_fields(shuffled, **{**LIMITS, "blurred_z": 2})
    assert again.sort_index()["blurred"].tolist() == expected
    assert again.index.equals(shuffled.index)


def test_few_fields_or_no_spread_are_never_blurred():
    outlier = [*np.linspace(-1.1, -0.9, MIN_FIELDS - 1), -9]
    assert flag_fields(table_of(outlier), **LIMITS)["blurred"].tolist() == [False] * (MIN_FIELDS - 1) + [True]
    assert not flag_fields(table_of(outlier[1:]), **LIMITS)["blurred"].any()
    assert not flag_fields(table_of([-1] * 20 + [-9]), **LIMITS)["blurred"].any()


def test_only_the_steep_side_is_blurred():
    assert not flag_fields(table_of([*np.linspace(-1.1, -0.9, 20), 9]), **LIMITS)["blurred"].any()


def test_flags_are_joined_and_limits_exclusive():
    table = table_of(
        [*np.linspace(-1.1, -0.9, 20), -9, -1, -1, -1],
        saturation=[0.0] * 20 + [0.2, 0.05, np.nan, 0.06],
        range=[50.0] * 20 + [50.0, 3.0, np.nan, 2.0],
    )
    flags = flag_fields(table, **LIMITS)["flags"].tolist()
    assert flags[:20] == [""] * 20
    assert flags[20:] == ["blurred|saturated", "blank", "blank", "blank|saturated"]


def test_no_fields_give_an_empty_table_of_all_columns(plate):
    pd.testing.assert_series_equal(no_metrics()[METRICS].dtypes, plate[METRICS].dtypes)
    empty = flag_fields(no_metrics(), **LIMITS)
    assert empty.empty
    assert {*METRICS, *FLAGS, "flags"} <= set(empty.columns)
    assert empty[FLAGS].dtypes.eq(bool).all()
