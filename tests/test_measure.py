"""Features against loops over single cells, scikit-image's regionprops and CellProfiler's own tables."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import measure, random_field, with_settings
from scipy import ndimage as ndi
from skimage.measure import label, regionprops

from plateline.errors import ConfigError, ImageError, LabelError
from plateline.identity import is_feature
from plateline.measure import FAMILIES, PREFIXES, feature_names
from plateline.segment import segment_field
from plateline.segment.classical import otsu

FIELDS = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"
ALL = list(FAMILIES)
# Families that a loop over single cells measures here; the others are compared elsewhere.
LOOPED = ["AreaShape", "Intensity", "Location"]
CHANNELS = ["DNA", "FKHR"]
# Features that know the axes, or depend on which side of the circle a pixel's centre is rounded to.
DIRECTED = re.compile("Orientation|Moment|Inertia|Zernike")
RATIO = "Cells_Intensity_NucleiCytoplasmLog2Ratio_"


@pytest.fixture(scope="module")
def real():
    planes = [tifffile.imread(FIELDS / f"Channel{c}-12-A-12.tif")[:300, :300] for c in (2, 1)]
    image = np.stack(planes).astype(np.float32)
    method = partial(otsu, smooth_px=1.0, min_area_px=40, min_distance_px=5)
    cells = {"method": "watershed", "smooth_px": 1.0, "foreground_share": 0.25, "regularisation": 0.05, "grow_px": 12}
    return image / 255, segment_field(image, method, cells=cells, where="A01")


def cellprofiler_quantile(values, share):
    """CellProfiler 4, MeasureObjectIntensity: between the sorted values at and after share x n."""
    values = np.sort(values).astype(float)
    at = int(len(values) * share)
    weight = len(values) * share - at
    return values[at] * (1 - weight) + values[at + 1] * weight if at < len(values) - 1 else values[-1]


def naive_intensity(plane, mask):
    y, x = np.nonzero(mask)
    values = plane[mask].astype(float)
    median = cellprofiler_quantile(values, 0.5)
    mass_x, mass_y = (x * values).sum() / values.sum(), (y * values).sum() / values.sum()
    return {
        "Intensity_IntegratedIntensity": values.sum(),
        "Intensity_MeanIntensity": values.mean(),
        "Intensity_StdIntensity": values.std(),
        "Intensity_MinIntensity": values.min(),
        "Intensity_MaxIntensity": values.max(),
        "Intensity_LowerQuartileIntensity": cellprofiler_quantile(values, 0.25),
        "Intensity_MedianIntensity": median,
        "Intensity_UpperQuartileIntensity": cellprofiler_quantile(values, 0.75),
        "Intensity_MADIntensity": cellprofiler_quantile(np.abs(values - median), 0.5),
        "Intensity_MassDisplacement": np.hypot(x.mean() - mass_x, y.mean() - mass_y),
        "Location_CenterMassIntensity_X": mass_x,
        "Location_CenterMassIntensity_Y": mass_y,
    }


def naive_shape(region):
    y0, x0, y1, x1 = region.bbox
    perimeter = region.perimeter
    return {
        "Area": region.area,
        "BoundingBoxArea": region.area_bbox,
        "BoundingBoxMinimum_X": x0,
        "BoundingBoxMinimum_Y": y0,
        "BoundingBoxMaximum_X": x1,
        "BoundingBoxMaximum_Y": y1,
        "Center_X": region.centroid[1],
        "Center_Y": region.centroid[0],
        "MajorAxisLength": region.axis_major_length,
        "MinorAxisLength": region.axis_minor_length,
        "Eccentricity": region.eccentricity,
        "Orientation": np.degrees(region.orientation),
        "Extent": region.extent,
        "EquivalentDiameter": region.equivalent_diameter_area,
        "Perimeter": perimeter,
        "FormFactor": 4 * np.pi * region.area / perimeter**2 if perimeter else np.nan,
        "Compactness": perimeter**2 / (4 * np.pi * region.area),
        "ConvexArea": region.area_convex,
        "Solidity": region.solidity,
        "EulerNumber": region.euler_number,
    }


def naive_table(image, labels):
    """The whole table from one mask at a time."""
    rows = {}
    for number in np.unique(labels["nuclei"][labels["nuclei"] > 0]):
        row = rows[number] = {}
        for compartment, prefix in PREFIXES.items():
            mask = labels[compartment] == number
            if not mask.any():
                continue
            shape = naive_shape(regionprops(mask.astype(np.uint8))[0])
            row |= {f"{prefix}_AreaShape_{name}": value for name, value in shape.items()}
            for channel, plane in zip(CHANNELS, image, strict=True):
                intensity = naive_intensity(plane, mask)
                row |= {f"{prefix}_{name}_{channel}": value for name, value in intensity.items()}
        for channel in CHANNELS:
            means = [row.get(f"{part}_Intensity_MeanIntensity_{channel}", np.nan) for part in ("Nuclei", "Cytoplasm")]
            row[RATIO + channel] = np.log2(means[0] / means[1]) if min(means) > 0 else np.nan
    return pd.DataFrame.from_dict(rows, orient="index")


def assert_equals_loop(table, image, labels):
    expected = naive_table(image, labels)
    assert table["Metadata_ObjectNumber"].tolist() == expected.index.tolist()
    for name in expected:
        wanted = expected[name].to_numpy()
        found = table[name].to_numpy()
        tolerance = 1e-6
        if name.endswith("AreaShape_Orientation"):
            # Of a round object any direction is right, and so is either end of the range.
            compartment = name.split("_")[0]
            flat = table[f"{compartment}_AreaShape_Eccentricity"] > 1e-3
            found, wanted = (np.sin(2 * np.radians(angle[flat])) for angle in (found, wanted))
        elif "CenterMass" in name or "MassDisplacement" in name:
            tolerance = 1e-3  # float32 values that nearly cancel
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


# definitions


@pytest.mark.parametrize("seed", range(6))
def test_random_objects_measure_as_in_a_loop(seed):
    image, labels = random_field(seed)
    assert_equals_loop(measure(image, labels, CHANNELS, families=LOOPED), image, labels)


def test_real_cells_measure_as_in_a_loop(real):
    image, labels = real
    table = measure(image, labels, CHANNELS, families=LOOPED)
    assert len(table) > 15
    assert_equals_loop(table, image, labels)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_objects_of_few_pixels_measure_as_in_a_loop(size):
    labels = np.zeros((7, 9), np.int32)
    labels[2, 1 : 1 + size] = 5
    image = np.random.default_rng(size).random((2, 7, 9), np.float32)
    labels = {"nuclei": labels, "cells": labels, "cytoplasm": np.zeros_like(labels)}
    assert_equals_loop(measure(image, labels, CHANNELS, families=LOOPED), image, labels)


def test_a_rectangle_by_hand():
    nuclei = np.zeros((10, 12), np.int32)
    nuclei[2:5, 3:9] = 1
    image = np.zeros((1, 10, 12), np.float32)
    image[0, 2:5, 8] = 1
    labels = {"nuclei": nuclei, "cells": nuclei, "cytoplasm": np.zeros_like(nuclei)}
    row = measure(image, labels, ["DNA"], families=LOOPED).iloc[0]
    expected = {
        "AreaShape_Area": 18,
        "AreaShape_BoundingBoxMaximum_X": 9,
        "AreaShape_BoundingBoxMaximum_Y": 5,
        "AreaShape_Center_X": 5.5,
        "AreaShape_Center_Y": 3,
        "AreaShape_Perimeter": 14,
        "AreaShape_Extent": 1,
        "AreaShape_MajorAxisLength": 4 * np.sqrt(35 / 12),
        "Intensity_IntegratedIntensity_DNA": 3,
        "Intensity_MeanIntensity_DNA": 1 / 6,
        "Intensity_MedianIntensity_DNA": 0,
        "Intensity_UpperQuartileIntensity_DNA": 0,
        "Intensity_MassDisplacement_DNA": 2.5,
        "Location_CenterMassIntensity_X_DNA": 8,
        "Location_CenterMassIntensity_Y_DNA": 3,
    }
    assert {name: row[f"Nuclei_{name}"] for name in expected} == pytest.approx(expected)
    assert abs(row["Nuclei_AreaShape_Orientation"]) == pytest.approx(90)


@pytest.mark.parametrize("compartment", ["Nuclei", "Cells", "Cytoplasm"])
def test_features_hang_together_as_in_cellprofilers_own_tables(data, real, compartment):
    theirs = pd.read_csv(data / "examplehuman" / f"{compartment}.csv")
    ours = measure(*real, CHANNELS, families=LOOPED)
    ours = ours.filter(regex=f"^{compartment}_").rename(columns=lambda name: name.removeprefix(f"{compartment}_"))
    for table in (theirs, ours):
        table = table[table["AreaShape_Area"] > 1]
        area, perimeter = table["AreaShape_Area"], table["AreaShape_Perimeter"]
        high, low = (table[[f"AreaShape_BoundingBox{end}_{axis}" for axis in "XY"]] for end in ("Maximum", "Minimum"))
        axes = table["AreaShape_MinorAxisLength"] / table["AreaShape_MajorAxisLength"]
        apart = (table[f"AreaShape_Center_{axis}"] - table[f"Location_CenterMassIntensity_{axis}_DNA"] for axis in "XY")
        shift = np.hypot(*apart)
        for name, value in {
            "AreaShape_BoundingBoxArea": (high.to_numpy() - low.to_numpy()).prod(axis=1),
            "AreaShape_Extent": area / table["AreaShape_BoundingBoxArea"],
            "AreaShape_EquivalentDiameter": np.sqrt(4 * area / np.pi),
            "AreaShape_FormFactor": 4 * np.pi * area / perimeter**2,
            "AreaShape_Compactness": perimeter**2 / (4 * np.pi * area),
            "AreaShape_Eccentricity": np.sqrt(1 - axes**2),
            "Intensity_MeanIntensity_DNA": table["Intensity_IntegratedIntensity_DNA"] / area,
            "Intensity_MassDisplacement_DNA": shift,
        }.items():
            np.testing.assert_allclose(table[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_same_nuclei_measure_as_cellprofiler_measured_them(data):
    theirs = pd.read_csv(data / "examplehuman" / "Nuclei.csv")
    threshold = pd.read_csv(data / "examplehuman" / "Image.csv")["Threshold_FinalThreshold_Nuclei"][0]
    paths = [data / "examplehuman" / "images" / f"AS_09125_050116030001_D03f00d{channel}.tif" for channel in (0, 1)]
    image = (np.stack([tifffile.imread(path) for path in paths]) / 255).astype(np.float32)
    # Their threshold on their smoothing gives back the pixels of every nucleus that they did not have to split.
    mask = ndi.gaussian_filter(image[0].astype(float), 1.0, mode="constant") > threshold
    nuclei = label(ndi.binary_fill_holes(mask), connectivity=2).astype(np.int32)
    labels = {"nuclei": nuclei, "cells": nuclei, "cytoplasm": np.zeros_like(nuclei)}
    ours = measure(image, labels, ["DNA", "PH3"], families=LOOPED)
    ours = ours.filter(regex="^Nuclei_").rename(columns=lambda name: name.removeprefix("Nuclei_"))
    centers = [table[["AreaShape_Center_Y", "AreaShape_Center_X"]].to_numpy() for table in (ours, theirs)]
    apart = np.linalg.norm(centers[0] - centers[1][:, None], axis=2)
    same = apart.min(axis=1) < 1e-6
    assert same.sum() > 150
    ours = ours.iloc[apart.argmin(axis=1)[same]]
    ours = ours[[name for name in ours if name in theirs]]
    theirs = theirs.loc[same, ours.columns]
    assert len(ours.columns) > 90
    # This release of CellProfiler wrote radians where its manual, and we, say degrees, and the scikit-image below it
    # had the sign wrong at exactly 45 degrees.
    ours["AreaShape_Orientation"] = np.radians(ours["AreaShape_Orientation"])
    diagonal = (theirs["AreaShape_Orientation"].abs() - np.pi / 4).abs() < 1e-9
    theirs.loc[diagonal, "AreaShape_Orientation"] *= -1
    assert diagonal.sum() == 1
    # That release took the hull of the pixels' centres for Solidity, and any of several brightest pixels.
    shape_error = (ours["AreaShape_Solidity"] / theirs["AreaShape_Solidity"] - 1).abs()
    assert shape_error.median() < 0.05
    for name in ours.columns[~ours.columns.str.contains("Solidity|MaxIntensity_[XY]")]:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)


# invariances


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_other_numbers_give_the_same_cells(seed):
    image, labels = random_field(seed)
    swap = np.arange(10, dtype=np.int32)
    swap[[3, 4, 9]] = np.random.default_rng(seed).permutation([3, 4, 9])
    plain = measure(image, labels, CHANNELS, families=LOOPED).set_index("Metadata_ObjectNumber")
    other = measure(image, {k: swap[v] for k, v in labels.items()}, CHANNELS, families=LOOPED)
    other = other.set_index("Metadata_ObjectNumber").loc[swap[plain.index]].set_index(plain.index)
    features = [name for name in plain if is_feature(name)]
    pd.testing.assert_frame_equal(plain[features], other[features])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_transposed_field_swaps_x_and_y(seed):
    image, labels = random_field(seed)
    plain = measure(image, labels, CHANNELS, families=LOOPED)
    turned = measure(image.transpose(0, 2, 1), {k: v.T for k, v in labels.items()}, CHANNELS, families=LOOPED)
    swapped = {name: name.replace("_X", "_#").replace("_Y", "_X").replace("_#", "_Y") for name in turned}
    turned = turned.rename(columns=swapped)[plain.columns]
    keep = [name for name in plain if not DIRECTED.search(name)]
    pd.testing.assert_frame_equal(plain[keep], turned[keep], rtol=1e-6, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(down=st.integers(0, 20), right=st.integers(0, 20))
def test_a_shifted_field_changes_places_only(real, down, right):
    image, labels = (real[0][:, :150, :150], {k: v[:150, :150] for k, v in real[1].items()})
    wide = ((down, 3), (right, 5))
    plain = measure(image, labels, CHANNELS, families=LOOPED)
    moved = measure(
        np.pad(image, ((0, 0), *wide)), {k: np.pad(v, wide) for k, v in labels.items()}, CHANNELS, families=LOOPED
    )
    for name in plain.columns[~plain.columns.str.contains("Zernike|Edge")]:
        place = re.search("(?:Center|imum|CenterMassIntensity|MaxIntensity)_([XY])", name)
        np.testing.assert_allclose(
            moved[name] - ({"X": right, "Y": down}[place[1]] if place else 0), plain[name], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("factor", [0.25, 8.0])
def test_brightness_scales_intensities_only(real, factor):
    image, labels = real
    plain = measure(image, labels, CHANNELS, families=LOOPED)
    other = measure(image * np.float32(factor), labels, CHANNELS, families=LOOPED)
    for name in plain:
        scales = "_Intensity_" in name and "MassDisplacement" not in name and not name.startswith(RATIO)
        np.testing.assert_allclose(other[name], plain[name] * (factor if scales else 1), rtol=1e-9, err_msg=name)


def test_the_order_of_channels_and_families_changes_no_number(real):
    image, labels = real
    # The second channel of a pair is regressed on the first, so that pairs have the order of the channels.
    families = [family for family in ALL if family != "Correlation"]
    plain = measure(image, labels, CHANNELS, families=families)
    other = measure(image[::-1], labels, CHANNELS[::-1], families=families[::-1])
    pd.testing.assert_frame_equal(plain, other[plain.columns])


# columns, gaps, empty and missing


@pytest.mark.parametrize("families", [[], ["AreaShape"], ["Intensity"], ["Location"], ALL, ALL[::-1]])
def test_columns_are_the_feature_names(families):
    image, labels = random_field(0)
    table = measure(image, labels, CHANNELS, families=families)
    names = feature_names(CHANNELS, with_settings(families=families))
    assert [name for name in table if is_feature(name)] == names
    assert table.columns[0] == "Metadata_ObjectNumber"
    assert len(set(names)) == len(names)
    assert all(is_feature(name) and name.split("_")[0] in PREFIXES.values() for name in names)
    assert (RATIO + "FKHR" in names) == ("Intensity" in families)


def test_an_empty_field_has_the_full_schema():
    image, labels = random_field(0)
    full = measure(image, labels, CHANNELS)
    empty = measure(image, {k: np.zeros_like(v) for k, v in labels.items()}, CHANNELS)
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)


def test_gaps_keep_their_numbers_and_cells_without_nucleus_are_not_measured():
    image, labels = random_field(1)
    labels["nuclei"] = np.where(labels["nuclei"] == 4, 0, labels["nuclei"])
    table = measure(image, labels, CHANNELS, families=LOOPED)
    assert table["Metadata_ObjectNumber"].tolist() == [3, 9]
    assert_equals_loop(table, image, labels)


def test_a_cell_without_cytoplasm_has_nan_there_and_no_ratio():
    image, labels = random_field(2)
    labels["cytoplasm"] = np.where(labels["cytoplasm"] == 4, 0, labels["cytoplasm"])
    table = measure(image, labels, CHANNELS, families=LOOPED).set_index("Metadata_ObjectNumber")
    missing = table.columns[table.columns.str.match("Cytoplasm_|Cells_Intensity_NucleiCyt")]
    assert table.loc[4, missing].isna().all()
    assert table.loc[4].drop(missing).notna().all()
    assert table.loc[[3, 9], missing.drop([RATIO + c for c in CHANNELS])].notna().all(axis=None)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_costs_its_object_and_channel_only(value):
    image, labels = random_field(3)
    # All but Granularity, which erodes the whole field.
    families = [family for family in ALL if family != "Granularity"]
    plain = measure(image, labels, CHANNELS, families=families).set_index("Metadata_ObjectNumber")
    place = tuple(np.argwhere(labels["nuclei"] == 9)[0])
    image[(1, *place)] = value
    table = measure(image, labels, CHANNELS, families=families).set_index("Metadata_ObjectNumber")
    lost = table.columns[table.columns.str.match("(Nuclei|Cells)_.*_FKHR")]
    assert table.loc[9, lost].isna().all()
    pd.testing.assert_series_equal(table.loc[9].drop(lost), plain.loc[9].drop(lost))
    pd.testing.assert_frame_equal(table.drop(index=9), plain.drop(index=9))


def test_a_dark_object_has_no_centre_of_mass_and_no_ratio():
    image, labels = random_field(4)
    table = measure(np.zeros_like(image), labels, CHANNELS, families=LOOPED)
    undefined = table.columns[table.columns.str.contains("CenterMass|MassDisplacement|Log2Ratio")]
    assert table[undefined].isna().all(axis=None)
    assert (table.filter(like="_IntegratedIntensity_") == 0).all(axis=None)
    assert table.drop(columns=undefined).notna().all(axis=None)


def test_the_ratio_needs_light_on_both_sides():
    nuclei = np.int32([[1, 2, 3, 4]])
    labels = {"nuclei": np.vstack([nuclei, 0 * nuclei]), "cells": np.vstack([nuclei] * 2)}
    labels["cytoplasm"] = labels["cells"] - labels["nuclei"]
    image = np.float32([[[0.4, -0.1, 0.4, 0.0], [0.1, 0.1, -0.1, 0.1]]])
    table = measure(image, labels, ["FKHR"], families=["Intensity"])
    np.testing.assert_allclose(table[RATIO + "FKHR"], [2, np.nan, np.nan, np.nan], rtol=1e-6)


# refusals


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="unknown family 'Shape'; expected some of AreaShape, Intensity, Texture"):
        measure(*random_field(0), CHANNELS, families=["AreaShape", "Shape"])


@pytest.mark.parametrize("channels", [["DNA"], ["DNA", "DNA"], ["DNA", "FKHR", "ER"]])
def test_an_image_without_one_plane_per_name_is_refused(channels):
    with pytest.raises(ImageError, match=r"has shape \(2, 24, 31\) for channels .*; expected one"):
        measure(*random_field(0), channels, families=LOOPED)


@pytest.mark.parametrize("compartment", list(PREFIXES))
def test_labels_of_another_shape_are_refused(compartment):
    image, labels = random_field(0)
    labels[compartment] = labels[compartment][1:]
    message = rf"{compartment} labels do not fit .* shape \(23, 31\); expected \(24, 31\); rerun rule segment_part"
    with pytest.raises(LabelError, match=message):
        measure(image, labels, CHANNELS, families=LOOPED)


def test_a_missing_compartment_is_refused():
    image, labels = random_field(0)
    del labels["cytoplasm"]
    with pytest.raises(LabelError, match=r"cytoplasm labels do not fit .* shape missing"):
        measure(image, labels, CHANNELS, families=LOOPED)
