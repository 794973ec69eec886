"""The table of a field: names, switches, bad input, what is counted, and what is told of it."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from measured import as_all, measure, random_field, with_settings
from pycytominer.cyto_utils import infer_cp_features

from plateline import measure as door
from plateline.errors import LabelError
from plateline.measure import FAMILIES, feature_names, measure_field

CHANNELS = ["DNA", "ER", "Mito"]


@pytest.fixture(scope="module")
def field():
    """Three channels in counts of 12 bits, and cells of the size of cells."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :130]
    cells, nuclei = np.zeros((120, 130), np.int32), np.zeros((120, 130), np.int32)
    for number, (centre_y, centre_x) in enumerate([(20, 20), (20, 60), (60, 60), (90, 100), (100, 30)], start=1):
        away = np.hypot((y - centre_y) * rng.uniform(0.8, 1.2), x - centre_x)
        cells[away < 17], nuclei[away < 8] = 3 * number, 3 * number
    image = rng.poisson(400 + 900 * (nuclei > 0) + 50 * np.sin(x / 5), (3, 120, 130)).astype(np.uint16)
    return image, {"nuclei": nuclei, "cells": cells, "cytoplasm": np.where(nuclei > 0, 0, cells).astype(np.int32)}


def table_of(field, channels=CHANNELS, full_scale=4095, **changed):
    return measure(*field, channels, [full_scale] * len(channels), **changed)


# names


def test_five_channels_have_a_thousand_names_that_pycytominer_takes_for_features(field):
    channels = [*CHANNELS, "RNA", "AGP"]
    names = feature_names(channels, with_settings())
    assert len(names) == len(set(names)) > 1000
    table = measure(np.concatenate([field[0], field[0][:2]]), field[1], channels, [4095] * 5)
    assert set(infer_cp_features(table)) == set(names)


def test_no_feature_is_constant_by_construction():
    rng = np.random.default_rng(1)
    labels = np.kron(np.arange(1, 26).reshape(5, 5), np.ones((21, 21), int)).astype(np.int32)
    labels[(rng.random(labels.shape) < 0.03) | (rng.random((5, 5)) < 0.4).repeat(21, 0).repeat(21, 1)] = 0
    labels[:3] = labels[:, :2] = 0
    image = rng.random((2, 105, 105)) ** rng.uniform(0.3, 3, (2, 1, 105)) * (labels + 9) / 40
    table = measure(image, as_all(labels), ["DNA", "ER"])
    features = table[feature_names(["DNA", "ER"], with_settings())]
    features = features[[name for name in features if "Log2Ratio" not in name and "EulerNumber" not in name]]
    # On this field every granule is small, and the last steps find none.
    constant = [name for name in features if features[name].nunique() < 2 and "Granularity" not in name]
    assert constant == []


def test_reading_the_names_imports_no_compiler():
    code = "import sys, plateline.check, plateline.measure; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# switches


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_switched_off_changes_no_other_column(field, family):
    full = table_of(field)
    table = table_of(field, families=[name for name in FAMILIES if name != family])
    gone = set(full) - set(table)
    assert {name.split("_")[1] for name in gone} == {family}
    pd.testing.assert_frame_equal(table, full[table.columns])


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_switched_off_changes_no_other_column(field, channel):
    full, table = table_of(field), table_of(field, skip_channels=[channel])
    assert all(channel in name for name in set(full) - set(table))
    assert not any(channel in name for name in table)
    pd.testing.assert_frame_equal(table, full[table.columns])


def test_all_channels_switched_off_leave_shapes_and_neighbours(field):
    table = table_of(field, skip_channels=CHANNELS)
    families = {name.split("_")[1] for name in table if not name.startswith("Metadata_")}
    assert families == {"AreaShape", "Neighbors", "Location"}
    assert len(table) == 5


def test_costes_and_directions_switched_off_change_no_other_column(field):
    full = table_of(field)
    table = table_of(field, costes=False, texture_directions=[2])
    assert len(table.columns) < len(full.columns)
    pd.testing.assert_frame_equal(table, full[table.columns])


# bad input


def test_floats_and_counts_of_one_full_scale_give_equal_numbers(field):
    image, labels = field
    counted = table_of(field)
    for kind in (np.float32, np.float64, np.int32):
        pd.testing.assert_frame_equal(table_of((image.astype(kind), labels)), counted)
    shares = image.astype(np.float32) / np.float32(4095)
    table = measure(shares, labels, CHANNELS, families=["Intensity", "Texture"])
    pd.testing.assert_frame_equal(table, counted[table.columns])


def test_arrays_that_are_not_contiguous_give_equal_numbers(field):
    image, labels = field
    turned = np.asfortranarray(image)[:, :, ::-1][:, :, ::-1], {k: np.asfortranarray(v) for k, v in labels.items()}
    pd.testing.assert_frame_equal(table_of(turned), table_of(field))


@pytest.mark.parametrize("value", [0, 1000, 4095])
def test_a_constant_channel_has_defined_values_and_warns_of_nothing(field, value):
    image, labels = field
    image = np.concatenate([image[:2], np.full_like(image[:1], value)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of((image, labels))
    share = np.float64(np.float32(value) / np.float32(4095))
    for name in ("Mean", "Min", "Max", "Median", "LowerQuartile"):
        assert table[f"Cells_Intensity_{name}Intensity_Mito"].to_numpy() == pytest.approx(share)
    assert (table["Cells_Intensity_StdIntensity_Mito"] < 1e-12).all()
    assert table.filter(like="_Correlation_Correlation_DNA_Mito").isna().all(axis=None)
    assert table.filter(like="_Correlation_Costes_DNA_Mito").isna().all(axis=None)
    assert not np.isinf(table.to_numpy(float)).any()
    textures = table.filter(regex="Cells_Texture_(Contrast|Variance|Entropy)_Mito")
    assert (textures.isna() if value == 0 else textures == 0).all(axis=None)


def test_saturated_objects_have_defined_values(field):
    image, labels = field
    table = table_of((np.minimum(image * 8, 4095).astype(np.uint16), labels))
    assert (table["Nuclei_Intensity_MaxIntensity_DNA"] == 1).all()
    assert (table["Nuclei_Texture_AngularSecondMoment_DNA_3_00_256"] == 1).any()
    assert not np.isinf(table.to_numpy(float)).any()


def test_labels_that_are_not_whole_numbers_are_refused(field):
    labels = field[1] | {"cells": field[1]["cells"].astype(float)}
    with pytest.raises(LabelError, match="cells labels have dtype float64; expected whole numbers; rerun rule segment"):
        table_of((field[0], labels))


# counts and notes


def test_a_field_that_lost_a_cell_is_refused():
    door.check_counts(7, 7, where="plate P1 A01")
    with pytest.raises(LabelError, match=r"plate P1 A01: 6 cells measured, 7 nuclei segmented; .* rerun segment_part"):
        door.check_counts(6, 7, where="plate P1 A01")


def test_what_could_not_be_measured_keeps_its_row_and_is_told(field):
    image, labels = field[0].astype(np.float32), dict(field[1])
    labels["cytoplasm"] = np.where(labels["cytoplasm"] == 6, 0, labels["cytoplasm"])
    image[1, 60, 60] = np.nan
    image[2, :30, :30] = 5000
    cells, notes = measure_field(image, labels, CHANNELS, full_scale=[4095] * 3, settings=with_settings())
    assert cells["Metadata_ObjectNumber"].tolist() == [3, 6, 9, 12, 15]
    told = door.sum_notes(pd.concat([notes, notes]), "cells").set_index("reason")["count"].to_dict()
    assert told == {
        "no pixel in cytoplasm: NaN there": 2,
        "pixels of nuclei not finite in ER: NaN there": 2,
        "pixels of cells not finite in ER: NaN there": 2,
    }
    clipped = door.sum_notes(notes, "pixels").set_index("reason")["count"]
    bright = int(((labels["cells"] > 0) & (image[2] > 4095)).sum())
    assert clipped["above full scale in cells in Mito: clipped for Texture"] == bright
    assert door.sum_notes(door.no_notes(), "cells").empty


def test_a_part_without_cells_has_the_columns_of_one_with(field):
    empty = door.no_cells(CHANNELS, with_settings())
    full = table_of(field)
    assert len(empty) == 0
    assert list(empty)[: full.shape[1]] == list(full)
    assert empty.dtypes.iloc[: full.shape[1]].tolist() == full.dtypes.tolist()


def test_full_scale_is_the_channels_own_or_the_cameras():
    assert door.full_scales(CHANNELS, {"ER": 4095}, default=255) == [255, 4095, 255]


def test_parents_and_children_are_metadata():
    image, labels = random_field(5)
    table = measure(image, labels, ["DNA", "ER"], families=[])
    assert table["Metadata_Cells_Parent_Nuclei"].tolist() == table["Metadata_ObjectNumber"].tolist()
    assert (table["Metadata_Nuclei_Children_Cells_Count"] == 1).all()
    labels["cytoplasm"] = np.where(labels["cytoplasm"] == 4, 0, labels["cytoplasm"])
    table = measure(image, labels, ["DNA", "ER"], families=[]).set_index("Metadata_ObjectNumber")
    assert table["Metadata_Cytoplasm_Parent_Cells"].to_dict() == {3: 3, 4: 0, 9: 9}
    assert table["Metadata_Cells_Children_Cytoplasm_Count"].to_dict() == {3: 1, 4: 0, 9: 1}
