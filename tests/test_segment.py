"""What a segmenter must return, the table of objects, and one field through a method."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from drawn import CELLS, OTSU, assert_cells, empty_fields, picture, real_field

from plateline import config, methods, segment
from plateline.errors import ConfigError, ImageError, LabelError, ModelError
from plateline.identity import COMPARTMENTS, NO_FIELD
from plateline.segment import check_labels, field, in_pixels, object_table, segment_field
from plateline.segment.classical import otsu
from plateline.segment.labels import number_objects

ROOT = Path(__file__).parents[1]

# object_table


def naive_objects(labels):
    rows = []
    sure = labels.get("confidence", np.full(labels["nuclei"].shape, np.nan))
    for compartment in COMPARTMENTS:
        image = labels[compartment]
        for number in np.unique(image[image > 0]):
            y, x = np.nonzero(image == number)
            box = (y.min(), x.min(), y.max() + 1, x.max() + 1)
            border = y.min() == 0 or x.min() == 0 or y.max() + 1 == image.shape[0] or x.max() + 1 == image.shape[1]
            parent = 0 if compartment == "nuclei" else number
            confidence = sure[y, x].astype(float).mean() if compartment == "nuclei" else np.nan
            rows.append((number, compartment, parent, y.mean(), x.mean(), *box, y.size, border, confidence))
    rows.sort(key=lambda row: (row[0], COMPARTMENTS.index(row[1])))
    return rows


@pytest.fixture(scope="module", params=[(1, "A01"), (12, "A12")], ids=["negative", "positive"])
def real(request):
    image = real_field(*request.param)
    return image, segment_field(image, partial(otsu, **OTSU), cells=CELLS, where="a real field")


@pytest.mark.parametrize("seed", range(5))
def test_object_table_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    labels = {name: np.int32([0, 2, 5, 9])[rng.integers(0, 4, (13, 17))] for name in COMPARTMENTS}
    if seed % 2:
        labels["confidence"] = rng.random((13, 17), np.float32)
    table = object_table(labels)
    expected = pd.DataFrame(naive_objects(labels), columns=table.columns).astype(table.dtypes)
    pd.testing.assert_frame_equal(table, expected)


@pytest.mark.parametrize("background", [0, 7])
def test_object_table_takes_the_largest_numbers(background):
    labels = {name: np.full((5, 6), background, np.int32) for name in COMPARTMENTS}
    for image in labels.values():
        image[1:3, 2:4] = np.iinfo(np.int32).max
    table = object_table(labels)
    expected = pd.DataFrame(naive_objects(labels), columns=table.columns).astype(table.dtypes)
    pd.testing.assert_frame_equal(table, expected)


def test_object_table_of_a_real_field_is_that_of_a_loop(real):
    table = object_table(real[1])
    expected = pd.DataFrame(naive_objects(real[1]), columns=table.columns).astype(table.dtypes)
    pd.testing.assert_frame_equal(table, expected)


def test_object_table_without_objects_has_the_full_schema():
    full = object_table({name: np.ones((3, 3), np.int32) for name in COMPARTMENTS})
    empty = object_table({name: np.zeros((3, 3), np.int32) for name in COMPARTMENTS})
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)


def test_an_object_touches_the_border_on_any_side():
    nuclei = np.zeros((9, 9), np.int32)
    nuclei[0, 4], nuclei[4, 0], nuclei[8, 4], nuclei[4, 8], nuclei[4, 4] = 1, 2, 3, 4, 5
    table = object_table({name: nuclei for name in COMPARTMENTS})
    assert table.groupby("Metadata_ObjectNumber")["touches_border"].first().tolist() == [True] * 4 + [False]


# check_labels


def good():
    nuclei = np.zeros((4, 5), np.int32)
    nuclei[1, 1], nuclei[2, 3] = 1, 7
    cells = nuclei.copy()
    cells[1, 2] = 1
    return {"nuclei": nuclei, "cells": cells, "cytoplasm": np.where(nuclei > 0, 0, cells)}


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.uint16])
def test_good_labels_come_back_as_int32(dtype):
    labels = {name: image.astype(dtype) for name, image in good().items()} | {"spots": np.zeros(3)}
    checked = check_labels(labels, (4, 5), where="otsu, plate P1 well B03")
    assert list(checked) == list(COMPARTMENTS)
    for name, image in good().items():
        assert checked[name].dtype == np.int32
        np.testing.assert_array_equal(checked[name], image)


@pytest.mark.parametrize("given", [["nuclei"], ["nuclei", "cells"], ["nuclei", "confidence"]])
def test_nuclei_are_enough(given):
    labels = good() | {"confidence": np.full((4, 5), 0.5)}
    checked = check_labels({name: labels[name] for name in given}, (4, 5), where="otsu, plate P1 well B03")
    assert list(checked) == given
    assert checked["nuclei"].dtype == np.int32
    assert "confidence" not in given or checked["confidence"].dtype == np.float32


def bad():
    one = good()["nuclei"]
    return {
        "missing": ({"nuclei": None}, r"lack 'nuclei'; got \['cells', 'cytoplasm'\]; expected at least nuclei"),
        "cytoplasm alone": ({"cells": None}, r"lack 'cells'; got \['cytoplasm', 'nuclei'\]"),
        "confidence of another shape": (
            {"confidence": np.ones((5, 4))},
            r"confidence of .* has shape \(5, 4\); .* \(4, 5\)",
        ),
        "confidence too large": ({"confidence": np.full((4, 5), 1.5)}, "has values from 1.5 to 1.5; expected 0 to 1"),
        "confidence missing": ({"confidence": np.full((4, 5), np.nan)}, "confidence of .* has values from nan to nan"),
        "shape": ({"cells": one.T}, r"cells labels of .* have shape \(5, 4\); expected \(4, 5\)"),
        "dtype": ({"nuclei": one.astype(float)}, "nuclei labels of .* have dtype float64; expected an integer"),
        "bool": ({"nuclei": one > 0}, "have dtype bool; expected an integer"),
        "negative": ({"nuclei": -one}, "have numbers from -7 to 0; expected 0 to 2147483647"),
        "too large": ({"cells": one.astype(np.int64) << 32}, "have numbers from 0 to 30064771072"),
        "no cell": ({"cells": np.where(one == 7, 0, one)}, "have 1 nuclei without a cell, the first is number 7"),
        "no nucleus": ({"nuclei": np.where(one == 1, 0, one)}, "have 1 cells without a nucleus, .* number 1"),
        "alone": ({"cytoplasm": np.where(one == 1, 3, 0)}, "have 1 cytoplasm without a cell, .* number 3"),
    }


@pytest.mark.parametrize("name", bad())
def test_labels_that_break_the_contract_are_refused(name):
    change, message = bad()[name]
    labels = {key: image for key, image in (good() | change).items() if image is not None}
    with pytest.raises(LabelError, match=message) as caught:
        check_labels(labels, (4, 5), where="otsu, plate P1 well B03")
    assert "plate P1 well B03" in str(caught.value)


# one field


def test_a_field_is_that_of_the_method_and_of_complete():
    image = np.stack([picture([(30, 30), (80, 120)]), picture([(30, 30), (80, 120)], radius=14)])
    method = partial(otsu, **OTSU)
    labels = segment_field(image, method, cells=CELLS, where="plate P1 well B03")
    assert_cells(labels, image.shape[1:])
    np.testing.assert_array_equal(labels["nuclei"], method(image)["nuclei"])
    again = segment.complete(method(image), image, **CELLS)
    assert all(np.array_equal(again[name], labels[name]) for name in COMPARTMENTS)


def test_the_confidence_of_a_method_reaches_the_table():
    def method(image):
        nuclei = otsu(image, **OTSU)["nuclei"]
        return {"nuclei": nuclei, "confidence": np.where(nuclei == 1, 0.9, 0.4)}

    labels = segment_field(picture([(30, 30), (80, 120)])[None], method, cells=CELLS, where="plate P1 well B03")
    table = object_table(labels).set_index("compartment")
    np.testing.assert_allclose(table.loc["nuclei", "confidence"], [0.9, 0.4], rtol=1e-6)
    assert table.drop("nuclei")["confidence"].isna().all()


def test_a_method_that_breaks_its_contract_is_named():
    with pytest.raises(LabelError, match="labels of plate P1 well B03 lack 'nuclei'"):
        segment_field(picture([])[None], lambda image: {}, cells=CELLS, where="plate P1 well B03")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_field_with_pixels_that_are_not_finite_is_excluded_with_its_reason(value):
    image = picture([(30, 30)])[None].copy()
    assert segment.status(image) == {"status": "ok", "reason": ""}
    image[0, 5, 5] = value
    assert segment.status(image) == {"status": "excluded", "reason": "1 pixels are not finite after correction"}
    with pytest.raises(ImageError, match="image to segment: 1 pixels are not finite after correction; expected none"):
        segment_field(image, partial(otsu, **OTSU), cells=CELLS, where="plate P1 well B03")


def test_a_part_without_wells_has_tables_with_all_columns():
    assert list(segment.no_fields()) == [*NO_FIELD, "checksum", "status", "reason", "n_nuclei", "disagreement"]
    assert set(NO_FIELD) < set(segment.no_objects())
    assert len(segment.no_objects()) == len(segment.no_fields()) == 0


@pytest.mark.parametrize("seed", range(4))
def test_objects_are_numbered_in_the_order_of_their_first_pixels(seed):
    labels = np.random.default_rng(seed).choice(np.int32([0, 0, 3, 7, 2_000_000_000]), (9, 11))
    numbers = number_objects(labels)
    expected = {0: 0}
    for value in labels.ravel():
        expected.setdefault(int(value), len(expected))
    assert [expected[int(value)] for value in labels.ravel()] == numbers.ravel().tolist()
    assert numbers.dtype == np.int32
    assert segment.count(labels) == len(expected) - 1
    assert not number_objects(np.zeros((3, 3), np.int32)).any()


# every method


SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())["properties"]["segment"]
DEFAULTS = config.fill_defaults({}, SCHEMA)
# Those of other packages run with stand-ins in test_segment_plugins.py, networks in the tests of their models.
NAMES = [name for name, path in methods.SEGMENTERS.items() if "plugins" not in path and "model" not in DEFAULTS[name]]


def segment_by(name, image):
    """Labels of a field by a method with the options it has by default."""
    options = in_pixels(DEFAULTS[name], float("nan"), where="a test")
    return segment_field(image, partial(methods.load("segment", name), **options), cells=CELLS, where=name)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_keeps_the_contract_on_a_real_field(name):
    image = real_field(1, "A01")
    before = image.copy()
    labels = segment_by(name, image)
    assert_cells(labels, image.shape[1:])
    assert 200 < segment.count(labels["nuclei"]) < 400
    np.testing.assert_array_equal(image, before)
    again = segment_by(name, before)
    assert all(np.array_equal(labels[compartment], again[compartment]) for compartment in COMPARTMENTS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zero", "constant", "noise", "gradient"])
def test_every_method_finds_nothing_in_a_blank_field(name, kind):
    blank = np.stack([empty_fields()[kind]] * 2).astype(np.float32)
    labels = segment_by(name, blank)
    assert not any(labels[compartment].any() for compartment in COMPARTMENTS)
    assert len(object_table(labels)) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (17, 23)])
def test_every_method_takes_a_field_smaller_than_a_tile(name, shape):
    image = np.random.default_rng(0).integers(0, 200, (2, *shape)).astype(np.float32)
    assert_cells(segment_by(name, image), shape)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_one_giant_object(name):
    image = np.zeros((2, 200, 220), np.float32)
    image[:, 8:-8, 8:-8] = 100
    labels = segment_by(name, image)
    assert_cells(labels, (200, 220))
    assert segment.count(labels["nuclei"]) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_method_refuses_pixels_that_are_not_finite(name):
    image = picture([(30, 30)])[None].copy()
    image[0, 3, 3] = np.nan
    with pytest.raises(ImageError, match="1 pixels are not finite"):
        methods.load("segment", name)(image, **in_pixels(DEFAULTS[name], 1.0, where="a test"))


# an ensemble


def test_the_nuclei_of_an_ensemble_are_compared_with_those_of_the_method():
    image = picture([(20, 20), (20, 60), (60, 20)])[None]
    nuclei = segment_field(image, partial(otsu, **OTSU), cells=CELLS, where="a test")["nuclei"]
    one_less = np.where(nuclei == 1, 0, nuclei)
    members = {"same": lambda _: {"nuclei": 7 * nuclei}, "less": lambda _: {"nuclei": one_less}}
    assert math.isnan(segment.compare_nuclei(image, nuclei, {}, where="a test"))
    assert segment.compare_nuclei(image, nuclei, {"same": members["same"]}, where="a test") == 0
    # Of 3 and 2 nuclei one has no partner: 1 of 5, in two of three pairs.
    assert segment.compare_nuclei(image, nuclei, members, where="a test") == pytest.approx(2 / 15)


def test_a_member_that_breaks_the_contract_is_named():
    image = picture([(30, 30)])[None]
    broken = {"lab:net": lambda _: {"nuclei": np.zeros((2, 2), int)}}
    with pytest.raises(LabelError, match=r"nuclei labels of lab:net, plate P1 have shape \(2, 2\); expected"):
        segment.compare_nuclei(image, np.zeros(image.shape[1:], np.int32), broken, where="plate P1")


# lengths


def test_lengths_in_micrometres_become_pixels():
    options = {"diameter_um": 13.0, "grow_um": 0, "seed": 3, "model": "a.safetensors"}
    expected = {"diameter_px": 20.0, "grow_px": 0, "seed": 3, "model": "a.safetensors"}
    assert in_pixels(options, 0.65, where="plate P1") == expected


@pytest.mark.parametrize("size", [float("nan"), 0.0, -1.0, float("inf")])
def test_without_a_pixel_size_only_a_length_of_zero_is_taken(size):
    assert in_pixels({"diameter_um": 0}, size, where="plate P1") == {"diameter_px": 0}
    with pytest.raises(ConfigError, match=r"diameter_um is 12, but plate P1 has no .*set ingest.plate.pixel_size_um"):
        in_pixels({"diameter_um": 12}, size, where="plate P1")


# tiles


def test_tiles_are_passed_on_to_a_method_that_knows_them():
    assert field.with_tiles(otsu, OTSU, 0) == OTSU
    assert field.with_tiles(otsu, OTSU, 512) == OTSU | {"tile_px": 512}


def test_tiles_for_a_method_that_knows_none_are_refused():
    def whole(image):
        return {}

    assert field.with_tiles(whole, {}, 0) == {}
    with pytest.raises(ConfigError, match=r"segment.tile_px is 512, but whole works on whole fields; expected 0"):
        field.with_tiles(whole, {}, 512)


def test_a_model_of_another_modality_is_refused():
    section = {"options": {"threshold": 0.5}, "tile_px": 0, "modality": "brightfield"}
    model = {"card": {"modalities": ["fluorescence", "phase"]}}
    with pytest.raises(
        ModelError, match=r"segment\.modality is brightfield, but the model of otsu was trained on fluor"
    ):
        segment.options_of(otsu, section, model)
    assert segment.options_of(otsu, section | {"modality": "phase"}, model) == {"threshold": 0.5, "model": model}
    assert segment.options_of(otsu, section, None) == {"threshold": 0.5}
