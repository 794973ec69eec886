"""From planes to fields: index, geometry, projection and pyramid against loops and answers known by construction."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from plateline.errors import ImageError, SourceError
from plateline.identity import FIELD
from plateline.ingest import (
    COARSEST,
    Geometry,
    acquired,
    build_field,
    facts,
    field_planes,
    geometry,
    index_table,
    level_sizes,
    no_fields,
    project,
    pyramid,
    set_pixel_size,
    stage_positions,
    told_of_channels,
)

GEOMETRY = Geometry(["DNA", "GFP"], 4, 5, "uint16", 1, 0.5, 65535.0)
NO_FILES = pd.DataFrame({"path": pd.Series(dtype=object), "reason": pd.Series(dtype=object)})


def planes(wells=("B02", "A01"), channels=("w1", "w2"), times=(0,), zs=(0,), **columns):
    """What a layout finds: one row per plane."""
    rows = [
        {"Metadata_Well": well, "Metadata_Site": 1, "Metadata_Timepoint": time, "z": z, "channel": channel}
        for well in wells
        for channel in channels
        for time in times
        for z in zs
    ]
    frame = pd.DataFrame(rows)
    frame["path"] = [
        f"{row.Metadata_Well}_{row.channel}_{row.Metadata_Timepoint}_{row.z}.tif" for row in frame.itertuples()
    ]
    facts = {"page": 0, "height": 4, "width": 5, "dtype": "uint16", "pixel_size_um": 0.5, "full_scale": 65535.0}
    return frame.assign(**(facts | {"status": "ok", "reason": ""} | columns))


def index_of(found, channels=None):
    return index_table(
        found, NO_FILES, plate="P1", channels={"w1": "DNA", "w2": "GFP"} if channels is None else channels
    )


# --- index


def test_an_index_is_sorted_and_has_the_own_names():
    index, left_out = index_of(planes(times=(3, 1), zs=(1, 0)))
    leading = [*FIELD, "Metadata_Row", "Metadata_Column", "Metadata_Channel", "channel"]
    assert list(index.columns[:8]) == leading
    assert len(index) == 16
    assert index["Metadata_Well"].is_monotonic_increasing
    assert set(zip(index["Metadata_Channel"], index["channel"], strict=True)) == {("DNA", 0), ("GFP", 1)}
    assert sorted(set(index["Metadata_Timepoint"])) == [0, 1]
    assert index.loc[0, ["Metadata_Plate", "Metadata_Row", "Metadata_Column"]].tolist() == ["P1", "A", 1]
    order = [*FIELD, "Metadata_Channel", "z"]
    assert index[order].equals(index[order].sort_values(order, ignore_index=True))
    assert left_out.empty


def test_channels_stand_in_the_order_of_the_source():
    index, _ = index_of(planes(), {"w1": "Zinc", "w2": "Actin"})
    assert set(zip(index["Metadata_Channel"], index["channel"], strict=True)) == {("Zinc", 0), ("Actin", 1)}


def test_planes_of_channels_without_a_name_are_left_out_with_a_reason():
    files = pd.DataFrame({"path": ["thumb.png"], "reason": ["no match"]})
    index, left_out = index_table(planes(), files, plate="P1", channels={"w2": "GFP", "w9": "Far"})
    assert set(index["Metadata_Channel"]) == {"GFP"}
    assert set(index["channel"]) == {0}
    assert left_out["path"].tolist() == ["thumb.png", "B02_w1_0_0.tif", "A01_w1_0_0.tif"]
    assert left_out["reason"].tolist()[1:] == ["channel w1 has no name in ingest.plate.channels"] * 2
    assert len(index) + len(left_out) - 1 == len(planes())


def test_without_names_channels_keep_letters_and_digits():
    index, left_out = index_of(planes(channels=("w1 DAPI", "GFP-2")), {})
    assert dict(zip(index["Metadata_Channel"], index["channel"], strict=True)) == {"GFP2": 0, "w1DAPI": 1}
    assert left_out.empty


@pytest.mark.parametrize("channels", [("GFP 2", "GFP-2"), ("GFP", "µ"), ("--", "1")])
def test_channels_that_lose_their_difference_are_refused(channels):
    with pytest.raises(
        SourceError, match=r"plate P1: channels .* need more than letters and digits; name them in ingest.plate.ch"
    ):
        index_of(planes(channels=channels), {})


def test_names_for_other_channels_are_refused():
    with pytest.raises(
        SourceError,
        match=r"plate P1: none of its channels w1, w2 has a name in ingest.plate.channels, which names 1, 2",
    ):
        index_of(planes(), {"1": "DNA", "2": "GFP"})


def test_channels_may_be_called_by_the_microscopes_name():
    found = planes().assign(channel_name=["DAPI", "FITC", "", "FITC"])  # an unreadable file tells no name
    for channels in (
        {"DAPI": "DNA", "FITC": "GFP"},
        {"w1": "DNA", "FITC": "GFP"},
        {"w1": "DNA", "DAPI": "X", "w2": "GFP"},
    ):
        index, left_out = index_of(found, channels)
        assert set(index["Metadata_Channel"]) == {"DNA", "GFP"}
        assert left_out.empty
        assert len(index) == 4
    index, left_out = index_of(found, {"DAPI": "DNA"})
    assert (set(index["Metadata_Channel"]), len(left_out)) == ({"DNA"}, 2)


def test_a_microscopes_name_of_two_channels_is_refused():
    found = planes().assign(channel_name="Brightfield")
    with pytest.raises(SourceError, match="names 'Brightfield', the name of channels w1, w2; use these"):
        index_of(found, {"Brightfield": "BF"})
    assert set(index_of(found, {"w1": "BF", "Brightfield": "Other"})[0]["Metadata_Channel"]) == {"BF", "Other"}


# --- what the source told


def test_the_pixel_size_of_the_config_stands_above_the_sources():
    index, _ = index_of(planes())
    same, warnings = set_pixel_size(index, 0)
    assert same is index
    assert warnings.empty
    changed, warnings = set_pixel_size(index, 0.65)
    assert set(changed["pixel_size_um"]) == {0.65}
    reason = "the source says 0.5 µm a pixel, ingest.plate.pixel_size_um 0.65; the latter counts"
    assert warnings.to_dict("records") == [{"reason": reason, "count": 4}]
    assert geometry(changed).pixel_size_um == 0.65
    unknown = index.assign(pixel_size_um=np.nan)
    assert np.isnan(geometry(unknown).pixel_size_um)
    filled, warnings = set_pixel_size(unknown, 0.65)
    assert (geometry(filled).pixel_size_um, len(warnings)) == (0.65, 0)
    assert set_pixel_size(index, 0.502)[1].empty


def test_what_the_source_told_is_gathered_by_channel_and_field():
    known = {"channel_name": ["DAPI", "", "FITC", "DAPI"], "emission_nm": [461, np.nan, 520, 461]}
    found = planes(wells=("A01", "A02"), channels=("w1", "w2")).iloc[[0, 1, 3, 2]]
    found = found.assign(**known, excitation_nm=np.nan, exposure_ms=[10, 30, 50, 20])
    found = found.assign(
        position_x_um=[1.0, 3, np.nan, np.nan], position_y_um=[0.0, 0, np.nan, np.nan], position_z_um=np.nan
    )
    index, _ = index_of(found)
    assert told_of_channels(index) == [
        {"channel_name": "DAPI", "emission_nm": 461.0, "exposure_ms": 15.0},
        {"channel_name": "FITC", "emission_nm": 520.0, "exposure_ms": 40.0},
    ]
    positions = stage_positions(index)
    assert list(positions) == [("A01", 1)]
    np.testing.assert_array_equal(positions["A01", 1], [2, 0, np.nan])
    bare, _ = index_of(planes())
    assert told_of_channels(bare) == [{}, {}]
    assert stage_positions(bare) == {}


def test_a_field_was_taken_when_its_first_plane_was():
    found = planes(wells=("A01",), zs=(0, 1))
    assert acquired(found) == ""
    assert acquired(found.assign(acquired="")) == ""
    assert (
        acquired(found.assign(acquired=["2024-05-01T10:00:01", "", np.nan, "2024-05-01T09:59:59"]))
        == "2024-05-01T09:59:59"
    )


# --- geometry


def test_most_planes_decide():
    found = planes(wells=("A01", "A02", "A03"))
    found.loc[[0, 1], ["height", "dtype", "pixel_size_um"]] = [9, "uint8", np.nan]
    found.loc[5, ["status", "height", "full_scale"]] = ["unreadable", 0, 1e9]
    index, _ = index_of(found)
    assert geometry(index) == GEOMETRY


def test_unknown_pixel_size_and_several_times():
    shared = geometry(index_of(planes(times=(2, 5, 9), pixel_size_um=np.nan))[0])
    assert np.isnan(shared.pixel_size_um)
    assert shared.times == 3


def test_a_channel_that_nobody_can_read_stays_a_channel():
    found = planes()
    found.loc[found["channel"] == "w1", ["status", "reason", "height"]] = ["unreadable", "cut off", 0]
    index, _ = index_of(found)
    shared = geometry(index)
    assert shared.channels == ["DNA", "GFP"]
    with pytest.raises(ImageError, match="cut off"):
        build_field(index[index["Metadata_Well"] == "A01"], shared, read_number, projection="max")


def test_a_plate_that_nobody_can_read_is_refused():
    index, _ = index_of(planes(status="unreadable", reason="cut off"))
    with pytest.raises(
        SourceError, match=r"plate P1: none of its 4 image planes can be read; the first: A01_w1_0_0.tif: cut"
    ):
        geometry(index)
    with pytest.raises(
        SourceError, match=r"plate \?: none of its 0 image planes can be read; the first: no plane at all"
    ):
        geometry(index.iloc[:0])


def test_facts_are_columns_of_the_field_table():
    assert facts(GEOMETRY)["channels"] == "DNA|GFP"
    assert set(facts(GEOMETRY)) <= set(no_fields().columns)
    assert no_fields().empty
    assert set(FIELD) < set(no_fields().columns)


# --- fields


def read_number(path, page):
    """A plane whose value tells channel and z."""
    _, channel, _, z = path.removesuffix(".tif").split("_")
    return np.full((4, 5), 10 * int(channel[1:]) + int(z), np.uint16)


def of_well(well="A01", **options):
    index, _ = index_of(planes(**options))
    return index[index["Metadata_Well"] == well]


@pytest.mark.parametrize(("projection", "z"), [("max", 3), ("mean", 2), ("middle", 2)])
def test_a_field_has_the_plates_channels_in_order(projection, z):
    pixels = build_field(of_well(zs=(3, 0, 2, 1)), GEOMETRY, read_number, projection=projection)
    assert pixels.shape == (2, 4, 5)
    assert pixels.dtype == np.uint16
    assert pixels[:, 0, 0].tolist() == [10 + z, 20 + z]


def test_a_field_without_a_channel_is_refused():
    own = of_well()
    with pytest.raises(ImageError, match="channel GFP has no image"):
        build_field(own[own["Metadata_Channel"] == "DNA"], GEOMETRY, read_number, projection="max")


def test_a_field_with_an_unreadable_plane_is_refused_with_its_reason():
    own = of_well(zs=(0, 1))
    own.loc[own.index[-1], ["status", "reason"]] = ["unreadable", "x.tif ends after 3 bytes"]
    with pytest.raises(ImageError, match=r"x.tif ends after 3 bytes"):
        build_field(own, GEOMETRY, read_number, projection="max")


@pytest.mark.parametrize("plane", [np.zeros((5, 4), np.uint16), np.zeros((4, 5), np.uint8)])
def test_a_plane_unlike_the_plate_is_refused(plane):
    text = r"A01_w1_0_0.tif has shape \(\d, \d\) and dtype uint\d+; the plate has \(4, 5\) and uint16"
    with pytest.raises(ImageError, match=text):
        build_field(of_well(), GEOMETRY, lambda path, page: plane, projection="max")


def test_an_error_while_reading_reaches_the_caller():
    def fail(path, page):
        msg = f"{path} is cut off"
        raise ImageError(msg)

    with pytest.raises(ImageError, match=r"A01_w1_0_0.tif is cut off"):
        build_field(of_well(), GEOMETRY, fail, projection="max")


def naive_projection(stack, projection):
    out = np.zeros(stack.shape[1:], stack.dtype)
    for y in range(stack.shape[1]):
        for x in range(stack.shape[2]):
            values = [value.item() for value in stack[:, y, x]]
            mean = sum(values) / len(values)
            found = {"max": max(values), "mean": mean, "middle": values[len(values) // 2]}[projection]
            out[y, x] = round(found) if stack.dtype.kind in "iu" else found
    return out


@pytest.mark.parametrize("projection", ["max", "mean", "middle"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_projection_against_a_loop(projection, dtype, depth):
    stack = (np.random.default_rng(depth).random((depth, 3, 4)) * 255).astype(dtype)
    found = project(stack, projection)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, naive_projection(stack, projection), rtol=1e-6)


# --- pyramid


@given(st.integers(1, 20000), st.integers(1, 20000))
def test_levels_are_halved_until_they_are_small(height, width):
    sizes = level_sizes(height, width)
    assert sizes[0] == (height, width)
    for (y, x), (half_y, half_x) in pairwise(sizes):
        assert max(y, x) > COARSEST
        assert (half_y, half_x) == ((y + 1) // 2, (x + 1) // 2)
    assert max(sizes[-1]) <= COARSEST


def naive_halve(image):
    channels, height, width = image.shape
    out = np.zeros((channels, (height + 1) // 2, (width + 1) // 2), image.dtype)
    for place in np.ndindex(out.shape):
        c, y, x = place
        rows, columns = (2 * y, min(2 * y + 1, height - 1)), (2 * x, min(2 * x + 1, width - 1))
        values = [image[c, row, column].item() for row in rows for column in columns]
        out[place] = (sum(values) + 2) // 4 if image.dtype.kind in "iu" else sum(values) / 4
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.uint8, np.uint16, np.int16, np.uint32, np.int32]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(1, 2), st.integers(1, 14), st.integers(1, 14)))
    )
)
def test_any_pyramid_has_its_sizes_and_means(image):
    import plateline.ingest

    before = plateline.ingest.COARSEST
    plateline.ingest.COARSEST = 4
    try:
        sizes, levels = level_sizes(*image.shape[1:]), pyramid(image)
    finally:
        plateline.ingest.COARSEST = before
    assert [level.shape[1:] for level in levels] == sizes
    assert {level.dtype for level in levels} == {image.dtype}
    assert levels[0] is image
    for fine, coarse in pairwise(levels):
        assert np.array_equal(coarse, naive_halve(fine))


def test_a_pyramid_of_floats():
    image = np.random.default_rng(0).random((2, 601, 7)).astype(np.float32)
    levels = pyramid(image)
    assert [level.shape for level in levels] == [(2, 601, 7), (2, 301, 4)]
    np.testing.assert_allclose(levels[1], naive_halve(image), rtol=1e-6)
    assert levels[1].dtype == np.float32


def test_a_flat_image_stays_flat_and_the_largest_value_does_not_overflow():
    for dtype in (np.uint8, np.uint16, np.uint32):
        flat = np.full((1, 1025, 3), np.iinfo(dtype).max, dtype)
        assert all((level == flat[0, 0, 0]).all() for level in pyramid(flat))


def test_best_focus_is_the_sharpest_plane_whatever_its_brightness():
    sharp = np.random.default_rng(0).poisson(50, (64, 64)).astype(np.uint16)
    blurred = ndimage.gaussian_filter(sharp.astype(float), 2)
    stack = np.stack([4 * blurred, sharp, 2 * blurred, sharp]).astype(np.uint16)
    np.testing.assert_array_equal(project(stack, "best-focus"), stack[1])
    np.testing.assert_array_equal(project(np.zeros((3, 8, 8), np.uint16), "best-focus"), np.zeros((8, 8)))


def test_a_projection_may_be_chosen_by_channel():
    pixels = build_field(of_well(zs=(0, 1, 2)), GEOMETRY, read_number, projection={"DNA": "middle"})
    kinds = ("max", "middle")
    whole = {how: build_field(of_well(zs=(0, 1, 2)), GEOMETRY, read_number, projection=how) for how in kinds}
    for number, channel in enumerate(GEOMETRY.channels):
        np.testing.assert_array_equal(pixels[number], whole["middle" if channel == "DNA" else "max"][number])


def test_all_planes_come_one_by_one_and_channels_with_fewer_end_in_zeros():
    found = planes(wells=("A01",), zs=(3, 1, 2)).iloc[:4]  # three planes of w1, one of w2
    index, _ = index_of(found)
    shared = geometry(index)
    assert shared.planes == 3
    pixels = {path: np.full((4, 5), number + 1, np.uint16) for number, path in enumerate(sorted(found["path"]))}
    stack = np.stack(list(field_planes(index, shared, lambda path, page: pixels[path])))
    assert stack.shape == (3, 2, 4, 5)
    assert stack[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert stack[:, 1, 0, 0].tolist() == [4, 0, 0]
    assert stack.dtype == np.uint16
