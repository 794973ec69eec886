"""The whole chain on a cut of a real plate, BBBC013, and what the field's tools and naive recomputations make of it."""

import json
import shutil

import anndata
import numpy as np
import ome_zarr_models.v05
import pandas as pd
import pytest
import tifffile
import yaml
import zarr
from campaign import ROOT, make_campaign, run, snakemake, write_sheet
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from pycytominer.cyto_utils import infer_cp_features

from plateline import assay
from plateline.measure import FAMILIES

pytestmark = pytest.mark.slow

SOURCE = ROOT / "resources" / "bbbc013"
PLATE, SIDE = "bbbc013", 640
# Controls of both halves, the slopes of both curves, and a dose or two on each plateau.
ROWS, COLUMNS = "ABEF", (1, 2, 5, 6, 7, 9, 11, 12)
WELLS = [f"{row}{column:02d}" for row in ROWS for column in COLUMNS]
HALVES = {"wortmannin": ["A", "B"], "LY294002": ["E", "F"]}
COMPARTMENTS = {"nuclei": "Nuclei", "cells": "Cells", "cytoplasm": "Cytoplasm"}
READOUTS = ["log2_ratio", "percent_translocated", "cells_per_field"]
MEASURED = f"results/measure/{PLATE}/part-1.parquet"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's campaign on the wells of the cut, run to the end on two cores."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    folder = make_campaign(tmp_path_factory.mktemp("bbbc013") / "campaign", {}, config=config)
    (folder / "images").mkdir()
    for image in sorted((SOURCE / "images").iterdir()):
        row, column = image.stem.split("-")[2:]
        if f"{row}{column}" in WELLS:
            shutil.copy(image, folder / "images")
    header, *lines = (SOURCE / "platemap.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0] in WELLS]
    (folder / "map.csv").write_text("\n".join([header, *kept]) + "\n")
    write_sheet(folder, {PLATE: {"source": "images", "shape": "96"}})
    run(folder)
    return folder


@pytest.fixture(scope="module")
def wells(demo):
    """The profile table, by well."""
    return read(demo, f"results/profile/{PLATE}.parquet").set_index("Metadata_Well", drop=False)


@pytest.fixture(scope="module")
def objects(demo):
    """One object of a compartment a row."""
    return read(demo, f"results/segment/{PLATE}/part-1.parquet")


@pytest.fixture(scope="module")
def cells(demo):
    """One cell a row, with its features."""
    return read(demo, MEASURED)


@pytest.fixture(scope="module")
def ledger(demo):
    """All counts and exclusions of the run."""
    return read(demo, "results/ledger.parquet")


def read(folder, path):
    """A table of a campaign."""
    return pd.read_parquet(folder / path)


def array(folder, well, name):
    """An array of a well's one field, read by zarr alone: `0` the pixels, `labels/nuclei/0` nuclei."""
    plate = zarr.open_group(str(folder / f"results/images/{PLATE}.zarr"), mode="r")
    return np.squeeze(plate[f"{well[0]}/{well[1:]}/1/{name}"][:])


def features_of(table):
    """The columns of a table that are features."""
    return [column for column in table if not column.startswith("Metadata_")]


# --- the field's tools


def test_the_plate_is_a_valid_ome_zarr_plate(demo):
    group = zarr.open_group(str(demo / f"results/images/{PLATE}.zarr"), mode="r")
    hcs = ome_zarr_models.v05.HCS.from_zarr(group)
    assert sorted(well.path for well in hcs.attributes.ome.plate.wells) == [f"{w[0]}/{w[1:]}" for w in WELLS]
    image = ome_zarr_models.v05.Image.from_zarr(group["F/12/1"])
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == list("tczyx")
    for name in COMPARTMENTS:
        assert ome_zarr_models.v05.ImageLabel.from_zarr(group[f"F/12/1/labels/{name}"])


def test_the_plate_opens_in_ome_zarr(demo):
    plate = demo / f"results/images/{PLATE}.zarr"
    whole = next(iter(Reader(parse_url(plate))()))
    assert whole.metadata["channel_names"] == ["FKHR", "DNA"]
    # Stitched over the 8 rows and 12 columns of the plate, wells that were left out included.
    assert whole.data[0].shape[-2:] == (8 * SIDE, 12 * SIDE)
    nodes = list(Reader(parse_url(plate / "A" / "05" / "1"))())
    assert [level.shape for level in nodes[0].data] == [(1, 2, 1, 640, 640), (1, 2, 1, 320, 320)]
    assert nodes[0].metadata["channel_names"] == ["FKHR", "DNA"]
    assert {node.metadata["metadata"]["path"] for node in nodes[2:]} == set(COMPARTMENTS)


def test_the_pixels_are_those_of_the_files(demo):
    for image in sorted((demo / "images").iterdir()):
        channel, _, row, column = image.stem.split("-")
        pixels = array(demo, f"{row}{column}", "0")[int(channel[-1]) - 1]
        assert np.array_equal(pixels, tifffile.imread(image)), image.name


@pytest.mark.parametrize("table", [f"results/profile/{PLATE}.parquet", "results/correct/profiles.parquet"])
def test_pycytominer_tells_features_from_metadata(demo, table):
    profiles = read(demo, table)
    metadata = [column for column in profiles if column.startswith("Metadata_")]
    assert sorted(infer_cp_features(profiles)) == sorted(features_of(profiles))
    assert sorted(infer_cp_features(profiles, metadata=True)) == sorted(metadata)
    assert len(profiles) == len(WELLS)


def test_anndata_reads_the_corrected_profiles(demo):
    found = anndata.read_h5ad(demo / "results/correct/profiles.h5ad")
    profiles = read(demo, "results/correct/profiles.parquet")
    assert list(found.var_names) == features_of(profiles)
    assert list(found.obs_names) == [f"{PLATE}_{well}" for well in profiles["Metadata_Well"]]
    assert np.isfinite(found.X).all()
    assert np.array_equal(found.X, profiles[features_of(profiles)].to_numpy(np.float32))
    for name in ("Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Metadata_ControlType", "Metadata_Treatment"):
        assert all(isinstance(text, str) for text in found.obs[name])
        assert found.obs[name].tolist() == profiles[name].tolist()
    assert set(found.var["compartment"]) <= set(COMPARTMENTS.values())
    assert set(found.var["group"]) <= set(FAMILIES)
    assert all("_".join(parts) in name for name, parts in zip(found.var_names, found.var.to_numpy(), strict=True))


# --- the biology


@pytest.mark.parametrize("rows", HALVES.values(), ids=HALVES)
@pytest.mark.parametrize("readout", READOUTS[:2])
def test_fkhr_goes_to_the_nucleus_with_the_dose(wells, rows, readout):
    half = wells[wells["Metadata_Row"].isin(rows)]
    values, kind = half[f"Metadata_Readout_{readout}"], half["Metadata_ControlType"]
    middle = half["Metadata_Column"] == 6
    assert values[kind == "negative"].max() < values[middle].min()
    assert values[middle].max() < values[kind == "positive"].min()


def test_readouts_have_values_a_person_would_believe(wells):
    assert wells["Metadata_Readout_cells_per_field"].between(50, 500).all()
    negative = wells[wells["Metadata_ControlType"] == "negative"]
    assert negative["Metadata_Readout_percent_translocated"].between(0, 5).all()
    assert (wells["Metadata_Status"] == "ok").all()


@pytest.mark.parametrize("rows", HALVES.values(), ids=HALVES)
def test_the_controls_of_each_half_are_apart(wells, rows):
    half = wells[wells["Metadata_Row"].isin(rows)]
    values, kind = half["Metadata_Readout_log2_ratio"], half["Metadata_ControlType"]
    assert assay.zprime(values[kind == "negative"], values[kind == "positive"]) > 0.5


@pytest.mark.parametrize(("compound", "expected", "unit"), [("wortmannin", 9, "nM"), ("LY294002", 3.7, "uM")])
def test_potencies_are_those_of_the_inhibitors(demo, compound, expected, unit):
    curves = read(demo, "results/hits/dose_response.parquet")
    curve = curves[(curves["Metadata_Compound"] == compound) & (curves["readout"] == "log2_ratio")].iloc[0]
    assert (curve["qualifier"], curve["unit"], curve["n_wells"]) == ("=", unit, 10)
    assert expected / 3 < curve["EC50"] < expected * 3
    assert curve["low"] < curve["EC50"] < curve["high"]


# --- nothing is lost


def test_what_goes_into_a_job_comes_out_or_is_excluded(ledger):
    counts = ledger[ledger["kind"] == "count"]
    for count in counts.itertuples():
        same = (ledger["rule"] == count.rule) & (ledger["unit"] == count.unit) & (ledger["kind"] == "exclusion")
        assert count.count_in == count.count_out + ledger.loc[same, "count"].sum(), count


def test_what_comes_out_of_a_stage_goes_into_the_next(ledger, wells, objects, cells):
    counted = ledger[ledger["kind"] == "count"].set_index(["rule", "unit"])[["count_in", "count_out"]]
    assert counted.loc[("ingest_plate", "planes")].tolist() == [2 * len(WELLS)] * 2
    fields = ["ingest_part", "qc_part", "flatfield_plate", "segment_part", "measure_part", "profile_plate"]
    assert {tuple(counted.loc[(rule, "fields")]) for rule in fields} == {(len(WELLS), len(WELLS))}
    nuclei = int((objects["compartment"] == "nuclei").sum())
    assert counted.loc[("measure_part", "cells")].tolist() == [nuclei, len(cells)] == [nuclei, nuclei]
    assert counted.loc[("profile_plate", "cells"), "count_in"] == nuclei
    assert counted.loc[("profile_plate", "cells"), "count_out"] == wells["Metadata_Object_Count"].sum()
    assert counted.loc[("correct_screen", "wells")].tolist() == [len(WELLS)] * 2


def test_the_verdict_names_the_plate(demo):
    assert json.loads((demo / "results/verdict.json").read_text())["plates"] == [PLATE]


# --- tables and pixels agree


@pytest.mark.parametrize("compartment", COMPARTMENTS)
def test_labels_are_the_objects_of_the_table(demo, objects, compartment):
    of_compartment = objects[objects["compartment"] == compartment]
    assert set(of_compartment["Metadata_Well"]) == set(WELLS)
    for well, of_well in of_compartment.groupby("Metadata_Well"):
        areas = np.bincount(array(demo, well, f"labels/{compartment}/0").ravel())
        numbers = np.flatnonzero(areas[1:]) + 1
        assert of_well["Metadata_ObjectNumber"].tolist() == numbers.tolist(), well
        assert of_well["area"].tolist() == areas[numbers].tolist(), well


def test_fields_count_their_nuclei(demo, objects):
    fields = read(demo, f"results/segment/{PLATE}/part-1.fields.parquet").set_index("Metadata_Well")
    nuclei = objects[objects["compartment"] == "nuclei"].groupby("Metadata_Well").size()
    assert fields["n_nuclei"].to_dict() == nuclei.to_dict()
    assert (fields["status"] == "ok").all()


@pytest.mark.parametrize(("compartment", "channel"), [("nuclei", "DNA"), ("cytoplasm", "FKHR")])
def test_mean_intensities_are_those_of_the_pixels(demo, cells, compartment, channel):
    illum, dark = (np.load(demo / f"results/flatfield/{PLATE}/{PLATE}_{k}{channel}.npy") for k in ("Illum", "Dark"))
    pixels = array(demo, "E06", "0")[["FKHR", "DNA"].index(channel)]
    share = (pixels.astype(float) - dark) / illum / 255
    labels = array(demo, "E06", f"labels/{compartment}/0")
    of_well = cells[cells["Metadata_Well"] == "E06"].set_index("Metadata_ObjectNumber")
    found = of_well[f"{COMPARTMENTS[compartment]}_Intensity_MeanIntensity_{channel}"]
    assert len(found) > 50
    naive = {number: share[labels == number].mean() for number in found.index}
    assert np.allclose(found, pd.Series(naive), rtol=1e-5)


def test_the_profile_is_the_median_of_the_cells_inside_the_field(wells, objects, cells):
    border = objects[(objects["compartment"] == "nuclei") & objects["touches_border"]]
    left_out = set(zip(border["Metadata_Well"], border["Metadata_ObjectNumber"], strict=True))
    of_well = cells[cells["Metadata_Well"] == "B07"]
    counted = of_well[[("B07", number) not in left_out for number in of_well["Metadata_ObjectNumber"]]]
    assert 0 < len(counted) < len(of_well)
    assert wells.loc["B07", "Metadata_Object_Count"] == len(counted)
    assert features_of(wells) == features_of(cells)
    for name in features_of(cells):
        assert wells.loc["B07", name] == pytest.approx(np.nanmedian(counted[name]), nan_ok=True), name
    ratio = counted["Nuclei_Intensity_MeanIntensity_FKHR"] / counted["Cytoplasm_Intensity_MeanIntensity_FKHR"]
    assert wells.loc["B07", "Metadata_Readout_log2_ratio"] == pytest.approx(np.log2(ratio).median())


# --- pages


@pytest.mark.parametrize("page", ["index.html", f"{PLATE}/index.html"])
def test_pages_name_both_compounds(demo, page):
    text = (demo / "results/report" / page).read_text()
    assert all(compound in text for compound in HALVES)
    assert PLATE in text


# --- cores


def test_one_core_writes_what_two_cores_wrote(demo, tmp_path):
    folder = tmp_path / "campaign"
    shutil.copytree(demo, folder)
    (folder / "Snakefile").write_text((demo / "Snakefile").read_text().replace(str(demo), str(folder)))
    for stage in ("segment", "measure"):
        shutil.rmtree(folder / "results" / stage)
    for pixels in (folder / f"results/images/{PLATE}.zarr").glob("*/*/1/labels/*/0/c"):
        shutil.rmtree(pixels)
    assert not array(folder, "A05", "labels/cells/0").any()
    done = snakemake(folder, "--cores", "1", MEASURED)
    assert done.returncode == 0, done.stdout[-6000:]
    made = sorted(path for stage in ("segment", "measure") for path in (folder / f"results/{stage}").rglob("*.parquet"))
    assert len(made) == 5
    for path in made:
        assert path.read_bytes() == (demo / path.relative_to(folder)).read_bytes(), path.name
    for well in WELLS:
        for name in COMPARTMENTS:
            labels = f"labels/{name}/0"
            assert np.array_equal(array(folder, well, labels), array(demo, well, labels)), well
