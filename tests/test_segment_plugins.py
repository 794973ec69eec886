"""Segmenters of other packages: what is passed in and what comes out, with stand-ins for the packages."""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from drawn import CELLS, OTSU, assert_cells, picture

from plateline import methods
from plateline.errors import ConfigError, ImageError
from plateline.segment import plugins, segment_field
from plateline.segment.classical import otsu

OPTIONS = {
    "cellpose": {"pretrained": "cpsam", "diameter_px": 20.0, "flow_threshold": 0.4, "cellprob_threshold": 0.0},
    "stardist_plugin": {"pretrained": "2D_versatile_fluo", "scale": 1.0, "probability": 0.0, "overlap": 0.3},
    "instanseg": {"pretrained": "fluorescence_nuclei_and_cells", "own_pixel_px": 2.0},
}
PACKAGES = {"cellpose": ["cellpose"], "stardist_plugin": ["stardist", "stardist.models"], "instanseg": ["instanseg"]}
IMAGE = np.stack([picture([(30, 30), (80, 120)]), picture([(30, 30), (80, 120)], radius=14)])
NUCLEI = otsu(IMAGE, **OTSU)["nuclei"]


@pytest.fixture(autouse=True)
def fresh():
    """No model is kept from one test to the next."""
    yield
    for load in (plugins._cellpose, plugins._stardist, plugins._instanseg):
        load.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins for the three packages, and what they were called with."""
    made = {}

    def evaluate(image, **options):
        made["cellpose"] = (image, options)
        return NUCLEI.astype(np.uint16) * 3, [None, None, np.where(NUCLEI > 0, 2.0, -500.0)], None

    def predict(image, **options):
        made["stardist_plugin"] = (image, options)
        return NUCLEI, {"prob": np.array([0.9, 0.6])}

    def small(image, **options):
        made["instanseg"] = (image, options)
        cells = np.where(NUCLEI == 2, 0, NUCLEI)  # the second nucleus has none
        cells[100:105, 5:9] = 7  # and this one no nucleus
        return np.stack([NUCLEI, cells])[None].astype(np.float32)

    modules = {name: ModuleType(name) for names in PACKAGES.values() for name in names}
    modules["cellpose"].core = SimpleNamespace(use_gpu=lambda: False)

    def load(gpu, pretrained_model):
        made["weights"] = pretrained_model
        return SimpleNamespace(eval=evaluate)

    modules["cellpose"].models = SimpleNamespace(CellposeModel=load)
    star = SimpleNamespace(from_pretrained=lambda name: SimpleNamespace(predict_instances=predict))
    modules["stardist.models"].StarDist2D = star
    model = SimpleNamespace(instanseg=SimpleNamespace(pixel_size=0.5), eval_small_image=small)
    modules["instanseg"].InstanSeg = lambda name, verbosity: model
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_package_finds_keeps_the_contract(calls, name):
    method = partial(methods.load("segment", name), **OPTIONS[name])
    labels = segment_field(IMAGE, method, cells=CELLS, where="a drawn field")
    assert_cells(labels, IMAGE.shape[1:])
    np.testing.assert_array_equal(labels["nuclei"], NUCLEI)


def test_the_probability_of_cellpose_is_the_confidence(calls):
    found = plugins.cellpose(IMAGE, **OPTIONS["cellpose"])
    np.testing.assert_allclose(found["confidence"][NUCLEI > 0], 1 / (1 + np.exp(-2)), rtol=1e-6)
    assert 0 <= found["confidence"][NUCLEI == 0].max() < 1e-9
    image, options = calls["cellpose"]
    np.testing.assert_array_equal(image, IMAGE[0])
    assert options == {"diameter": 20.0, "flow_threshold": 0.4, "cellprob_threshold": 0.0}
    assert calls["weights"] == "cpsam"
    plugins.cellpose(IMAGE, **(OPTIONS["cellpose"] | {"diameter_px": 0}))
    assert calls["cellpose"][1]["diameter"] is None


def test_the_probability_of_stardist_is_the_confidence(calls):
    found = plugins.stardist_plugin(IMAGE, **OPTIONS["stardist_plugin"])
    np.testing.assert_allclose([found["confidence"][n == NUCLEI].mean() for n in (1, 2)], [0.9, 0.6], rtol=1e-6)
    image, options = calls["stardist_plugin"]
    assert options == {"scale": 1.0, "prob_thresh": None, "nms_thresh": 0.3}
    np.testing.assert_allclose(np.percentile(image, (1, 99.8)), (0, 1), atol=1e-5)


def test_instanseg_is_told_the_size_of_a_pixel_and_its_cells_are_paired(calls):
    found = plugins.instanseg(IMAGE, **OPTIONS["instanseg"])
    assert calls["instanseg"][1]["pixel_size"] == 0.25
    np.testing.assert_array_equal(calls["instanseg"][0], IMAGE)
    np.testing.assert_array_equal(found["cells"], NUCLEI)
    plugins.instanseg(IMAGE, **(OPTIONS["instanseg"] | {"own_pixel_px": 0}))
    assert calls["instanseg"][1]["pixel_size"] is None


def test_a_blank_field_is_taken(calls, monkeypatch):
    blank = np.zeros_like(IMAGE)
    plugins.stardist_plugin(blank, **OPTIONS["stardist_plugin"])
    assert np.isfinite(calls["stardist_plugin"][0]).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_package_that_is_not_there_is_named_with_the_way_to_install_it(monkeypatch, name):
    for package in PACKAGES[name]:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"segment.method is '{name}', whose package is not installed.*pip install"):
        methods.load("segment", name)(IMAGE, **OPTIONS[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_an_image_that_is_not_finite_is_refused(name):
    with pytest.raises(ImageError, match="pixels are not finite"):
        methods.load("segment", name)(np.full((1, 4, 4), np.nan, np.float32), **OPTIONS[name])


def test_the_library_loads_no_package_before_its_method_is_named():
    assert not {"cellpose", "stardist", "instanseg"} & set(sys.modules)
