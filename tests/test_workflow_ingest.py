"""Two drawn exports through the workflow: what a source tells beside its pixels reaches the stages that ask for it."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from campaign import make_campaign, run, write_config, write_sheet

pytestmark = pytest.mark.slow

SIDE = 64
WELLS = [f"A{column:02d}" for column in range(1, 11)]
METASERIES = """<MetaData><PlaneInfo>
<prop id="spatial-calibration-state" type="bool" value="on"/>
<prop id="spatial-calibration-units" type="string" value="um"/>
<prop id="spatial-calibration-x" type="float" value="0.5"/>
<prop id="spatial-calibration-y" type="float" value="0.5"/>
<prop id="wavelength" type="float" value="461"/>
<prop id="_IllumSetting_" type="string" value="DAPI"/>
<prop id="stage-position-x" type="float" value="{x}"/>
<prop id="stage-position-y" type="float" value="7"/>
<prop id="acquisition-time-local" type="time" value="20240501 10:{minute:02d}:00.000"/>
</PlaneInfo></MetaData>"""


def draw(level, seed):
    """A disc on a noisy background of a known level."""
    rng = np.random.default_rng(seed)
    disc = np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) < 12
    return rng.poisson(level + 500 * disc).astype(np.uint16)


def write_gallery(folder):
    """Images with a `load_data.csv` that names an illumination; its file."""
    rows = []
    for number, well in enumerate(WELLS):
        tifffile.imwrite(folder / f"{well}.tif", draw(100, number))
        names = {"FileName_OrigDNA": f"{well}.tif", "FileName_IllumDNA": "IllumDNA.npy"}
        rows.append({"Metadata_Plate": "P1", "Metadata_Well": well, **names})
    with (folder / "load_data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    illum = 3 * (1 + np.mgrid[:SIDE, :SIDE][1] / SIDE)
    np.save(folder / "IllumDNA.npy", illum)
    return illum


def write_export(folder):
    """An ImageXpress export of two planes whose background rises in the order of imaging, not that of the wells."""
    for number, well in enumerate(WELLS):
        order = (number * 3) % len(WELLS)
        told = METASERIES.format(x=10 * number, minute=order)
        image = draw(100 + 20 * order, number)
        for z, plane in enumerate((image, image // 2), start=1):
            file = folder / f"ZStep_{z}" / f"Plate_{well}_s1_w1.TIF"
            file.parent.mkdir(exist_ok=True)
            tifffile.imwrite(file, plane, description=told, software="MetaSeries")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = make_campaign(tmp_path_factory.mktemp("exports") / "campaign", {})
    for plate in ("P1", "P2"):
        (folder / "images" / plate).mkdir(parents=True)
    illum = write_gallery(folder / "images" / "P1")
    write_export(folder / "images" / "P2")
    ingest = {"plate": {"channels": {"OrigDNA": "DNA", "DAPI": "DNA2"}, "keep_planes": True}}
    config = {"ingest": ingest, "segment": {"nuclei_channel": "DNA"}, "profile": {}}
    write_config(folder, config | {"flatfield": {"method": "provided"}})
    write_sheet(folder, {"P1": {"layout": "load_data"}, "P2": {"layout": "imagexpress"}})
    tables = ["flatfield/P1/flatfield.parquet", "qc/P2/drift.parquet", "qc/P1/drift.parquet"]
    run(folder, *(f"results/{table}" for table in tables))
    return folder, illum


def test_an_illumination_of_the_source_is_the_one_divided_by(campaign):
    folder, illum = campaign
    table = pd.read_parquet(folder / "results/flatfield/P1/flatfield.parquet")
    assert table["divided_by"].tolist() == [pytest.approx(illum.mean())]
    made = np.load(folder / "results/flatfield/P1/P1_IllumDNA.npy")
    np.testing.assert_allclose(made, illum / illum.mean(), rtol=1e-6)


def test_drift_follows_the_times_of_imaging(campaign):
    folder, _ = campaign
    drift = pd.read_parquet(folder / "results/qc/P2/drift.parquet").set_index("measure")
    assert drift.loc["background", "correlation"] == pytest.approx(1)
    assert drift.loc["background", "drifts"]
    fields = pd.read_parquet(folder / "results/ingest/P2/part-1.parquet")
    assert fields["acquired"].str.startswith("2024-05-01T10:").all()
    ledger = pd.read_parquet(folder / "results/qc/P2/fields.ledger.parquet")
    assert ledger["reason"].str.contains("drift of background in DNA2").any()
    assert not pd.read_parquet(folder / "results/qc/P1/drift.parquet")["drifts"].any()


def test_what_the_microscope_told_stands_beside_the_pixels(campaign):
    folder, _ = campaign
    group = json.loads((folder / "results/images/P2.zarr/A/03/1/zarr.json").read_text())["attributes"]["ome"]
    assert group["omero"]["stage"] == {"x": 20.0, "y": 7.0, "unit": "micrometer"}
    assert (
        group["omero"]["channels"][0] | {"label": "DNA2", "name": "DAPI", "emissionWave": 461.0}
        == (group["omero"]["channels"][0])
    )
    assert group["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"][-2:] == [0.5, 0.5]


def test_all_planes_are_kept_beside_the_projection(campaign):
    folder, _ = campaign
    field = zarr.open_group(str(folder / "results/images/P2.zarr/A/03/1"), mode="r")
    image = field["0"][0, 0, 0]
    np.testing.assert_array_equal(field["stack/0"][0, 0], [image, image // 2])
    assert not (folder / "results/images/P1.zarr/A/03/1/stack").exists()
