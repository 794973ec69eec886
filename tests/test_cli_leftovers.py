"""`plateline orphans` and `plateline clean`: what goes, what stays, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plateline import cli, store
from plateline.cli import leftovers
from plateline.errors import CampaignBusy, ConfigError

TABLES = (
    "ingest/{plate}/images.parquet",
    "ingest/{plate}/part-1.parquet",
    "platemap/{plate}.parquet",
    "flatfield/{plate}/flatfield.parquet",
    "segment/{plate}/part-1.parquet",
    "segment/{plate}/part-1.fields.parquet",
    "profile/{plate}.parquet",
    "profile/{plate}.ledger.parquet",
    "assay/{plate}.positions.parquet",
    "report/{plate}/index.html",
)
SCREEN = ("correct/profiles.parquet", "correct/profiles.h5ad", "hits/hits.parquet", "report/index.html")


def touch(*names):
    for name in names:
        path = Path("results", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_plate(plate):
    """Everything that a run makes of one plate, the tables empty but for those that are read."""
    touch(*(name.format(plate=plate) for name in TABLES))
    touch(f"ingest/{plate}/source.json", f"report/{plate}/plate.png", f"report/{plate}/pictures.json")
    index = pd.DataFrame({"Metadata_Well": ["A01", "A01", "B02"], "Metadata_Site": [1, 2, 1]})
    index.to_parquet(f"results/ingest/{plate}/images.parquet")
    pd.DataFrame({"Metadata_Channel": ["DNA"]}).to_parquet(f"results/flatfield/{plate}/flatfield.parquet")
    touch(f"flatfield/{plate}/{plate}_IllumDNA.npy", f"flatfield/{plate}/{plate}_DarkDNA.npy")
    omero = {"name": plate, "shape": 96, "channels": ["DNA"], "pixel_size_um": np.nan, "full_scale": 255}
    wells = {"A01": [1, 2], "B02": [1]}
    store.lay_out(store.images_of(plate), wells=wells, times=1, sizes=[(8, 8)], dtype="uint8", omero=omero)


def targets_of(*plates):
    return {Path("results", name.format(plate=plate)) for plate in plates for name in TABLES} | {
        Path("results", name) for name in SCREEN
    }


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A campaign that has run with the plates P1 and P10, as the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder in ("config", "images/P1", "images/P10"):
        Path(folder).mkdir(parents=True)
    Path("config/config.yaml").write_text("sheet: config/plates.tsv\n")
    Path("config/plates.tsv").write_text("plate\tsource\nP1\timages/P1\nP10\timages/P10\n")
    for plate in ("P1", "P10"):
        make_plate(plate)
    touch(*SCREEN, "report/plates.png", "run.json", "ledger.parquet", "verdict.json")
    return tmp_path


def files():
    return {path for path in Path("results").rglob("*") if path.is_file()}


def of_plate(paths, plate):
    """Those of the paths that are of one plate."""
    return {path for path in paths if path.parts[2:] and path.parts[2].partition(".")[0] == plate}


# --- orphans


def test_a_finished_campaign_has_no_orphans(finished):
    assert leftovers.find_orphans(targets_of("P1", "P10")) == []


def test_a_plate_that_is_not_in_use_any_more_is_an_orphan_and_nothing_else(finished):
    before = files()
    found = set(leftovers.find_orphans(targets_of("P1")))
    assert {path for path in before if {path, *path.parents} & found} == of_plate(before, "P10")


@pytest.mark.parametrize(
    "name",
    [
        "segment/P1/part-2.parquet",
        "segment/P1/part-2.fields.parquet",
        "segment/P1/.part-1.parquet.node.17.local.tmp",
        "segment/P1/.part-2/abc/A01/objects.parquet",
        "images/.P1.zarr.node.17.local.tmp/zarr.json",
        "images/.P1.zarr.old/zarr.json",
        "images/P1.zarr/A/01/3/zarr.json",
        "images/P1.zarr/A/02/1/zarr.json",
        "images/P1.zarr/A/01/1/1/zarr.json",
        "images/P1.zarr/A/01/1/labels/nucleoli/0/zarr.json",
        "images/P1.zarr/B/02/1/labels/cells/1/c/0",
        "images/P1.zarr/B/02/1/labels/cells/0/.zarr.json.node.17.local.tmp",
        "segment/P1/..part-1.node.17.local.tmp/abc/A01/objects.parquet",
        "flatfield/P1/P1_IllumER.npy",
        "hits/volcano.parquet",
        "segment/model.safetensors",
        "segment/model.safetensors.state",
        "segment/model.curve.parquet",
        "correct/.profiles.h5ad.node.17.local.tmp",
        "classify/.predictions.parquet.node.17.local.tmp",
        "report/.index.html.node.17.local.tmp",
        "correct/old.h5ad",
        "profile/P2.parquet",
        "report/P2/plate.png",
        "preview/P2/index.html",
        "preview/P2.approved",
    ],
)
def test_what_no_target_names_is_found(finished, name):
    touch(name)
    [found] = leftovers.find_orphans(targets_of("P1", "P10"))
    path = Path("results", name)
    assert found == path or found in path.parents


@pytest.mark.parametrize(
    "name",
    [
        "segment/P1/.part-1/abc/A01/objects.parquet",
        "report/P1/cells.png",
        "correct/notes.txt",
        "notes/mine.parquet",
        "mine.csv",
        "preview/P1/index.html",
        "preview/P10.approved",
        "images/P1.zarr/A/01/1/labels/nuclei/0/c/0",
    ],
)
def test_wells_to_go_on_with_companions_and_what_is_not_plateline_s_stay(finished, name):
    touch(name)
    assert leftovers.find_orphans(targets_of("P1", "P10")) == []


def test_a_plate_that_is_not_ingested_yet_has_no_fields_to_compare(finished):
    Path("results/ingest/P1/images.parquet").unlink()
    assert leftovers.find_orphans(targets_of("P1", "P10")) == []


def test_orphans_are_deleted_with_the_folders_they_leave_empty(finished, monkeypatch, capsys):
    monkeypatch.setattr(leftovers, "_targets", lambda: targets_of("P1"))
    assert cli.main(["orphans", "--dry-run"]) == 0
    planned, before = capsys.readouterr().out.splitlines(), files()
    assert "would delete results/profile/P10.parquet" in planned
    assert files() == before
    assert cli.main(["orphans"]) == 0
    assert capsys.readouterr().out.splitlines() == [line.replace("would delete", "deleted") for line in planned]
    assert files() == before - of_plate(before, "P10")
    assert not Path("results/segment/P10").exists()
    assert cli.main(["orphans"]) == 0
    assert "no orphans" in capsys.readouterr().out


def test_orphans_wait_for_the_run(finished, capsys):
    Path(".snakemake/locks").mkdir(parents=True)
    Path(".snakemake/locks/0.input.lock").touch()
    assert cli.main(["orphans"]) == 1
    assert "orphans are not deleted: this campaign is locked" in capsys.readouterr().err


def test_targets_that_snakemake_cannot_name_are_refused(finished):
    Path("Snakefile").write_text("rule all\n")
    with pytest.raises(ConfigError, match=r"snakemake --summary cannot name the targets of (.|\n)*Snakefile"):
        leftovers.delete_orphans(dry_run=True)


def test_targets_are_the_outputs_of_all_jobs_done_or_not(finished):
    rules = 'rule all:\n    input: "results/b"\nrule b:\n    input: "results/a"\n    output: "results/b", "results/c"\n'
    Path("Snakefile").write_text(rules + 'rule a:\n    output: "results/a"\n')
    Path("results/a").touch()
    assert leftovers._targets() == {Path("results", name) for name in "abc"}


# --- clean


def test_all_of_one_plate_goes_its_pixels_last_and_nothing_of_another(finished, capsys):
    before = files()
    touch("preview/P1/index.html", "preview/P1.approved", "images/.P1.zarr.node.17.local.tmp/zarr.json")
    assert cli.main(["clean", "P1", "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert "would delete results/segment/P1" in planned
    assert planned[-1] == "would delete results/images/P1.zarr"
    assert before < files()
    assert cli.main(["clean", "P1"]) == 0
    assert files() == before - of_plate(before, "P1")
    assert Path("results/report/index.html").is_file()


@pytest.mark.parametrize("plate", ["P", "P2", "..", "../P1", "", "index", "profiles", "*"])
def test_a_plate_of_which_nothing_was_made_is_refused(finished, plate):
    before = files()
    with pytest.raises(ConfigError, match=r"nothing under results/ was made of plate .*; there are results of P1, P10"):
        leftovers.clean(plate, dry_run=False)
    assert files() == before


def test_pixels_that_could_not_be_made_again_are_refused_until_the_plate_leaves_the_sheet(finished):
    Path("images/P1").rmdir()
    with pytest.raises(ConfigError, match="plate P1: its source images/P1 is gone, so its pixels could not"):
        leftovers.clean("P1", dry_run=True)
    Path("config/plates.tsv").write_text("plate\tsource\nP10\timages/P10\n")
    assert "would delete results/images/P1.zarr" in leftovers.clean("P1", dry_run=True)


def test_a_plate_is_not_cleaned_while_a_run_is_on(finished):
    Path(".snakemake/locks").mkdir(parents=True)
    Path(".snakemake/locks/0.input.lock").touch()
    with pytest.raises(CampaignBusy, match="plate P1 is not cleaned: this campaign is locked"):
        leftovers.clean("P1", dry_run=False)
    assert "would delete" in leftovers.clean("P1", dry_run=True)


def test_what_cannot_be_deleted_is_said(finished, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(leftovers.shutil, "rmtree", refuse)
    assert cli.main(["clean", "P1"]) == 1
    assert "plateline: [Errno 13] Permission denied: 'results/ingest/P1'" in capsys.readouterr().err
