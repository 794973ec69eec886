"""From an image of any size and magnification through a network and back."""

from functools import partial

import numpy as np
import pytest
import torch
from drawn import empty_fields, picture, real_field

from plateline import config, metrics, store
from plateline.errors import ModelError
from plateline.methods import SEGMENTERS, load
from plateline.models import flow
from plateline.models.fit import TARGETS
from plateline.models.keep import kept
from plateline.models.light import CURVES, curves, unit
from plateline.models.predict import (
    _cuts,
    find,
    look_for_size,
    maps_at,
    prepare,
    scale_factor,
    usual_diameter,
)
from plateline.models.unet import UNet, fold_norms, from_arrays, to_arrays

NETWORKS = [name for name, path in SEGMENTERS.items() if path.startswith("plateline.models.")]
OPTIONS = {"diameter_px": 0, "mirrors": 0, "min_share": 0.15}


def shipped(method):
    return store.read_model(str(config.SHIPPED / f"{method}.safetensors"))


def segmenter(method, **changed):
    given = {"model": shipped(method)} | OPTIONS | TARGETS[method].options | changed
    return partial(load("segment", method), **given)


def trained(method="flow", seed=0):
    """A network that never learnt anything, but whose maps depend on every pixel."""
    torch.manual_seed(seed)
    target = TARGETS[method]
    arrays = to_arrays(UNet(CURVES, target.outputs, step=target.step))
    return prepare(arrays, target, diameter_px=20.0, device=torch.device("cpu"))


# --- the network


def test_weights_come_back_and_folding_changes_no_map():
    torch.manual_seed(1)
    network = UNet(CURVES, 3)
    for _ in range(3):
        network(torch.rand(2, CURVES, 32, 48))  # statistics that are not those of the start
    network.eval()
    image = torch.rand(1, CURVES, 32, 48)
    with torch.inference_mode():
        before = network(image)
        again = from_arrays(to_arrays(network), channels=CURVES, maps=3, step=1)
        torch.testing.assert_close(again(image), before)
        torch.testing.assert_close(fold_norms(again)(image), before, atol=1e-4, rtol=1e-4)
    assert before.shape == (1, 3, 32, 48)
    assert UNet(CURVES, 5, step=2)(image).shape == (1, 5, 16, 24)


def test_a_network_refuses_weights_of_another_one():
    arrays = to_arrays(UNet(CURVES, 3))
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.weight"):
        from_arrays(arrays, channels=CURVES, maps=2, step=1)


def test_light_is_scaled_to_percentiles_and_seen_on_two_curves():
    image = np.random.default_rng(0).gamma(2, 100, (80, 90))
    scaled = unit(image)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(np.percentile(scaled, [1, 99.8]), [0, 1], atol=1e-5)
    np.testing.assert_allclose(unit(3 * image + 7), scaled, atol=1e-5)
    assert not unit(np.full((9, 9), 5)).any()
    seen = curves(torch.tensor([[[-3.0, 0.25, 9.0]]]))
    assert seen.tolist() == [[[[-1.0, 0.25, 4.0]], [[0.0, 0.5, 2.0]]]]


# --- scale, tiles, mirrors


@pytest.mark.parametrize(("size", "factor"), [(20, 1), (22, 1), (40, 0.5), (10, 2), (1, 4), (2000, 0.05)])
def test_images_are_rescaled_where_that_matters(size, factor):
    assert scale_factor(20.0, size) == pytest.approx(factor)


@pytest.mark.parametrize("method", ["flow", "stardist"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 70), (33, 47), (64, 64)])
def test_maps_have_the_size_of_any_image(method, shape):
    ready = trained(method)
    maps = maps_at(np.random.default_rng(0).random(shape, np.float32), ready, 1.0, 0)
    step = ready.target.step
    assert maps.shape == (ready.target.maps, -(-shape[0] // step), -(-shape[1] // step))
    assert np.isfinite(maps).all()


def test_tiles_give_the_maps_of_the_whole(monkeypatch):
    ready, image = trained(), np.random.default_rng(2).random((300, 420), np.float32)
    whole = maps_at(image, ready, 1.0, 0)
    monkeypatch.setattr("plateline.models.predict._TILE_PX", 128)
    tiled = maps_at(image, ready, 1.0, 0)
    np.testing.assert_allclose(tiled, whole, atol=0.02)
    assert np.abs(tiled - whole).mean() < 1e-3


@pytest.mark.parametrize("side", [16, 1024, 2160, 2176, 2192, 3904, 10000])
def test_tiles_of_one_length_cover_a_side_and_lap_over(side):
    side += -side % 16
    length, starts = _cuts(side)
    assert length % 16 == 0
    assert length <= 2176
    assert all(start % 16 == 0 for start in starts)
    seen = np.zeros(side, int)
    for start in starts:  # what is kept of each: all but the margins that do not end the side
        seen[start + (64 if start else 0) : start + length - (64 if start + length < side else 0)] += 1
    assert (seen > 0).all()
    assert starts[-1] + length == side
    assert len(starts) == max(1, -(-(side - 128) // 2048))


def test_maps_are_made_by_convolutions_that_can_be_repeated(monkeypatch):
    ready, during = trained(), []
    network = ready.network
    watched = ready._replace(network=lambda x: during.append(torch.backends.cudnn.deterministic) or network(x))
    before = torch.backends.cudnn.deterministic
    maps_at(np.zeros((32, 32), np.float32), watched, 1.0, 0)
    assert during == [True]
    assert torch.backends.cudnn.deterministic == before


@pytest.mark.parametrize("method", ["flow", "stardist"])
def test_mirrored_copies_are_averaged_where_they_belong(method):
    ready, image = trained(method), np.random.default_rng(3).random((64, 96), np.float32)
    averaged = maps_at(image, ready, 1.0, 3)
    # What was averaged over all mirrored copies is the same for a mirrored image.
    shift = ready.target.step - 1
    mirrored = np.roll(image[:, ::-1], shift, 1)
    again = torch.from_numpy(maps_at(np.ascontiguousarray(mirrored), ready, 1.0, 3)).flip(2).roll(shift, 2)
    np.testing.assert_allclose(ready.target.mirror(again, 2).numpy(), averaged, atol=1e-4)


# --- what is shipped


@pytest.mark.parametrize("method", NETWORKS)
def test_a_shipped_model_is_small_and_says_what_it_is(method):
    path = config.SHIPPED / f"{method}.safetensors"
    assert path.stat().st_size < 10e6
    card = shipped(method)["card"]
    assert card["method"] == method
    assert card["modalities"] == ["fluorescence"]
    assert {"stains", "data", "images", "nuclei", "held_out_ap50", "command", "config", "channels"} <= set(card)
    assert store.read_json(path.with_suffix(".json")) == card


@pytest.mark.parametrize("method", NETWORKS)
def test_a_network_keeps_the_contract_and_agrees_with_a_threshold_on_easy_nuclei(method):
    image = real_field(1, "A01")[:, 200:440, 200:440]
    found = segmenter(method)(image)
    nuclei, confidence = found["nuclei"], found["confidence"]
    assert nuclei.dtype == np.int32
    assert confidence.dtype == np.float32
    assert nuclei.shape == confidence.shape == image.shape[1:]
    numbers, firsts = np.unique(nuclei[nuclei > 0], return_index=True)
    np.testing.assert_array_equal(numbers, np.arange(1, numbers.size + 1))
    assert (np.diff(firsts) > 0).all()
    assert 0 <= confidence.min() <= confidence.max() <= 1
    easy = load("segment", "otsu")(image, smooth_px=1.0, min_area_px=40, min_distance_px=5)["nuclei"]
    assert metrics.f1(metrics.match(easy, nuclei, [0.5]))[0] > 0.7


@pytest.mark.parametrize("method", NETWORKS)
@pytest.mark.parametrize("name", ["zero", "constant", "no pixels"])
def test_an_empty_field_has_no_nuclei(method, name):
    found = segmenter(method)(empty_fields()[name].astype(np.float32)[None])
    assert found["nuclei"].max(initial=0) == 0
    assert found["nuclei"].shape == empty_fields()[name].shape


def test_scale_of_intensity_and_place_of_background_change_nothing():
    image = picture([(30, 30), (60, 100), (80, 90)])[None]
    first = segmenter("flow")(image)["nuclei"]
    assert first.max() == 3
    np.testing.assert_array_equal(segmenter("flow")(image * 40 + 100)["nuclei"], first)


@pytest.mark.parametrize("factor", [0.6, 3])
def test_nuclei_of_any_size_are_found_once_their_size_is(factor):
    side = int(200 * factor)
    centres = [(y * factor, x * factor) for y in (40, 100, 160) for x in (40, 100, 160)]
    image = picture(centres, radius=12 * factor, shape=(side, side))
    ready = prepare(shipped("flow")["arrays"], TARGETS["flow"], diameter_px=20.0, device=torch.device("cpu"))
    decode = partial(flow.decode, **TARGETS["flow"].options)
    size, scale = look_for_size(unit(image), ready, decode, {})
    assert size == pytest.approx(24 * factor, rel=0.2)
    assert scale == pytest.approx(scale_factor(20.0, size), rel=0.15)
    labels, *_ = find(image, ready, decode, diameter_px=0, mirrors=0)
    assert np.unique(labels).size == 10


@pytest.mark.parametrize(("side", "looks"), [(400, 2), (900, 3)])
def test_the_look_that_finds_its_own_size_is_the_last_one_where_it_saw_the_whole(monkeypatch, side, looks):
    sides, factors = [], []

    def look(seen, trained, factor, mirrors):
        sides.append(seen.shape[0])
        factors.append(factor)
        return maps_at(seen, trained, factor, mirrors)

    def decode(maps):  # thirty nuclei of 25 px
        area = int(np.pi / 4 * (25 * factors[-1]) ** 2)
        labels = np.zeros(2 * maps.shape[1] * 2 * maps.shape[2], np.int32)
        labels[: 30 * area] = 1 + np.arange(30 * area) // area
        return labels.reshape(2 * maps.shape[1], 2 * maps.shape[2])

    monkeypatch.setattr("plateline.models.predict.maps_at", look)
    image = np.random.default_rng(0).random((side, side), np.float32)
    *_, size = find(image, trained(), decode, diameter_px=0, mirrors=0)
    assert size == pytest.approx(25, rel=0.05)
    factor = scale_factor(20.0, size)
    assert factors == [1.0, factor, factor][:looks]
    assert sides == ([side, side] if looks == 2 else [384, int(384 / factor), side])


def test_small_nuclei_are_dropped():
    image = picture([(30, 30), (60, 100)])[None]
    image[0] += picture([(90, 30)], radius=3)
    assert segmenter("flow", min_share=0.0)(image)["nuclei"].max() == 3
    assert segmenter("flow", min_share=0.5)(image)["nuclei"].max() == 2


def test_the_usual_nucleus_is_the_median_one_whatever_the_specks():
    areas = np.random.default_rng(0).lognormal(np.log(300), 0.45, 400)
    disc = np.sqrt(4 / np.pi * 300)
    assert usual_diameter(areas) == pytest.approx(disc, rel=0.06)
    specks = np.full(600, 6.0)
    assert usual_diameter(np.concatenate([areas, specks])) == pytest.approx(disc, rel=0.06)
    # The last digit does not matter.
    assert usual_diameter(areas * 1.001) == usual_diameter(areas)
    assert 8 * np.log2(usual_diameter(areas)) == pytest.approx(round(8 * np.log2(disc)))


def test_a_nucleus_that_the_edge_cuts_may_be_smaller():
    labels = np.zeros((20, 20), np.int32)
    labels[:4, 8:11], labels[10:14, 8:11] = 1, 2
    np.testing.assert_array_equal(kept(labels, np.ones(labels.shape, np.float32), 20, 0.5), labels == 1)


def test_objects_are_kept_by_area_and_mean_confidence_in_raster_order():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (12, 15)).astype(np.int32) * rng.integers(1, 9, (12, 15)).astype(np.int32)
    confidence = rng.random(labels.shape, np.float32)
    found = kept(labels, confidence, 20, 0.45)
    expected, count = np.zeros_like(labels), 0
    for number in dict.fromkeys(labels[labels > 0].tolist()):
        here = labels == number
        inside = not (here[[0, -1]].any() or here[:, [0, -1]].any())
        if here.sum() >= (20 if inside else 6) and confidence[here].mean() >= 0.45:
            count += 1
            expected[here] = count
    np.testing.assert_array_equal(found, expected)
    assert 0 < count < np.unique(labels).size - 1


def test_a_model_of_another_method_is_refused():
    with pytest.raises(ModelError, match=r"the model is one of method distance; expected flow; correct segment\.flow"):
        segmenter("flow", model=shipped("distance"))(picture([(30, 30)])[None])
