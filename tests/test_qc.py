"""Image quality: measures against naive ones, and flags that catch blur but spare sharp, sparse and real fields."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from skimage import io
from skimage.filters import threshold_otsu

from plateline.layouts.pattern import read_plane
from plateline.qc import (
    FLAGS,
    METRICS,
    MIN_FIELDS,
    drift_reasons,
    find_drift,
    flag_fields,
    focus_score,
    measure_field,
    no_metrics,
    power_slope,
    role_reasons,
)
from plateline.qc.kernels import count_values, ring_power, windowed_ring_power
from plateline.qc.levels import levels_of, mean, median_deviation, part, quantile

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"
CHANNELS = ["FKHR", "DNA"]
LIMITS = {"blurred_z": 5, "saturated_fraction": 0.05, "blank_contrast": 2, "debris_z": 5, "uneven_z": 5}
FOCUS = ["focus_score", "focus_slope", "focus_laplacian", "focus_tenengrad"]


def read_field(file):
    names = [file.name, file.name.replace("Channel1", "Channel2")]
    return np.stack([read_plane(BBBC013, name, 0) for name in names])


def measure(image, name="x", channels=CHANNELS):
    return measure_field(image, channels, [255] * len(channels), background_percentile=25).assign(
        Metadata_Plate="P1", Metadata_Well=name, acquired=""
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
    assert power_slope(plane) == pytest.approx(naive_slope(plane), rel=1e-4)


def naive_focus(plane):
    """Slope of the mean power per ring above the noise, weighted, by loops over the full spectrum."""
    height, width = plane.shape
    window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n) for n in (height, width)))
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2
    ring = (np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) * 64).astype(int)
    means = [power[ring == r].mean() for r in range(40)]
    floor = min(means[28:])
    x, y, share = [], [], []
    for r in range(2, 16):
        signal = max(means[r] - floor, 0.03 * floor)
        x.append(np.log(r + 0.5))
        y.append(np.log(signal))
        share.append(signal / means[r])
    return np.polyfit(x, y, 1, w=np.sqrt(share))[0]


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (64, 97), (33, 35)])
def test_power_under_the_window_equals_that_of_a_second_transform(shape):
    light = np.random.default_rng(0).normal(0, 10, shape).astype(np.float32)
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in shape)
    ring = (np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])) * 64).astype(np.int16)
    half = np.ascontiguousarray(ring[:, : shape[1] // 2 + 1])
    spectrum = np.fft.rfft2(light).astype(np.complex64)
    for image, found in [
        (light, ring_power(spectrum, half, shape[1], 40, half.shape[1])),
        (light * np.outer(rows, columns), windowed_ring_power(spectrum, half, shape[1], 40)),
    ]:
        power = np.abs(np.fft.fft2(image)) ** 2
        np.testing.assert_allclose(found, [power[ring == number].sum() for number in range(40)], rtol=1e-4)


def test_other_byte_orders_are_measured_alike(files):
    image = read_field(files[0]).astype("<u2")
    columns = [*METRICS]
    pd.testing.assert_frame_equal(measure(image.astype(">u2"))[columns], measure(image)[columns])


def test_counted_values_equal_numpys():
    values = np.random.default_rng(0).integers(0, 60000, 1000).astype(np.uint16)
    np.testing.assert_array_equal(count_values(values, 2**16), np.bincount(values, minlength=2**16))


def naive_blocks(plane):
    height, width = (side // 4 for side in plane.shape)
    return np.array([[plane[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean() for x in range(width)] for y in range(height)])


def naive_gradient(plane):
    blocks = naive_blocks(plane)
    height, width = (side // 8 for side in blocks.shape)
    places, dark = [], []
    for y in range(8):
        for x in range(8):
            places.append([1, y, x])
            dark.append(np.percentile(blocks[y * height : (y + 1) * height, x * width : (x + 1) * width], 10))
    _, rise, run = np.linalg.lstsq(np.array(places, float), np.array(dark), rcond=None)[0]
    return 8 * (abs(rise) + abs(run))


def naive_contrast(plane):
    low, high = np.percentile(naive_blocks(plane), [0.1, 99.9])
    mixed = [
        plane[y, x] - plane[y, x + 1] - plane[y + 1, x] + plane[y + 1, x + 1]
        for y in range(0, plane.shape[0] - 1, 2)
        for x in range(0, plane.shape[1] - 1, 2)
    ]
    noise = max(1.4826 * np.median(np.abs(mixed)) / 2, 12**-0.5)
    return (high - low) / (6.18 * noise / 4)


def naive_debris(plane):
    blocks = naive_blocks(plane)
    objects, number = ndimage.label(
        blocks > (threshold_otsu(blocks) + np.percentile(blocks, 99.9)) / 2, np.ones((3, 3))
    )
    scores = []
    for one in range(1, number + 1):
        y, x = np.nonzero(objects == one)
        radius = 4 * np.sqrt(y.var() + x.var() + 1 / 6)
        scores.append(16 * (blocks[y, x] - np.median(blocks)).sum() * radius)
    return max(scores)


def naive_halo_and_roundness(plane):
    blocks = naive_blocks(plane)
    bright = blocks > threshold_otsu(blocks)
    ring = ndimage.binary_dilation(bright, np.ones((5, 5))) & ~bright
    rest = np.median(blocks[~bright])
    objects, number = ndimage.label(bright, np.ones((3, 3)))
    round_, seen = 0, 0
    for one in range(1, number + 1):
        y, x = np.nonzero(objects == one)
        spread = np.cov(np.stack([y, x]), bias=True) + np.eye(2) / 12 if len(y) > 1 else np.eye(2)
        if len(y) >= 4:
            seen += len(y)
            round_ += len(y) * (len(y) > 0.85 * 4 * np.pi * np.sqrt(np.linalg.det(spread)))
    return (np.median(blocks[ring]) - rest) / (np.median(blocks[bright]) - rest), round_ / seen


def test_power_slope_equals_a_naive_loop_on_a_real_field(files):
    plane = read_field(files[0])[1]
    assert power_slope(plane) == pytest.approx(naive_slope(plane), rel=1e-4)


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
        assert power_slope(same) == pytest.approx(power_slope(plane), rel=1e-4)


@pytest.mark.parametrize("plane", [np.full((64, 64), 7), np.zeros((20, 20)), np.eye(16)])
def test_power_slope_of_a_constant_or_tiny_image_is_nan(plane):
    assert np.isnan(power_slope(plane))


def test_metrics_equal_naive_ones(files):
    image = read_field(files[10])
    table = measure(image)
    assert table["Metadata_Channel"].tolist() == CHANNELS
    for plane, (_, row) in zip(image.astype(float), table.iterrows(), strict=True):
        inner = plane[1:-1, 1:-1]
        curvature = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:] - 4 * inner
        assert row["focus_laplacian"] == pytest.approx(curvature.var() / plane.var(), rel=1e-5)
        edges = [ndimage.sobel(plane, axis)[1:-1, 1:-1] ** 2 for axis in (0, 1)]
        assert row["focus_tenengrad"] == pytest.approx(np.mean(edges[0] + edges[1]) / plane.var(), rel=1e-5)
        assert row["focus_score"] == pytest.approx(naive_focus(plane), rel=1e-3)
        assert row["background_gradient"] == pytest.approx(naive_gradient(plane))
        assert row["contrast"] == pytest.approx(naive_contrast(plane))
        assert row["debris_score"] == pytest.approx(naive_debris(plane))
        assert (row["halo"], row["roundness"]) == pytest.approx(naive_halo_and_roundness(plane))
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
    still = ["saturation", "background", "background_gradient", "foreground", "range", "contrast", "debris_score"]
    assert (constant[still] == 0).all()
    assert constant[[*FOCUS, "snr"]].isna().all()
    broken = np.ones((2, 64, 64), np.float32)
    broken[0, 3, 3] = np.nan
    assert measure(broken).loc[0, METRICS].isna().all()
    assert measure(broken).loc[1, METRICS].notna().any()
    empty = measure(np.zeros((0, 64, 64), np.uint8), channels=[])
    assert empty.empty
    assert list(empty.columns[: len(METRICS) + 2]) == ["Metadata_Channel", *METRICS, "fingerprint"]


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 7), (2, 2), (3, 5), (31, 64), (65, 64)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_of_every_size_are_measured(shape, dtype):
    plane = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    table = measure(plane[None], channels=["x"])
    assert len(table) == 1
    assert table["saturation"].notna().all() == bool(plane.size)
    assert len(flag_fields(table, **LIMITS)) == 1


def test_focus_knows_no_gain_offset_or_transposition(files):
    plane = read_field(files[3])[1].astype(np.uint16)
    expected = measure(plane[None], channels=["x"]).loc[0, [*FOCUS, "contrast"]].astype(float)
    same = [(7 * plane + 100)[None], plane.T[None], plane[::-1][None]]
    for image in same:
        found = measure(image, channels=["x"]).loc[0]
        np.testing.assert_allclose(found[FOCUS].astype(float), expected[FOCUS], rtol=1e-3)
    turned = measure(plane.T[None], channels=["x"]).loc[0]
    assert turned["contrast"] == pytest.approx(expected["contrast"])


def test_a_floating_point_camera_has_the_focus_of_a_counting_one(files):
    image = read_field(files[3])
    counted, scaled = measure(image), measure(image.astype(np.float32) / 255)
    np.testing.assert_allclose(scaled[FOCUS], counted[FOCUS], rtol=1e-3)


def test_few_cells_are_as_sharp_as_many(files):
    """The same cells in a quarter of the field: the slope above the noise stays, as the spectrum of one cell does."""
    rng = np.random.default_rng(0)
    plane = read_field(files[0])[1].astype(float) * 20
    noise = rng.normal(200, 5, plane.shape)
    few = noise.copy()
    few[100:260, 100:260] += plane[100:260, 100:260]
    many, blurry = noise + plane, noise + ndimage.gaussian_filter(plane, 2)
    assert abs(focus_score(few) - focus_score(many)) < 0.7
    assert focus_score(few) - focus_score(blurry) > 2


@pytest.mark.parametrize(("offset", "sd"), [(0, 0), (1, 0.1), (100, 2), (1000, 30)])
def test_an_empty_field_is_blank_on_every_camera(offset, sd):
    plane = np.random.default_rng(0).normal(offset, sd, (200, 200)).clip(0).astype(np.uint16)
    table = measure(plane[None], channels=["x"])
    assert flag_fields(table, **LIMITS)["blank"].all()
    assert np.isnan(table.loc[0, "focus_score"])


def test_fingerprints_tell_pixels_apart():
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8)
    other = image.copy()
    other[0, 5, 5] ^= 1
    same, changed, wider = (
        measure(i, channels=["x"]).loc[0, "fingerprint"] for i in (image, other, image.astype("u2"))
    )
    assert same == measure(image[:, ::1].copy(order="F"), channels=["x"]).loc[0, "fingerprint"]
    assert len({same, changed, wider}) == 3


def test_unknown_full_scale_gives_unknown_saturation():
    table = measure_field(np.ones((1, 64, 64)), ["DNA"], [np.nan], background_percentile=25)
    assert np.isnan(table.loc[0, "saturation"])


def drawn_cells(ring):
    """Cells of a bright disc, in a square of a share of its light."""
    plane = np.random.default_rng(0).normal(100, 3, (320, 320))
    disc = np.hypot(*np.mgrid[-14:15, -14:15]) < 13
    for y in range(40, 300, 60):
        for x in range(40, 300, 60):
            plane[y - 24 : y + 24, x - 24 : x + 24] += 900 * ring
            plane[y - 14 : y + 15, x - 14 : x + 15][disc] = 1000
    return plane.astype(np.uint16)


def test_halo_and_roundness_of_drawn_cells():
    nuclei, cells, squares = (measure(drawn_cells(ring)[None], channels=["x"]).iloc[0] for ring in (0, 0.3, 1))
    assert nuclei["halo"] < 0.05
    assert cells["halo"] == pytest.approx(0.3, abs=0.05)
    assert nuclei["roundness"] == 1
    assert squares["roundness"] == 1  # a square fills nine tenths of its ellipse
    crosses = ndimage.binary_dilation(np.eye(320, dtype=bool) | np.eye(320, dtype=bool)[::-1], iterations=6)
    assert measure((crosses * 900 + 100).astype(np.uint16)[None], channels=["x"]).loc[0, "roundness"] == 0


def test_a_channel_that_does_not_look_nuclear_is_named(plate):
    assert role_reasons(plate, {"DNA": "DNA"}, blank_contrast=2).empty
    assert role_reasons(plate, {"DNA": ""}, blank_contrast=2).empty
    assert role_reasons(plate, {}, blank_contrast=2).empty
    found = role_reasons(plate, {"DNA": "FKHR"}, blank_contrast=2)
    assert found[["Metadata_Plate", "count"]].values.tolist() == [["P1", 96]]
    assert "channel FKHR, declared as DNA, does not look nuclear" in found["reason"][0]
    absent = role_reasons(plate, {"DNA": "Hoechst"}, blank_contrast=2)
    assert absent["reason"].tolist() == ["qc.plate.roles.DNA names channel 'Hoechst', which the plate does not have"]
    assert role_reasons(plate.assign(contrast=1.0), {"DNA": "FKHR"}, blank_contrast=2).empty
    assert role_reasons(plate.iloc[:0], {"DNA": "FKHR"}, blank_contrast=2).empty


@pytest.mark.parametrize(("name", "is_nuclear"), [("d0", True), ("d1", True), ("d2", False)])
def test_nuclear_and_cell_stains_of_another_microscope_are_told_apart(name, is_nuclear):
    folder = Path(os.environ.get("PLATELINE_DATA", BBBC013.parents[3] / "shared" / "data")) / "examplehuman" / "images"
    files = sorted(folder.glob(f"*{name}.*"))
    if not files:
        pytest.skip(f"no image {name} in {folder}; set PLATELINE_DATA")
    metrics = measure(io.imread(files[0])[None], channels=["x"])
    assert role_reasons(metrics, {"DNA": "x"}, blank_contrast=2).empty == is_nuclear


def test_no_real_field_is_flagged(plate):
    flagged = flag_fields(plate, **LIMITS)
    assert len(flagged) == 192
    # One real DNA field has a grain. None of the flags that exclude is raised.
    assert not flagged[[flag for flag in FLAGS if flag != "debris"]].to_numpy().any()
    assert flagged["debris"].sum() <= 1


@pytest.mark.parametrize(("sigma", "channels"), [(2, CHANNELS), (4, CHANNELS)])
def test_blurred_copies_of_real_fields_are_flagged_and_no_other(plate, files, sigma, channels):
    chosen = files[4:96:12]
    copies = pd.concat([measure(blurred(read_field(file), sigma), file.stem) for file in chosen])
    names = [file.stem for file in chosen]
    mixed = pd.concat([plate[~plate["Metadata_Well"].isin(names)], copies], ignore_index=True)
    flagged = flag_fields(mixed, **LIMITS)
    is_copy = flagged["Metadata_Well"].isin(names)
    assert flagged.loc[is_copy & flagged["Metadata_Channel"].isin(channels), "blurred"].all()
    assert not flagged.loc[~is_copy, ["blank", "blurred", "saturated", "duplicate"]].to_numpy().any()


def test_a_field_of_few_sharp_cells_is_not_blurred(plate, files):
    rng = np.random.default_rng(0)
    dna = read_field(files[0])
    window = dna[:, 200:280, 200:280]
    sparse = rng.integers(0, 4, dna.shape).astype(np.uint8)
    sparse[:, 300:380, 300:380] = window
    empty = rng.integers(0, 4, dna.shape).astype(np.uint8)
    mixed = pd.concat([plate, measure(sparse, "sparse"), measure(empty, "empty")], ignore_index=True)
    assert not flag_fields(mixed, **LIMITS)["blurred"].any()


def table_of(scores, **columns):
    """One channel of made-up fields."""
    scores = np.asarray(scores, dtype=float)
    return pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Channel": "DNA",
            "focus_score": scores,
            "debris_score": np.linspace(90, 110, len(scores)),
            "background_gradient": np.linspace(1, 2, len(scores)),
            "background": 10.0,
            "snr": 5.0,
            "saturation": 0.0,
            "range": 100.0,
            "contrast": 50.0,
            "fingerprint": [str(number) for number in range(len(scores))],
            "acquired": "",
            **columns,
        }
    )


def naive_blurred(table, blurred_z):
    result = []
    for _, row in table.iterrows():
        peers = table[
            (table["Metadata_Plate"] == row["Metadata_Plate"])
            & (table["Metadata_Channel"] == row["Metadata_Channel"])
            & (table["contrast"] > LIMITS["blank_contrast"])
        ]
        scores = peers["focus_score"].dropna().tolist()
        if len(scores) < MIN_FIELDS or not row["contrast"] > LIMITS["blank_contrast"]:
            result.append(False)
            continue
        below = np.median(scores) - row["focus_score"]
        spread = 1.4826 * np.median([abs(s - np.median(scores)) for s in scores])
        result.append(bool(spread > 0 and below / spread > blurred_z and below > 1))
    return result


@pytest.mark.parametrize("seed", range(5))
def test_blurred_equals_a_naive_loop(seed):
    rng = np.random.default_rng(seed)
    n = 60
    table = table_of(
        rng.standard_t(2, n),
        Metadata_Plate=rng.choice(["P1", "P2"], n),
        Metadata_Channel=rng.choice(["a", "b", "rare"], n, p=[0.45, 0.45, 0.1]),
        contrast=rng.choice([0.0, 50.0, np.nan], n, p=[0.1, 0.8, 0.1]),
    )
    table.loc[::13, "focus_score"] = np.nan
    shuffled = table.sample(frac=1, random_state=seed)
    expected = naive_blurred(table, 2)
    assert any(expected)
    assert flag_fields(table, **{**LIMITS, "blurred_z": 2})["blurred"].tolist() == expected
    again = flag_fields(shuffled, **{**LIMITS, "blurred_z": 2})
    assert again.sort_index()["blurred"].tolist() == expected
    assert again.index.equals(shuffled.index)


def test_few_fields_or_no_spread_are_never_blurred():
    outlier = [*np.linspace(-1.1, -0.9, MIN_FIELDS - 1), -9]
    assert flag_fields(table_of(outlier), **LIMITS)["blurred"].tolist() == [False] * (MIN_FIELDS - 1) + [True]
    assert not flag_fields(table_of(outlier[1:]), **LIMITS)["blurred"].any()
    assert not flag_fields(table_of([-1] * 20 + [-9]), **LIMITS)["blurred"].any()


def test_only_a_fall_of_focus_that_matters_is_blurred():
    assert not flag_fields(table_of([*np.linspace(-1.1, -0.9, 20), 9]), **LIMITS)["blurred"].any()
    assert not flag_fields(table_of([*np.linspace(-1.1, -0.9, 20), -1.9]), **LIMITS)["blurred"].any()


def test_flags_are_joined_and_limits_exclusive():
    table = table_of(
        [*np.linspace(-1.1, -0.9, 20), -9, -1, -1, -1],
        saturation=[0.0] * 20 + [0.2, 0.05, np.nan, 0.06],
        contrast=[50.0] * 20 + [50.0, 2.0, np.nan, 1.0],
    )
    flags = flag_fields(table, **LIMITS)["flags"].tolist()
    assert flags[:20] == [""] * 20
    assert flags[20:] == ["blurred|saturated", "blank", "blank", "blank|saturated"]


def test_copies_are_flagged_within_their_plate_and_blanks_are_none():
    table = table_of(
        np.linspace(-1.1, -0.9, 6),
        Metadata_Plate=["P1", "P1", "P1", "P2", "P1", "P1"],
        Metadata_Channel=["a", "a", "b", "a", "a", "a"],
        fingerprint=["x", "y", "x", "y", "z", "z"],
        contrast=[50.0] * 4 + [0.0] * 2,
    )
    assert flag_fields(table, **LIMITS)["duplicate"].tolist() == [True, False, True, False, False, False]


def test_a_fibre_a_grain_and_a_reflection_are_flagged(plate, files):
    rng = np.random.default_rng(0)
    field = read_field(files[30])
    fibre, grain, glare = field.copy(), field.copy(), field.astype(float)
    along = np.linspace(60, 580, 5000)
    line = np.zeros(field.shape[1:], bool)
    line[(300 + 60 * np.sin(along / 90)).astype(int), along.astype(int)] = True
    fibre[:, ndimage.binary_dilation(line, iterations=4)] = 250
    grain[:, 200:260, 300:360] = rng.integers(200, 250, (60, 60))
    glare += np.linspace(0, 100, 640)[:, None]
    for image, flag in ((fibre, "debris"), (grain, "debris"), (glare.clip(0, 255).astype(np.uint8), "uneven")):
        mixed = pd.concat([plate, measure(image, "new")], ignore_index=True)
        flagged = flag_fields(mixed, **LIMITS)
        assert flagged.loc[flagged["Metadata_Well"] == "new", flag].any(), flag


def test_drift_follows_time_where_it_is_known():
    falling = table_of(np.linspace(-1, -2, 20))
    shuffled = falling.sample(frac=1, random_state=0)
    options = {"blank_contrast": 2, "drift_correlation": 0.7}
    found = find_drift(falling, **options).set_index("measure")
    assert found.loc["focus_score", "correlation"] == pytest.approx(-1)
    assert found.loc["focus_score", ["first", "last"]].tolist() == pytest.approx([-1.1053, -1.8947], abs=1e-3)
    assert found["drifts"].to_dict() == {"background": False, "focus_score": True, "snr": False}
    assert not find_drift(shuffled, **options)["drifts"].any()
    times = shuffled.assign(acquired=[f"2020-01-01T{number:02d}" for number in shuffled.index])
    assert find_drift(times, **options)["drifts"].tolist() == [False, True, False]
    reasons = drift_reasons(find_drift(falling, **options))
    assert reasons["reason"].tolist() == [
        "drift of focus_score in DNA over the order of imaging: from -1.11 to -1.89, rank correlation -1.00"
    ]
    assert reasons["count"].tolist() == [20]


def test_too_few_fields_have_no_drift():
    found = find_drift(table_of(np.arange(MIN_FIELDS - 1)), blank_contrast=2, drift_correlation=0)
    assert found["correlation"].isna().all()
    assert not found["drifts"].any()
    empty = find_drift(no_metrics(), blank_contrast=2, drift_correlation=0.7)
    assert empty.empty
    assert list(empty.columns) == list(found.columns)
    assert drift_reasons(empty).empty


def test_no_fields_give_an_empty_table_of_all_columns(plate):
    pd.testing.assert_series_equal(no_metrics()[METRICS].dtypes, plate[METRICS].dtypes)
    empty = flag_fields(no_metrics(), **LIMITS)
    assert empty.empty
    assert {*METRICS, *FLAGS, "flags"} <= set(empty.columns)
    assert empty[FLAGS].dtypes.eq(bool).all()


@given(
    image=npst.arrays(
        st.sampled_from(["uint8", "uint16", "int16", "float32"]),
        st.integers(1, 60),
        elements={"max_value": 200, "min_value": 0},
    ),
    share=st.floats(0, 1),
)
def test_levels_give_what_sorting_gives(image, share):
    levels = levels_of(image)
    np.testing.assert_allclose(quantile(levels, share), np.quantile(image.astype(float), share), atol=1e-9)
    centre = np.median(image.astype(float))
    np.testing.assert_allclose(median_deviation(levels, centre), np.median(np.abs(image - centre)), atol=1e-4)
    np.testing.assert_allclose(mean(levels), image.mean(dtype=float), atol=1e-9)
    half = part(levels, levels.values > centre)
    assert half.counts.sum() == (image > centre).sum()


def test_levels_of_nothing_have_no_numbers():
    nothing = part(levels_of(np.ones(3, np.uint8)), np.array([False]))
    assert all(np.isnan(number) for number in (quantile(nothing, 0.5), mean(nothing), median_deviation(nothing, 0)))
