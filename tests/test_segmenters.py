"""The method of a section and its ensemble, each with its own options and its own weights."""

import pytest

from plateline import config, segmenters
from plateline.errors import ModelError
from plateline.models.distance import distance
from plateline.models.flow import flow
from plateline.segment.classical import adaptive, otsu

SECTION = {"tile_px": 0, "modality": "fluorescence", "options": {"smooth_px": 2.0}, "method": "otsu"}
SHIPPED = {name: str(config.SHIPPED / f"{name}.safetensors") for name in ("flow", "distance")}


def member(name, **options):
    return {"method": name, "options": options}


def test_models_go_to_the_methods_that_have_one_in_their_order():
    members = [member("distance", model="", mirrors=1), member("adaptive", window_px=9), member("flow", model="")]
    section = SECTION | {"ensemble": members}
    found, checksums = segmenters.load_ensemble(section, [SHIPPED["distance"], SHIPPED["flow"]])
    assert segmenters.names_of(section) == list(found) == ["otsu", "distance", "adaptive", "flow"]
    assert [function for function, _ in found.values()] == [otsu, distance, adaptive, flow]
    assert found["otsu"][1] == {"smooth_px": 2.0}
    assert found["adaptive"][1] == {"window_px": 9}
    assert found["distance"][1]["mirrors"] == 1
    cards = [found[name][1]["model"]["card"]["method"] for name in ("distance", "flow")]
    assert cards == ["distance", "flow"]
    assert [bool(checksum) for checksum in checksums] == [False, True, False, True]
    assert checksums[1] == found["distance"][1]["model"]["checksum"] != checksums[3]


def test_a_method_by_its_import_path_reads_its_own_model():
    path = "plateline.segment.classical:adaptive"
    section = SECTION | {"ensemble": [member(path, model="own.pt"), member("flow", model="")]}
    found, checksums = segmenters.load_ensemble(section, ["own.pt", SHIPPED["flow"]])
    assert found[path] == (adaptive, {"model": "own.pt"})
    assert checksums[:2] == ["", ""]
    assert found["flow"][1]["model"]["checksum"] == checksums[2]


def test_a_member_that_was_not_trained_on_such_images_is_refused():
    section = SECTION | {"modality": "phase", "ensemble": [member("flow", model="")]}
    with pytest.raises(ModelError, match=r"segment\.modality is phase, but the model of flow was trained on fluoresc"):
        segmenters.load_ensemble(section, [SHIPPED["flow"]])
