"""Model files, training sets and states on disk."""

import json

import numpy as np
import pytest
import tifffile
import zarr
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


# --- masks painted over a plate

FIELDS = ("A/01/1", "A/01/2", "B/02/1")


def lay_out_plate(root, version="0.5", *, axes="tczyx", channels=("DNA", "GFP")):
    """A plate of three fields of noise, written without Plateline; the names of its axes stand for their lengths."""
    wells = sorted({name.rpartition("/")[0] for name in FIELDS})
    plate = zarr.create_group(str(root), zarr_format=2 if version == "0.4" else 3)
    describe(plate, version, plate={"wells": [{"path": well} for well in wells]})
    for well in wells:
        sites = [name.rpartition("/")[2] for name in FIELDS if name.startswith(well)]
        describe(plate.create_group(well), version, well={"images": [{"path": site} for site in sites]})
    lengths = {"t": 1, "c": len(channels), "z": 1, "y": 16, "x": 18}
    for number, name in enumerate(FIELDS):
        pixels = np.random.default_rng(number).integers(0, 99, [lengths[axis] for axis in axes]).astype(np.uint16)
        field = plate.create_group(name)
        field.create_array("0", data=pixels)
        omero = {"channels": [{"label": channel} for channel in channels]}
        describe(field, version, multiscales=scales(axes), omero=omero)
    return plate


def describe(group, version, **metadata):
    group.attrs.update(metadata if version == "0.4" else {"ome": metadata})


def scales(axes):
    return [{"axes": [{"name": axis} for axis in axes], "datasets": [{"path": "0"}]}]


def paint(plate, field, mask, version="0.5", *, axes="tzyx", label="nuclei"):
    group = plate.create_group(f"{field}/labels/{label}")
    group.create_array("0", data=mask.reshape((1,) * (len(axes) - mask.ndim) + mask.shape))
    describe(group, version, multiscales=scales(axes))


@pytest.mark.parametrize(
    ("version", "image", "label"), [("0.5", "tczyx", "tzyx"), ("0.4", "cyx", "yx"), ("0.5", "czyx", "zyx")]
)
def test_masks_painted_over_a_plate(tmp_path, version, image, label):
    plate = lay_out_plate(tmp_path / "p.zarr", version, axes=image)
    mask = np.eye(16, 18, dtype=np.uint8)
    paint(plate, "A/01/2", mask, version, axes=label)
    paint(plate, "B/02/1", 0 * mask, version, axes=label)
    pairs, left_out = store.read_training(str(tmp_path / "p.zarr"), "nuclei", "GFP")
    assert [pair["name"] for pair in pairs] == ["A/01/2"]
    np.testing.assert_array_equal(pairs[0]["labels"], mask)
    assert pairs[0]["labels"].dtype == np.int32
    stored = np.asarray(plate["A/01/2/0"][:]).reshape(2, 16, 18)
    np.testing.assert_array_equal(pairs[0]["image"], stored[1])
    assert left_out == [
        {"name": "A/01/1", "reason": "image without a mask"},
        {"name": "B/02/1", "reason": "empty mask"},
    ]


def test_every_painted_plane_is_an_image(tmp_path):
    plate = lay_out_plate(tmp_path / "p.zarr", axes="czyx", channels=("DNA",))
    del plate["A/01/1/0"]
    pixels = np.random.default_rng(0).integers(0, 99, (1, 3, 16, 18)).astype(np.uint16)
    plate["A/01/1"].create_array("0", data=pixels)
    masks = np.zeros((3, 16, 18), np.uint16)
    masks[0, 2:5], masks[2, 4:9] = 1, 7
    paint(plate, "A/01/1", masks, axes="zyx")
    pairs, _ = store.read_training(str(tmp_path / "p.zarr"), "nuclei", "")
    assert [pair["name"] for pair in pairs] == ["A/01/1 t0 z0", "A/01/1 t0 z2"]
    np.testing.assert_array_equal(pairs[1]["image"], pixels[0, 2])
    np.testing.assert_array_equal(pairs[1]["labels"], masks[2])


def test_fields_that_are_no_pair_say_why(tmp_path):
    plate = lay_out_plate(tmp_path / "p.zarr")
    paint(plate, "A/01/1", np.eye(16, 18, dtype=np.uint8))
    paint(plate, "A/01/2", np.eye(8, 9, dtype=np.uint8))
    paint(plate, "B/02/1", np.eye(16, 18, dtype=np.float32))
    _, left_out = store.read_training(str(tmp_path / "p.zarr"), "nuclei", "DNA")
    assert [row["reason"].split(";")[0] for row in left_out] == [
        "image of shape (1, 1, 16, 18) with a mask of shape (1, 1, 8, 9) (t, z, y, x)",
        "mask of dtype float32",
    ]
    del plate["A/01/2"]
    assert store.read_training(str(tmp_path / "p.zarr"), "nuclei", "DNA")[1][0]["reason"] == "the field is missing"


def test_a_plate_on_which_nothing_is_painted_is_refused(tmp_path):
    lay_out_plate(tmp_path / "p.zarr")
    with pytest.raises(
        ModelError, match=r"no training image in plate .*p\.zarr with a mask under labels/nuclei: image wi"
    ):
        store.read_training(str(tmp_path / "p.zarr"), "nuclei", "DNA")


@pytest.mark.parametrize("channel", ["ER", ""])
def test_a_channel_that_the_plate_lacks_is_refused(tmp_path, channel):
    paint(lay_out_plate(tmp_path / "p.zarr"), "A/01/1", np.eye(16, 18, dtype=np.uint8))
    message = rf"segment\.fit\.channel: got '{channel}'; expected a channel of field A/01/1 of the plate: DNA, GFP"
    with pytest.raises(ModelError, match=message):
        store.read_training(str(tmp_path / "p.zarr"), "nuclei", channel)
