"""Nuclei by threshold against images whose nuclei are known by construction, and against real fields."""

import numpy as np
import pytest
from drawn import OTSU, assert_nuclei, disc, empty_fields, picture, real_field
from skimage.io import imread

from plateline import metrics
from plateline.errors import ImageError
from plateline.segment.classical import otsu


def test_discs_become_nuclei_in_raster_order():
    centers = [(20, 120), (30, 30), (80, 70)]
    labels = otsu(picture(centers)[None], **OTSU)
    assert_nuclei(labels["nuclei"], (120, 160))
    assert [labels["nuclei"][center] for center in centers] == [1, 2, 3]
    truth = disc((120, 160), 80, 70, 8)
    found = labels["nuclei"] == 3
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_touching_nuclei_are_cut_and_one_nucleus_is_not():
    labels = otsu(picture([(50, 50), (50, 64), (90, 120)])[None], **OTSU)
    assert labels["nuclei"].max() == 3
    assert labels["nuclei"][50, 50] != labels["nuclei"][50, 64]
    assert otsu(picture([(50, 50), (50, 64)])[None], **(OTSU | {"min_distance_px": 15}))["nuclei"].max() == 1


def test_small_specks_go_and_small_holes_fill():
    image = picture([(50, 50)])
    image[disc(image.shape, 50, 50, 2)] = 10
    image += 100 * disc(image.shape, 90, 120, 2)
    labels = otsu(image[None], **(OTSU | {"smooth_px": 0.0}))
    assert labels["nuclei"].max() == 1
    assert labels["nuclei"][50, 50] == 1
    assert labels["nuclei"][90, 120] == 0


def test_the_middle_of_a_ring_of_nuclei_stays_background():
    ring = [(60 + 24 * np.sin(a), 80 + 24 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 10, endpoint=False)]
    labels = otsu(picture(ring)[None], **OTSU)
    assert labels["nuclei"].max() == 10
    assert labels["nuclei"][60, 80] == 0


@pytest.mark.parametrize("snr", [3.0, 6.0])
def test_faint_nuclei_are_found(snr):
    image = picture([(30, 30), (30, 90), (80, 60), (90, 130)])
    image = (image - 10) / 100 * snr + np.random.default_rng(1).normal(0, 1, image.shape)
    assert otsu(image[None].astype(np.float32), **OTSU)["nuclei"].max() == 4


@pytest.mark.parametrize("name", empty_fields())
def test_a_field_without_nuclei_has_no_objects(name):
    empty = empty_fields()[name]
    labels = otsu(np.stack([empty, empty]).astype(np.float32), **OTSU)
    assert_nuclei(labels["nuclei"], empty.shape)
    assert not labels["nuclei"].any()


def test_an_offset_changes_next_to_nothing():
    image = real_field(1, "A01")
    plain, shifted = otsu(image, **OTSU)["nuclei"], otsu(image + 100, **OTSU)["nuclei"]
    assert np.mean((plain > 0) != (shifted > 0)) < 0.002
    assert abs(int(plain.max()) - int(shifted.max())) <= 2


def test_nuclei_of_other_microscopes_are_mostly_found(data):
    paths = sorted((data / "dsb2018_fluo" / "val" / "images").iterdir())[::4]
    shares = []
    for path in paths:
        truth = imread(path.parents[1] / "masks" / path.name)
        found = otsu(imread(path).astype(np.float32)[None], **OTSU)["nuclei"]
        shares.append(metrics.f1(metrics.match(truth, found, (0.5,)))[0])
    assert np.median(shares) > 0.75


@pytest.mark.parametrize("shape", [(64, 64), (0, 64, 64), (1, 2, 8, 8)])
def test_an_image_without_channel_axis_is_refused(shape):
    with pytest.raises(ImageError, match=r"has shape .*; expected \(channel, y, x\)"):
        otsu(np.zeros(shape, np.float32), **OTSU)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(value):
    image = picture([(30, 30)])[None].copy()
    image[0, 5, 5] = value
    with pytest.raises(ImageError, match="1 pixels are not finite"):
        otsu(image, **OTSU)
