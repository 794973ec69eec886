"""Model files, training sets and states on disk."""

import json

import numpy as np
import pytest
import tifffile
from safetensors.numpy import save_file

from plateline import store
from plateline.errors import ModelError

WEIGHTS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.float32)}


def test_a_model_comes_back_with_its_card(tmp_path):
    store.save_model(WEIGHTS, {"method": "flow"}, tmp_path / "m.safetensors")
    model = store.read_model(str(tmp_path / "m.safetensors"))
    assert model["card"] == json.loads((tmp_path / "m.json").read_text())
    assert model["card"]["method"] == "flow"
    assert model["checksum"] == model["card"]["checksum"]
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(model["arrays"][name], array)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("no model")
    with pytest.raises(
        ModelError, match=r"text\.safetensors cannot be read .*; expected a safetensors file; give the file"
    ):
        store.read_model(str(tmp_path / "text.safetensors"))
    save_file(WEIGHTS, tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match=r"bare\.safetensors has no card in its metadata"):
        store.read_model(str(tmp_path / "bare.safetensors"))


def test_weights_that_are_not_those_of_the_card_are_refused(tmp_path):
    card = {"card": json.dumps({"method": "flow", "checksum": "0" * 32})}
    save_file(WEIGHTS, tmp_path / "swapped.safetensors", card)
    with pytest.raises(ModelError, match=r"swapped\.safetensors: weights have checksum .*; its card says 0000"):
        store.read_model(str(tmp_path / "swapped.safetensors"))


def test_a_state_is_of_its_key_only(tmp_path):
    path = tmp_path / "state"
    assert store.read_state(path, "k") == {}
    store.save_state(WEIGHTS, "k", path)
    np.testing.assert_array_equal(store.read_state(path, "k")["b"], WEIGHTS["b"])
    assert store.read_state(path, "other") == {}
    store.drop_state(path)
    store.drop_state(path)
    assert not path.exists()


def write_pair(folder, name, image, mask):
    for kind, array in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(exist_ok=True)
        if array is not None:
            tifffile.imwrite(folder / kind / f"{name}.tif", array)


def test_pairs_and_what_is_none(tmp_path):
    image, mask = np.ones((8, 9), np.uint8), np.eye(8, 9, dtype=np.uint16)
    write_pair(tmp_path, "good", image, mask)
    write_pair(tmp_path, "lonely", image, None)
    write_pair(tmp_path, "unseen", None, mask)
    write_pair(tmp_path, "empty", image, np.zeros((8, 9), np.uint8))
    write_pair(tmp_path, "odd", image, mask[:4])
    write_pair(tmp_path, "real", image, mask.astype(np.float32))
    pairs, left_out = store.read_pairs(str(tmp_path / "images"), str(tmp_path / "masks"))
    assert [pair["name"] for pair in pairs] == ["good"]
    assert pairs[0]["labels"].dtype == np.int32
    assert {row["name"]: row["reason"].split(";")[0] for row in left_out} == {
        "lonely": "image without a mask",
        "unseen": "mask without an image",
        "empty": "empty mask",
        "odd": "image of shape (8, 9) with a mask of shape (4, 9)",
        "real": "mask of dtype float32",
    }


def test_a_training_set_without_a_pair_is_refused(tmp_path):
    write_pair(tmp_path, "lonely", np.ones((8, 9), np.uint8), None)
    with pytest.raises(ModelError, match=r"no training image in .* with a mask in .*: image without a mask"):
        store.read_pairs(str(tmp_path / "images"), str(tmp_path / "masks"))
