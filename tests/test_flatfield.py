"""Flat field: a known illumination is found again, a flat one stays flat, and real fields are not harmed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from plateline import config, ingest, store
from plateline.errors import ConfigError, ImageError, StaleError
from plateline.flatfield import (
    MIN_FIELDS,
    _reduce_fields,
    basic,
    correct,
    median,
    none,
    provided,
    residual,
    sample_fields,
)
from plateline.layouts.pattern import read_plane
from plateline.rank_one import sorted_layers

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"


def fields_of(n, shape=(96, 128), seed=0):
    """Fields of Poisson noise around 200 counts."""
    return np.random.default_rng(seed).poisson(200, (n, *shape)).astype(np.uint16)


def vignette(shape=(96, 128), depth=0.4):
    y, x = (np.linspace(-1, 1, size) for size in shape)
    light = 1 - depth * (y[:, None] ** 2 + x**2) / 2
    return light / light.mean()


@pytest.fixture(scope="module")
def dna():
    """All 96 DNA fields of the real plate, (N, Y, X)."""
    return np.stack([read_plane(BBBC013, file.name, 0) for file in sorted(BBBC013.glob("Channel2-*.tif"))])


def naive_median(images, bin_px):
    """Binned, mean-normalised median by loops, before smoothing."""
    blocks_y, blocks_x = (-(-size // bin_px) for size in images.shape[1:])
    result = np.zeros((blocks_y, blocks_x))
    for i in range(blocks_y):
        for j in range(blocks_x):
            window = np.s_[i * bin_px : (i + 1) * bin_px, j * bin_px : (j + 1) * bin_px]
            result[i, j] = np.median([image[window].mean() / image.mean() for image in images])
    return result


def naive_enlarge(binned, shape, bin_px):
    at = [
        np.clip((np.arange(size) + 0.5) / bin_px - 0.5, 0, n - 1) for size, n in zip(shape, binned.shape, strict=True)
    ]
    rows = np.array([np.interp(at[1], np.arange(binned.shape[1]), row) for row in binned])
    return np.array([np.interp(at[0], np.arange(binned.shape[0]), column) for column in rows.T]).T


@pytest.mark.parametrize(("shape", "bin_px"), [((24, 32), 8), ((25, 30), 8), ((7, 5), 1), ((10, 10), 64)])
def test_median_equals_a_naive_loop(shape, bin_px):
    images = fields_of(5, shape)
    smooth = ndimage.gaussian_filter(naive_median(images, bin_px), 4 / bin_px, mode="reflect")
    expected = naive_enlarge(smooth, shape, bin_px)
    illum, dark = median(images, bin_px=bin_px, smooth_px=4)
    np.testing.assert_allclose(illum, expected / expected.mean(), rtol=1e-5)
    assert illum.shape == dark.shape == shape
    assert illum.dtype == dark.dtype == np.float32
    assert not dark.any()


def test_median_equals_a_naive_loop_on_real_fields(dna):
    expected = naive_enlarge(naive_median(dna[:5], 64), (640, 640), 64)
    illum, _ = median(dna[:5], bin_px=64, smooth_px=0)
    np.testing.assert_allclose(illum, expected / expected.mean(), rtol=1e-5)


def test_a_known_illumination_is_found_again():
    truth = vignette()
    images = np.round(fields_of(20) * truth).astype(np.uint16)
    illum, dark = median(images, bin_px=4, smooth_px=2)
    assert illum.mean() == pytest.approx(1, abs=1e-6)
    error = np.abs(illum / truth - 1)
    assert error[8:-8, 8:-8].max() < 0.02
    assert error.max() < 0.06, "the mirrored edge is flatter than the truth"
    before, after = residual(images, illum, dark, bin_px=8)
    assert after < before / 5


def test_brightness_and_order_of_the_fields_do_not_matter():
    images = fields_of(9).astype(float)
    illum, _ = median(images, bin_px=8, smooth_px=16)
    gains = np.linspace(0.1, 10, 9)[:, None, None]
    np.testing.assert_allclose(median((images * gains)[::-1], bin_px=8, smooth_px=16)[0], illum, rtol=1e-6)
    np.testing.assert_allclose(median(images.swapaxes(1, 2), bin_px=8, smooth_px=16)[0], illum.T, rtol=1e-6)


@pytest.mark.parametrize("images", [fields_of(0), fields_of(2), np.zeros((9, 96, 128), np.uint8)])
def test_too_few_fields_with_light_give_a_flat_one(images):
    illum, dark = median(images, bin_px=8, smooth_px=16)
    assert (illum == 1).all()
    assert not dark.any()
    assert illum.shape == (96, 128)


def test_fields_without_light_or_with_nan_do_not_count():
    images = fields_of(5).astype(float)
    dull = np.concatenate([images, np.zeros((1, 96, 128)), np.full((1, 96, 128), np.nan)])
    np.testing.assert_array_equal(median(dull, bin_px=8, smooth_px=8)[0], median(images, bin_px=8, smooth_px=8)[0])


def test_none_is_flat_and_changes_nothing():
    images = fields_of(3)
    illum, dark = none(images, bin_px=8)
    np.testing.assert_array_equal(correct(images, np.stack([illum] * 3), np.stack([dark] * 3)), images)
    before, after = residual(images, illum, dark, bin_px=8)
    assert before == pytest.approx(after)


def test_correct_keeps_what_lies_below_the_dark_level():
    image = np.array([[[0, 10], [20, 30]]], np.uint8)
    illum = np.array([[[0.5, 1], [2, 1]]], np.float32)
    dark = np.full((1, 2, 2), 10, np.float32)
    corrected = correct(image, illum, dark)
    assert corrected.dtype == np.float32
    np.testing.assert_array_equal(corrected, [[[-20, 0], [5, 20]]])
    assert image.dtype == np.uint8, "the raw field stays as it was"
    assert image[0, 0, 0] == 0


def test_correct_refuses_fields_of_another_shape():
    ones = np.ones((2, 4, 4), np.float32)
    with pytest.raises(ImageError, match=r"shape \(C, Y, X\) = \(1, 4, 4\), its illumination \(2, 4, 4\)"):
        correct(ones[:1], ones, ones)
    with pytest.raises(ImageError, match=r"dark level \(2, 3, 4\); expected equal shapes"):
        correct(ones, ones, ones[:, :3])


def test_residual_of_nothing_is_nan():
    illum, dark = none(fields_of(0))
    assert np.isnan(residual(fields_of(0), illum, dark, bin_px=8)).all()


def test_real_fields_are_more_even_on_fields_that_were_not_seen(dna):
    illum, dark = median(dna[::2], bin_px=64, smooth_px=80)
    assert illum.min() > 0.75
    assert illum.max() < 1.25
    before, after = residual(dna[1::2], illum, dark, bin_px=64)
    assert after < before


def test_real_fields_under_a_drawn_vignette_get_back_most_of_it(dna):
    truth = vignette((640, 640), 0.5)
    own, _ = median(dna, bin_px=64, smooth_px=80)
    drawn, _ = median(dna * truth.astype(np.float32), bin_px=64, smooth_px=80)
    found = drawn / own
    assert (found / truth / np.mean(found / truth)).std() < truth.std() / 2


def test_the_sample_depends_on_the_fields_not_on_their_order():
    fields = pd.DataFrame(
        {"Metadata_Plate": "P1", "Metadata_Well": [f"{r}{c:02d}" for r in "ABCD" for c in range(1, 13)]}
    ).assign(Metadata_Site=1, Metadata_Timepoint=0, path="x")
    sample = sample_fields(fields, max_fields=10, seed=0)
    shuffled = fields.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(sample_fields(shuffled, max_fields=10, seed=0), sample)
    assert len(sample) == sample["Metadata_Well"].nunique() == 10
    assert sample["Metadata_Well"].is_monotonic_increasing
    assert not sample.equals(sample_fields(fields, max_fields=10, seed=1))
    pd.testing.assert_frame_equal(sample_fields(shuffled, max_fields=99, seed=0), fields)
    assert list(sample_fields(fields.iloc[:0], max_fields=10, seed=0).columns) == list(fields.columns)


# --- basic


SPOTTED = (256, 320)


def spotted(n, shape=SPOTTED, seed=0, background=100):
    """Light of fields with 150 round cells each, of many brightnesses, on an even background, (N, Y, X)."""
    rng = np.random.default_rng(seed)
    spots = np.zeros((n, *shape))
    for field in spots:
        field[tuple(rng.integers(0, size, 150) for size in shape)] = rng.gamma(2, 400, 150)
    return background + ndimage.gaussian_filter(spots, (0, 3, 3)) * 57


def exposed(light, truth, offset=0, seed=1):
    return (np.random.default_rng(seed).poisson(light * truth) + offset).astype(np.uint16)


def error_of(illum, truth):
    return np.abs(illum - truth / truth.mean()).mean()


def naive_layers(fields):
    """Sorted layers of each group, with loops."""
    groups = min(8, len(fields))
    n_y, n_x = fields.shape[1] // 8, fields.shape[2] // 8
    result = np.zeros((groups, n_y * n_x, 16))
    for k in range(groups):
        for i in range(n_y):
            for j in range(n_x):
                values = sorted(v for f in fields[k::groups] for v in f[8 * i : 8 * i + 8, 8 * j : 8 * j + 8].ravel())
                for layer in range(16):
                    begin, end = layer * len(values) // 16, (layer + 1) * len(values) // 16
                    result[k, i * n_x + j, layer] = np.mean(values[begin:end], dtype=np.float64)
    return result


@pytest.mark.parametrize("n", [3, 8, 11])
def test_sorted_layers_equal_a_naive_loop(n):
    fields = np.random.default_rng(n).gamma(2, 50, (n, 16, 24)).astype(np.float32)
    np.testing.assert_allclose(sorted_layers(fields), naive_layers(fields), rtol=1e-5)


def test_fields_are_reduced_to_means_sorted_by_brightness():
    images = fields_of(4, (40, 24)) * np.array([3, 1, 4, 2])[:, None, None]
    edges = [np.arange(0, 40, 5), np.arange(0, 24, 3)]
    found = _reduce_fields(images, edges)
    expected = [[[image[y : y + 5, x : x + 3].mean() for x in edges[1]] for y in edges[0]] for image in images]
    np.testing.assert_allclose(found, np.array(expected)[[1, 3, 0, 2]], rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 300])
@pytest.mark.parametrize("seed", [0, 1])
def test_basic_finds_illumination_and_dark_level(seed, offset):
    truth = vignette(SPOTTED, 0.5)
    images = exposed(spotted(32, seed=seed), truth, offset)
    illum, dark = basic(images, order=4, dark=True)
    assert error_of(illum, truth) < 0.04 < error_of(np.ones_like(truth), truth) / 2
    assert (dark == dark[0, 0]).all()
    assert dark[0, 0] == pytest.approx(offset, abs=75)
    assert illum.mean() == pytest.approx(1, abs=1e-6)
    assert illum.dtype == dark.dtype == np.float32
    assert illum.shape == dark.shape == truth.shape


def test_without_a_search_the_dark_level_is_zero_and_the_illumination_too_flat():
    truth = vignette(SPOTTED, 0.5)
    images = exposed(spotted(32), truth, 300)
    flat, dark = basic(images, order=4, dark=False)
    assert not dark.any()
    assert error_of(flat, truth) > error_of(basic(images, order=4, dark=True)[0], truth)


@pytest.mark.parametrize("offset", [0, 300])
def test_even_fields_stay_even_and_tell_no_dark_level(offset):
    images = exposed(spotted(32), 1, offset)
    illum, dark = basic(images, order=4, dark=True)
    assert np.abs(illum - 1).mean() < 0.005
    assert not dark.any() or dark[0, 0] < images.min(axis=(1, 2)).mean()


def test_basic_on_real_cells_finds_a_drawn_vignette_and_no_dark_level_in_rounding(dna):
    truth = vignette((640, 640), 0.5)
    own, dark = basic(dna, order=4, dark=True)
    drawn, _ = basic(dna * truth.astype(np.float32), order=4, dark=True)
    found = drawn / own
    assert (found / truth / np.mean(found / truth)).std() < truth.std() / 4
    assert not dark.any(), "a darkest layer of one count is rounding"
    illum, dark = basic(dna[::2], order=4, dark=True)
    before, after = residual(dna[1::2], illum, dark, bin_px=64)
    assert after < before


@pytest.mark.parametrize("offset", [0, 300])
def test_basic_does_not_mind_transposing_scaling_and_order(offset):
    images = exposed(spotted(20), vignette(SPOTTED, 0.5), offset).astype(float)
    illum, dark = basic(images, order=4, dark=True)
    flat, level = basic(images.swapaxes(1, 2), order=4, dark=True)
    np.testing.assert_allclose(flat, illum.T, rtol=1e-4)
    np.testing.assert_allclose(level, dark.T, rtol=1e-4)
    flat, level = basic(images * 7, order=4, dark=True)
    np.testing.assert_allclose(flat, illum, rtol=1e-4)
    np.testing.assert_allclose(level, dark * 7, rtol=1e-4)
    shuffled = np.random.default_rng(3).permutation(images)
    np.testing.assert_array_equal(basic(shuffled, order=4, dark=True), (illum, dark))


def test_mirroring_the_fields_mirrors_the_illumination():
    images = exposed(spotted(20), vignette(SPOTTED, 0.5) * np.linspace(0.8, 1.2, 320))
    illum, _ = basic(images, order=4, dark=True)
    np.testing.assert_allclose(basic(images[:, ::-1, ::-1], order=4, dark=True)[0], illum[::-1, ::-1], rtol=1e-4)


@pytest.mark.parametrize(
    "images",
    [
        fields_of(0),
        fields_of(MIN_FIELDS - 1),
        np.zeros((9, 96, 128), np.uint8),
        np.full((9, 96, 128), 255, np.uint8),
        np.full((9, 96, 128), np.nan),
        fields_of(9, (63, 200)),
        fields_of(9, (200, 5)),
        fields_of(9, (1, 1)),
    ],
    ids=["none", "two", "black", "saturated", "nan", "63 px", "5 px", "1 px"],
)
def test_fields_that_tell_nothing_give_a_flat_illumination(images):
    illum, dark = basic(images, order=4, dark=True)
    assert (illum == 1).all()
    assert not dark.any()
    assert illum.shape == dark.shape == images.shape[1:]


def test_blank_and_saturated_fields_do_not_count():
    images = exposed(spotted(12), vignette(SPOTTED, 0.5), 200).astype(float)
    dull = [np.full((1, *SPOTTED), value) for value in (0.0, 65535.0, np.nan)]
    mixed = np.concatenate([dull[0], images, *dull[1:]])
    np.testing.assert_array_equal(basic(mixed, order=4, dark=True), basic(images, order=4, dark=True))


def test_a_few_wild_fields_do_little():
    truth = vignette(SPOTTED, 0.5)
    images = exposed(spotted(40), truth)
    images[3, :130] = 60000
    images[17, 60:180, 40:180] = 65535
    assert error_of(basic(images, order=4, dark=True)[0], truth) < 0.02


@pytest.mark.parametrize("n", [3, 4, 7])
def test_few_fields_give_something_between_flat_and_the_truth(n):
    truth = vignette(SPOTTED, 0.5)
    illum, _ = basic(exposed(spotted(n), truth), order=4, dark=True)
    assert error_of(illum, truth) <= error_of(np.ones_like(truth), truth)


@pytest.mark.parametrize("shape", [(64, 64), (67, 140), (131, 250), (300, 560)])
@pytest.mark.parametrize("order", [1, 4, 8])
def test_any_size_and_order_gives_a_positive_illumination(shape, order):
    images = exposed(spotted(10, shape), vignette(shape, 0.6))
    illum, dark = basic(images, order=order, dark=True)
    assert illum.shape == dark.shape == shape
    assert illum.min() > 0
    assert illum.mean() == pytest.approx(1, abs=1e-5)


def test_fields_that_are_all_alike_are_taken_at_their_word():
    images = np.repeat(np.round(1000 * vignette())[None], 5, axis=0)
    assert error_of(basic(images, order=4, dark=False)[0], vignette()) < 0.02


# --- provided


def test_a_provided_illumination_comes_to_mean_one():
    given = vignette() * 37
    illum, dark = provided(fields_of(2), illum=given, name="x.npy")
    np.testing.assert_allclose(illum, given / given.mean(), rtol=1e-6)
    assert illum.dtype == dark.dtype == np.float32
    assert not dark.any()
    assert given.mean() == pytest.approx(37)


def test_a_provided_illumination_of_another_shape_is_refused():
    with pytest.raises(ImageError, match=r"x.npy has shape \(96, 127\); expected that of the fields, .* \(96, 128\)"):
        provided(fields_of(2), illum=vignette()[:, :-1], name="x.npy")


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_provided_illumination_that_is_not_positive_is_refused(value):
    given = vignette()
    given[3, 4] = value
    with pytest.raises(ImageError, match=r"x.npy is no illumination: .* at \(y, x\) = \(3, 4\)"):
        provided(fields_of(2), illum=given, name="x.npy")


def test_a_provided_illumination_that_is_not_real_is_refused():
    with pytest.raises(ImageError, match=r"x.npy has dtype complex128; expected real numbers"):
        provided(fields_of(2), illum=vignette().astype(complex), name="x.npy")


def save_index(folder, **columns):
    """An index of two channels beside which illuminations are kept."""
    index = folder / "index" / "images.parquet"
    made = dict.fromkeys(("section", "code", "share", "version", "key"), "")
    store.save_table(pd.DataFrame({"Metadata_Channel": ["DNA", "ER"], **columns}), index, made)
    return index


def test_illuminations_that_the_source_names_are_kept_and_read(tmp_path):
    np.save(tmp_path / "a.npy", vignette())
    planes = pd.DataFrame({"Metadata_Channel": ["DNA", "DNA", "ER"], "illum": ["a.npy", "a.npy", ""]})
    named = ingest.illuminations(planes)
    assert named == {"DNA": ["a.npy"]}
    index = save_index(tmp_path)
    np.save(index.with_name("P1_IllumOld.npy"), vignette())
    kept, lost = store.keep_illuminations(tmp_path, named, index, "P1")
    assert (list(kept), len(lost)) == (["DNA"], 0)
    assert not index.with_name("P1_IllumOld.npy").exists()
    save_index(tmp_path, illum_checksum=[kept["DNA"], ""])
    (tmp_path / "a.npy").unlink()
    given = store.read_illumination("", "{channel}.npy", plate="P1", channel="DNA", index=index)
    np.testing.assert_array_equal(given["illum"], vignette())
    with pytest.raises(ConfigError, match="channel 'ER' of plate P1 has no illumination"):
        store.read_illumination("", "{channel}.npy", plate="P1", channel="ER", index=index)
    np.save(index.with_name("P1_IllumDNA.npy"), 2 * vignette())
    with pytest.raises(StaleError, match="is not the illumination its index speaks of; rerun rule ingest_plate"):
        store.read_illumination("", "{channel}.npy", plate="P1", channel="DNA", index=index)


def test_illuminations_that_cannot_be_kept_are_named(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    np.save(tmp_path / "outside.npy", vignette())
    (source / "link.npy").symlink_to(tmp_path / "outside.npy")
    (source / "text.npy").write_text("text")
    named = {"A": ["x.npy", "y.npy"], "B": ["link.npy"], "C": ["text.npy"], "D": ["gone.npy"]}
    kept, lost = store.keep_illuminations(source, named, save_index(tmp_path), "P1")
    assert kept == {}
    for reason, words in zip(lost["reason"], ("names 2, x.npy", "leads outside", "NPY", "gone.npy"), strict=True):
        assert words in reason


def test_a_provided_file_is_read_by_plate_and_channel(tmp_path):
    np.save(tmp_path / "P1_IllumDNA.npy", vignette())
    given = store.read_illumination(
        str(tmp_path), "{plate}_Illum{channel}.npy", plate="P1", channel="DNA", index="no.parquet"
    )
    np.testing.assert_array_equal(given["illum"], vignette())
    assert "P1_IllumDNA.npy of channel 'DNA'" in given["name"]
    found = config.provided_files(str(tmp_path), "{plate}_Illum{channel}.npy", "P1")
    assert found == [(tmp_path / "P1_IllumDNA.npy").as_posix()]
    assert config.provided_files(str(tmp_path), "{plate}_Illum{channel}.npy", "P2") == []
    assert config.provided_files("", "{channel}.npy", "P1") == []


def test_a_channel_without_a_provided_file_is_refused_by_name(tmp_path):
    np.save(tmp_path / "IllumDNA.npy", vignette())
    named = {"plate": "P1", "channel": "ER", "index": save_index(tmp_path)}
    with pytest.raises(ConfigError, match=r"channel 'ER' of plate P1 has no illumination; .*IllumER.npy, got IllumDNA"):
        store.read_illumination(
            str(tmp_path), "Illum{channel}.npy", plate="P1", channel="ER", index=save_index(tmp_path)
        )
    with pytest.raises(ConfigError, match=r"got no .npy file there: set flatfield.provided.folder"):
        store.read_illumination("", "Illum{channel}.npy", **named)


@pytest.mark.parametrize("content", [b"", b"not an array"])
def test_a_provided_file_that_is_no_array_is_refused(tmp_path, content):
    (tmp_path / "DNA.npy").write_bytes(content)
    with pytest.raises(ConfigError, match=r"DNA.npy cannot be read as an array .*; expected NPY without pickles"):
        store.read_illumination(str(tmp_path), "{channel}.npy", plate="P1", channel="DNA", index="no.parquet")
