"""A campaign that trains the network of its own segmenter, from images and masks to labels."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from campaign import TOY_CONFIG, draw_field, make_campaign, planned, run, snakemake, write_config
from scipy import ndimage as ndi

from plateline import store

pytestmark = pytest.mark.slow

FIT = {
    "images": "training/images",
    "masks": "training/masks",
    "method": "distance",
    "steps": 2,
    "check_steps": 1,
    "batch": 2,
    "crop_px": 32,
    "folds": 2,
    "stains": ["DAPI"],
}
SEGMENT = TOY_CONFIG["segment"] | {"method": "distance", "distance": {"model": "fit"}, "fit": FIT}


def write_training(folder):
    """Pictures of two sources with the masks they were drawn by, one image without a mask."""
    for kind in ("images", "masks"):
        (folder / "training" / kind).mkdir(parents=True)
    for number in range(4):
        nuclei = draw_field(0.5, number)["1"].astype(np.uint16) * (1 + 9 * (number % 2))
        if number % 2:  # of another microscope
            nuclei = nuclei[:80, :72]
        mask = ndi.label(nuclei > nuclei.max() / 2)[0].astype(np.uint16)
        tifffile.imwrite(folder / "training" / "images" / f"{number}.tif", nuclei)
        tifffile.imwrite(folder / "training" / "masks" / f"{number}.tif", mask)
    (folder / "training" / "masks" / "3.tif").rename(folder / "training" / "masks" / "lost.tif")
    tifffile.imwrite(folder / "training" / "masks" / "3.tif", mask)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "campaign"
    make_campaign(folder, {"P1": {}}, config=TOY_CONFIG | {"segment": SEGMENT})
    write_training(folder)
    run(folder, "results/segment/P1/part-1.parquet", "results/segment/model.ledger.parquet")
    return folder


def test_the_model_is_trained_and_used(trained):
    model = store.read_model(str(trained / "results" / "segment" / "model.safetensors"))
    assert model["card"]["method"] == "distance"
    assert model["card"]["stains"] == ["DAPI"]
    assert model["card"]["config"]["segment"]["fit"]["steps"] == 2
    curve = pd.read_parquet(trained / "results" / "segment" / "model.curve.parquet")
    assert curve["step"].tolist() == [1, 2]
    scores = pd.read_parquet(trained / "results" / "segment" / "model.scores.parquet")
    assert set(scores["when"]) == {"after"}
    objects = pd.read_parquet(trained / "results" / "segment" / "P1" / "part-1.parquet")
    assert objects.empty or objects["confidence"].between(0, 1).any()
    assert not (trained / "results" / "segment" / "model.safetensors.state").exists()


def test_a_mask_without_an_image_stands_in_the_ledger(trained):
    ledger = pd.read_parquet(trained / "results" / "segment" / "model.ledger.parquet")
    row = ledger[ledger["kind"] == "exclusion"].iloc[0]
    assert row["reason"] == "mask without an image"
    counts = ledger[ledger["kind"] == "count"].iloc[0]
    assert (counts["count_in"], counts["count_out"]) == (5, 4)


def test_a_new_mask_trains_anew_and_a_threshold_of_the_decoder_does_not(trained):
    assert planned(trained, "results/segment/P1/part-1.parquet") == set()
    mask = trained / "training" / "masks" / "0.tif"
    changed = SEGMENT | {"distance": {"model": "fit", "threshold": 0.6}}
    write_config(trained, TOY_CONFIG | {"segment": changed})
    assert planned(trained, "results/segment/P1/part-1.parquet") == {"segment_part P1 1"}
    write_config(trained, TOY_CONFIG | {"segment": SEGMENT})
    tifffile.imwrite(mask, np.rot90(tifffile.imread(mask)))
    jobs = planned(trained, "results/segment/P1/part-1.parquet")
    assert jobs == {"segment_fit_screen", "segment_part P1 1"}


def test_masks_painted_over_a_copy_of_the_plate_train_as_well(trained):
    shutil.copytree(trained / "results" / "images" / "P1.zarr", trained / "painted.zarr")
    for well in ("A/01", "A/02", "B/01", "B/02"):
        field = zarr.open_group(str(trained / "painted.zarr" / well / "1"))
        image = field["0"][0, 0, 0]
        field["labels/nuclei/0"][0, 0] = ndi.label(image > image.max() / 2)[0]
    fit = FIT | {"images": "painted.zarr", "masks": "nuclei", "channel": "DNA"}
    write_config(trained, TOY_CONFIG | {"segment": SEGMENT | {"fit": fit}})
    run(trained, "results/segment/model.ledger.parquet")
    ledger = pd.read_parquet(trained / "results" / "segment" / "model.ledger.parquet")
    counts = ledger[ledger["kind"] == "count"].iloc[0]
    assert (counts["count_in"], counts["count_out"]) == (9, 4)
    field["labels/nuclei/0"][0, 0] = np.rot90(field["labels/nuclei/0"][0, 0])
    assert "segment_fit_screen" in planned(trained, "results/segment/model.safetensors")


def test_the_page_of_the_screen_waits_for_the_training(trained):
    done = snakemake(trained, "--dry-run", "--cores", "2", "--printshellcmds", "results/report/index.html")
    inputs = re.search(r"rule report_screen:\n    input: (.*)", done.stdout)[1]
    assert "results/segment/model.curve.parquet" in inputs
    assert "results/segment/model.scores.parquet" in inputs
