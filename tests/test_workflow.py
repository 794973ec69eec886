"""The workflow as a whole on small drawn plates: the rerun promise, parts, resume, bad input, and the house's tools."""

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from campaign import (
    ROOT,
    TOY_CONFIG,
    draw_plate,
    make_campaign,
    planned,
    plateline,
    run,
    snakemake,
    truncate,
    write_config,
    write_sheet,
)
from changes import CHANGES, REFUSED_ALONE, jobs_of, with_value

pytestmark = pytest.mark.slow

TOY = {"P1": {"parts": "2"}, "P2": {"parts": "2"}}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Two finished plates of two parts; P2 has a truncated image, and its map names a well without images."""
    folder = make_campaign(tmp_path_factory.mktemp("toy") / "campaign", TOY)
    truncate(folder / "images" / "P2" / "C03_z1_c2.tif")
    (folder / "map2.csv").write_text((folder / "map.csv").read_text() + "H12,drug,3,uM,sample\n")
    (folder / "excluded.csv").write_text("plate,well,site,reason\nP1,A03,,bubble\nP1,H12,,not imaged\n")
    write_sheet(folder, TOY | {"P2": TOY["P2"] | {"platemap": "map2.csv"}})
    printed = run(folder)
    (folder / "printed.txt").write_text(printed)
    for plate in TOY:
        plateline(folder, "preview", plate, "--wells", "A01", "--methods", "otsu")
        plateline(folder, "preview", plate, "--approve")
    return folder


@pytest.fixture
def sheet(toy):
    """Rewrites the plate sheet for one test, and puts it back."""
    path = toy / "config" / "plates.tsv"
    before = path.read_text()
    yield lambda **plates: write_sheet(toy, plates)
    path.write_text(before)


@pytest.fixture
def config(toy):
    """Rewrites the config for one test, and puts it back."""
    path = toy / "config" / "config.yaml"
    before = path.read_text()
    yield lambda changed: write_config(toy, changed)
    path.write_text(before)


@pytest.fixture
def edit(toy):
    """Edits a file of the campaign for one test, and puts it back."""
    before = {}

    def replace(name, old, new):
        path = toy / name
        before.setdefault(path, path.read_text())
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    yield replace
    for path, text in before.items():
        path.write_text(text)


@pytest.fixture
def fresh(toy, tmp_path):
    """A copy of the finished campaign that a test may run."""
    folder = tmp_path / "campaign"
    shutil.copytree(toy, folder, symlinks=True)
    (folder / "Snakefile").write_text((toy / "Snakefile").read_text().replace(str(toy), str(folder)))
    return folder


def tables(folder, stage, plate):
    """All part tables of a stage as one frame, without the keys, which name the number of parts."""
    found = sorted((folder / "results" / stage / plate).glob("part-?.parquet"))
    frames = [pd.read_parquet(path) for path in found]
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


# --- the rerun promise


def test_nothing_changed_reruns_nothing(toy):
    assert planned(toy) == set()


@pytest.mark.parametrize("rules", sorted({tuple(rules) for _, rules in CHANGES.values()}), ids="+".join)
def test_changed_keys_rerun_their_rules_and_what_reads_them(toy, config, rules):
    # All keys of the same rules at once: what one of them reruns, all of them do, and which rules a key is told to is
    # tested for each alone in test_reruns.py.
    changed = TOY_CONFIG
    for key, (value, own) in CHANGES.items():
        changed = with_value(changed, key, value) if tuple(own) == rules and key not in REFUSED_ALONE else changed
    config(changed)
    assert planned(toy) == jobs_of(rules)


@pytest.mark.parametrize("stage", ["flatfield", "segment", "profile", "correct", "classify", "ingest"])
def test_the_block_of_a_method_not_chosen_reruns_nothing(toy, config, stage):
    config(with_value(TOY_CONFIG, f"{stage}.custom", {"anything": 1}))
    assert planned(toy) == set()


def test_reordered_keys_rerun_nothing(toy, config):
    config({key: TOY_CONFIG[key] for key in reversed(TOY_CONFIG)})
    assert planned(toy) == set()


def test_swapped_values_are_noticed(toy, config):
    config(with_value(TOY_CONFIG, "segment.otsu", {"min_area_px": 5, "min_distance_px": 40}))
    assert planned(toy) == jobs_of(["segment_part"])


def test_an_edited_plate_map_never_rereads_an_image(toy, edit):
    edit("map.csv", "drug,1,uM", "drug,3,uM")
    assert planned(toy) == jobs_of(["platemap_plate"], plates=["P1"])


@pytest.mark.parametrize(
    ("column", "value", "rules"),
    [
        ("source", "images/P1/", ["ingest_plate"]),
        ("layout", "plateline.layouts.pattern:index", ["ingest_plate"]),
        ("shape", "384", ["ingest_plate", "platemap_plate"]),
        ("platemap", "map2.csv", ["platemap_plate"]),
        ("timelapse", "yes", []),
        ("batch", "week 2", ["platemap_plate"]),
        ("barcode", "AA-0017", ["platemap_plate"]),
        ("parts", "3", ["ingest_part", "qc_part", "segment_part", "measure_part"]),
        ("segment.cells.grow_px", "6", ["segment_part"]),
        ("qc.plate.blurred_z", "6", ["qc_plate"]),
    ],
)
def test_a_changed_cell_of_the_sheet_reruns_that_plate(toy, sheet, column, value, rules):
    sheet(P1=TOY["P1"] | {column: value}, P2=TOY["P2"] | {"platemap": "map2.csv"})
    assert planned(toy) == jobs_of(rules, plates=["P1"], parts=3 if column == "parts" else 2)


def test_a_plate_not_used_reruns_the_screen(toy, sheet):
    sheet(P1=TOY["P1"], P2=TOY["P2"] | {"use": "no: contaminated"})
    assert planned(toy) == {job for job in jobs_of(["profile_plate", "ledger_screen"]) if job.endswith("_screen")}


def test_a_removed_plate_reruns_the_screen(toy, sheet):
    sheet(P1=TOY["P1"])
    assert planned(toy) == {job for job in jobs_of(["profile_plate", "ledger_screen"]) if job.endswith("_screen")}


def test_an_added_plate_reruns_itself_and_the_screen(toy, sheet):
    draw_plate(toy / "images" / "P3", seed=500)
    sheet(P1=TOY["P1"], P2=TOY["P2"] | {"platemap": "map2.csv"}, P3=TOY["P1"])
    assert planned(toy) == jobs_of(["ingest_plate"], plates=["P3"])


@pytest.mark.parametrize(
    ("module", "old", "new", "rules"),
    [
        ("segment/classical.py", "_MIN_CONTRAST = 2.0", "_MIN_CONTRAST = 2.1", ["segment_part"]),
        ("assay/controls.py", "def zprime(", "_ = 1\n\n\ndef zprime(", ["assay_plate"]),
        ("flatfield.py", "MIN_FIELDS = 3", "MIN_FIELDS = 4", ["flatfield_plate"]),
        ("hits/dose.py", "def four_parameter(", "_ = 1\n\n\ndef four_parameter(", ["hits_screen", "report_plate"]),
        ("layouts/pattern.py", "def index(", "_ = 1\n\n\ndef index(", ["ingest_plate"]),
        ("store/__init__.py", "FORMAT = 1", "FORMAT = 2", ["ingest_plate"]),
    ],
)
def test_an_edited_function_reruns_its_stage_and_later_ones(toy, edit, module, old, new, rules):
    edit(f"clone/workflow/plateline/{module}", old, new)
    assert planned(toy) == jobs_of(rules)


@pytest.mark.parametrize("module", ["segment/cells.py", "methods.py", "log.py", "compute/cluster.py", "store/plate.py"])
def test_a_comment_in_the_library_reruns_nothing(toy, edit, module):
    edit(f"clone/workflow/plateline/{module}", "import", "# a comment\nimport")
    assert planned(toy) == set()


def test_a_changed_model_file_reruns_its_stage(fresh):
    (fresh / "lab.py").write_text(
        "import numpy as np\n\ndef segment(image, *, model):\n    labels = (image[0] > 100).astype(np.int32)\n"
        "    return {'nuclei': labels, 'cells': labels, 'cytoplasm': labels * 0}\n"
    )
    (fresh / "weights.safetensors").write_text("first")
    changed = with_value(TOY_CONFIG, "segment.method", "lab:segment")
    write_config(fresh, with_value(changed, "segment.custom", {"model": "weights.safetensors"}))
    run(fresh, "--until", "segment_part")
    before = planned(fresh)
    (fresh / "weights.safetensors").write_text("second")
    assert {job for job in before if job.startswith("segment")} == set()
    assert {job for job in planned(fresh) if job.startswith("segment")} == {
        f"segment_part {plate} {part}" for plate in TOY for part in (1, 2)
    }


def test_a_changed_projection_changes_what_later_stages_read(fresh):
    index = (fresh / "results/ingest/P1/images.parquet").read_bytes()
    before = tables(fresh, "ingest", "P1"), tables(fresh, "measure", "P1")
    write_config(fresh, with_value(TOY_CONFIG, "ingest.part.projection", "mean"))
    run(fresh, "results/measure/P1/part-1.parquet", "results/measure/P1/part-2.parquet")
    after = tables(fresh, "ingest", "P1"), tables(fresh, "measure", "P1")
    assert (fresh / "results/ingest/P1/images.parquet").read_bytes() == index
    assert not set(before[0]["checksum"]) & set(after[0]["checksum"])
    column = "Nuclei_Intensity_MeanIntensity_DNA"
    # The second plane has half the light: the mean of both has three quarters.
    assert np.isclose(after[1][column].median() / before[1][column].median(), 0.75, atol=0.02)


def test_parts_do_not_change_a_number(fresh):
    before = {stage: tables(fresh, stage, "P1") for stage in ("ingest", "qc", "segment", "measure")}
    profile = pd.read_parquet(fresh / "results/profile/P1.parquet")
    for parts in ("3", "2"):
        write_sheet(fresh, {"P1": TOY["P1"] | {"parts": parts}, "P2": TOY["P2"] | {"platemap": "map2.csv"}})
        run(fresh, "results/profile/P1.parquet")
        for left in (fresh / "results").glob(f"*/P1/part-{int(parts) + 1}*"):
            left.unlink()
        for stage, table in before.items():
            pd.testing.assert_frame_equal(tables(fresh, stage, "P1"), table)
        pd.testing.assert_frame_equal(pd.read_parquet(fresh / "results/profile/P1.parquet"), profile)


def test_left_over_parts_are_named_when_a_run_starts(fresh):
    write_sheet(fresh, {"P1": {"parts": "1"}, "P2": TOY["P2"] | {"platemap": "map2.csv"}})
    printed = run(fresh, "results/ingest/P1/part-1.parquet")
    assert "results/ingest/P1/part-2.parquet is left from an earlier config" in printed


def test_a_source_that_has_grown_is_warned_of(fresh):
    new = fresh / "images" / "P1" / "A09_z0_c1.tif"
    shutil.copy(fresh / "images" / "P1" / "A01_z0_c1.tif", new)
    write_sheet(fresh, TOY | {"P2": TOY["P2"] | {"platemap": "map2.csv"}})
    printed = run(fresh, "--forcerun", "verdict_screen")
    assert re.search(r"plate P1: images/P1 has 37 files, 36 when it was indexed", printed)
    assert "plate P2: images" not in printed


def test_a_cleaned_plate_is_made_anew_with_equal_numbers(fresh):
    before = {name: pd.read_parquet(fresh / f"results/{name}.parquet") for name in ("profile/P1", "hits/hits")}
    said = plateline(fresh, "clean", "P1")
    assert "deleted results/images/P1.zarr" in said
    assert not list((fresh / "results").glob("*/P1*"))
    # A copy's templates lie elsewhere, for which every page is redone anyway.
    assert planned(fresh) - {"report_plate P2"} == jobs_of(["ingest_plate"], plates=["P1"])
    run(fresh)
    for name, table in before.items():
        pd.testing.assert_frame_equal(pd.read_parquet(fresh / f"results/{name}.parquet"), table)


@pytest.mark.parametrize("how", ["not used", "removed"])
def test_a_plate_taken_out_leaves_no_trace_but_its_line_in_the_ledger(fresh, how):
    plates = {"P1": TOY["P1"], "P2": TOY["P2"] | {"platemap": "map2.csv", "use": "no: contaminated"}}
    write_sheet(fresh, plates if how == "not used" else {"P1": TOY["P1"]})
    run(fresh)
    ledger = pd.read_parquet(fresh / "results/ledger.parquet")
    lines = ledger.loc[ledger["Metadata_Plate"] == "P2", "reason"].tolist()
    assert lines == (["not used: no: contaminated"] if how == "not used" else [])
    screen = [*(fresh / "results").glob("correct/*.parquet"), *(fresh / "results").glob("[hc][il]*/*.parquet")]
    assert len(screen) >= 5
    for path in screen:
        table = pd.read_parquet(path)
        assert not table.select_dtypes(exclude="number").isin(["P2"]).to_numpy().any(), path
    assert ">P2</b>" not in (fresh / "results/report/index.html").read_text()
    printed = plateline(fresh, "orphans")
    assert "deleted results/images/P2.zarr" in printed
    assert all(re.search(r"\bP2\b", line) for line in printed.splitlines())
    assert not [path for path in (fresh / "results").rglob("*") if re.search(r"\bP2\b", path.name)]
    assert planned(fresh) == set()
    assert "no orphans" in plateline(fresh, "orphans")


def test_results_without_snakemake_s_records_are_refused_until_somebody_vouches_for_them(fresh):
    shutil.rmtree(fresh / ".snakemake")
    done = snakemake(fresh, "--dry-run")
    assert done.returncode != 0
    assert re.search(r"\.snakemake/ has no record of what made them.*--touch --forceall", done.stdout, re.DOTALL)
    run(fresh, "--touch", "--forceall")
    assert planned(fresh) == set()
    write_config(fresh, with_value(TOY_CONFIG, "segment.otsu.smooth_px", 1.5))
    assert planned(fresh) == jobs_of(["segment_part"])


def test_a_plate_whose_source_is_gone_is_previewed_from_its_pixels(fresh):
    shutil.rmtree(fresh / "images" / "P2")
    plateline(fresh, "preview", "P2", "--wells", "A01", "C02", "--methods", "otsu")
    page = (fresh / "results/preview/P2/index.html").read_text()
    assert "<dd>results/images/P2.zarr</dd>" in page
    assert page.count("16 nuclei") == 2


def test_an_edited_exclusion_list_reaches_the_profile_and_no_pixel(fresh):
    write_config(fresh, with_value(TOY_CONFIG, "profile.exclude_list", "excluded.csv"))
    run(fresh, "results/profile/P1.parquet")
    well = pd.read_parquet(fresh / "results/profile/P1.parquet").set_index("Metadata_Well").loc["A03"]
    assert well["Metadata_Status"] == "no images"
    ledger = pd.read_parquet(fresh / "results/profile/P1.ledger.parquet")
    assert "by hand: bubble" in set(ledger.loc[ledger["kind"] == "exclusion", "reason"])
    warnings = " ".join(ledger.loc[ledger["kind"] == "warning", "reason"])
    assert "profile.exclude_list names no field of this plate: not imaged" in warnings
    assert "fields excluded: 1 of 3 of samples (33.3%), 0 of 6 of controls (0.0%)" in warnings
    (fresh / "excluded.csv").write_text("plate,well,reason\n")
    assert {"profile_plate P1"} <= planned(fresh, "results/profile/P1.parquet") <= {"profile_plate P1"}


def test_tiles_change_no_object(fresh):
    target = "results/segment/P1/part-1.parquet"
    whole = pd.read_parquet(fresh / target).drop(columns="Metadata_Key")
    write_config(fresh, with_value(TOY_CONFIG, "segment.tile_px", 48))
    run(fresh, target)
    pd.testing.assert_frame_equal(pd.read_parquet(fresh / target).drop(columns="Metadata_Key"), whole)


# --- a run that is disturbed


EDITING = """
from pathlib import Path
from plateline.segment.classical import otsu

def segment(image, **options):
    config = Path("config/config.yaml")
    config.write_text(config.read_text() + "# edited\\n")
    return otsu(image, smooth_px=1, min_area_px=20, min_distance_px=4)
"""
KILLED = """
import os
from pathlib import Path
from plateline.segment.classical import otsu

def segment(image, **options):
    log = Path("segmented.txt")
    calls = log.read_text().splitlines() if log.exists() else []
    if len(calls) == 2 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), 9)
    log.write_text("\\n".join([*calls, f"{image.sum():.1f}"]) + "\\n")
    return otsu(image, smooth_px=1, min_area_px=20, min_distance_px=4)
"""


def test_a_config_edited_while_the_run_is_on_is_an_error(fresh):
    (fresh / "lab.py").write_text(EDITING)
    write_config(fresh, with_value(TOY_CONFIG, "segment.method", "lab:segment"))
    done = snakemake(fresh, "--cores", "1")
    assert done.returncode != 0
    assert re.search(r"EditedDuringRun: edited while the run was on: .*config\.yaml", done.stdout)


def test_a_killed_job_redoes_no_finished_well(fresh):
    (fresh / "lab.py").write_text(KILLED)
    write_config(fresh, with_value(TOY_CONFIG, "segment.method", "lab:segment"))
    target = "results/segment/P1/part-1.parquet"
    killed = snakemake(fresh, "--cores", "1", target)
    assert killed.returncode != 0
    assert len((fresh / "segmented.txt").read_text().splitlines()) == 2
    run(fresh, "--cores", "1", target)
    segmented = (fresh / "segmented.txt").read_text().splitlines()
    assert len(segmented) == len(set(segmented)) == 4
    assert not list((fresh / "results/segment/P1").glob(".*"))
    undisturbed = pd.read_parquet(fresh / target)
    run(fresh, "--cores", "1", target, "--forcerun", "segment_part")
    assert len((fresh / "segmented.txt").read_text().splitlines()) == 8
    pd.testing.assert_frame_equal(pd.read_parquet(fresh / target), undisturbed)


def test_pixels_that_are_not_the_tables_are_refused(fresh):
    array = fresh / "results/images/P1.zarr/A/01/1/0/zarr.json"
    array.write_text(array.read_text().replace('"key": "', '"key": "0'))
    done = snakemake(fresh, "--cores", "1", "--forcerun", "qc_part", "results/qc/P1/part-1.parquet")
    assert re.search(
        r"StaleError: pixels of .*P1\.zarr/A/01/1/0 at time 0 have key .*rerun rule ingest_part", done.stdout
    )


# --- what a finished run has made


def test_every_stage_counts_what_went_in_and_out(toy):
    ledger = pd.read_parquet(toy / "results/ledger.parquet")
    lost = ledger[(ledger["stage"] == "ingest") & (ledger["kind"] == "exclusion")]
    assert lost[["Metadata_Plate", "Metadata_Well", "count"]].to_numpy().tolist() == [["P2", "C03", 1]]
    assert "C03_z1_c2.tif" in lost["reason"].iloc[0]
    absent = ledger[(ledger["stage"] == "platemap") & (ledger["kind"] == "exclusion")]
    assert absent[["Metadata_Plate", "Metadata_Well"]].to_numpy().tolist() == [["P2", "H12"]]
    cells = ledger[(ledger["rule"] == "measure_part") & (ledger["unit"] == "cells") & (ledger["kind"] == "count")]
    # 9 and 8 fields of 16 cells.
    assert cells.groupby("Metadata_Plate")["count_out"].sum().to_dict() == {"P1": 144, "P2": 128}
    assert (cells["count_in"] == cells["count_out"]).all()


def test_the_profile_finds_what_was_drawn(toy):
    wells = pd.read_parquet(toy / "results/profile/P1.parquet").set_index("Metadata_Well")
    ratio = wells.groupby("Metadata_ControlType")["Metadata_Readout_ratio"].median()
    assert ratio["negative"] < ratio["sample"] < ratio["positive"]
    assert (wells.loc[["A02", "B02", "C02"], "Metadata_Readout_percent_moved"] == 100).all()
    assert wells.loc["A01", "Metadata_Treatment"] == "DMSO"
    assert (wells["Metadata_Readout_cells"] == 16).all()


def test_a_lost_field_is_not_a_toxic_well(toy):
    well = pd.read_parquet(toy / "results/profile/P2.parquet").set_index("Metadata_Well").loc["C03"]
    assert well["Metadata_Status"] == "no images"
    assert np.isnan(well["Metadata_Readout_cells"])


def test_every_job_leaves_a_log_that_ends_with_its_counts(toy):
    logs = list((toy / "logs").glob("*/*.log"))
    assert len(logs) == 36
    assert all(re.search(r"INFO \w+.*: .*\d.*; \d+\.\d s$", log.read_text().strip()) for log in logs)


def test_pages_need_no_network(toy):
    pages = [toy / "results/report/index.html", *(toy / "results/report").glob("P?/index.html")]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text()
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)
        for name in re.findall(r"""(?:src|href)=["']([^"'#]+)["']""", text):
            assert (page.parent / name).is_file(), name


def test_run_json_names_what_the_run_rests_on(toy):
    text = (toy / "results/run.json").read_text()
    assert "config/config.yaml" in text
    assert "config/plates.tsv" in text
    assert "plateline/segment/classical.py" in text


# --- bad input


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("segment.otsu.smoth_px", 1, r"segment\.otsu: unknown key 'smoth_px'; known are smooth_px"),
        ("segment.otsu.smooth_px", -1, r"segment\.otsu\.smooth_px: got -1; expected at least 0"),
        ("segment.method", "ostu", r"segment: unknown method 'ostu'; known are flow"),
        ("profile.gates", {"moved": "ratio >"}, r"profile\.gates\.moved"),
        ("profile.readouts", {"x": "median(rato)"}, r"'rato' is neither a quantity"),
        ("ingest.part.projection", "sum", r"ingest\.part\.projection: got 'sum'; expected one of max, mean, middle"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused_before_the_graph(toy, config, key, value, message):
    config(with_value(TOY_CONFIG, key, value))
    done = snakemake(toy, "--dry-run")
    assert done.returncode != 0
    assert re.search(message, done.stdout)


def test_a_run_waits_for_the_approval_of_a_changed_segmentation(toy, config):
    config(with_value(with_value(TOY_CONFIG, "segment.approve", True), "segment.otsu.smooth_px", 1.5))
    done = snakemake(toy, "--dry-run")
    assert done.returncode != 0
    assert (
        "plate P1 and 1 more plates: segmentation is not approved as it is configured now; run plateline" in done.stdout
    )


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source", "images/P9", r"plate P9: source: no folder 'images/P9'"),
        ("platemap", "nowhere.csv", r"plate P9: platemap: no file 'nowhere\.csv'"),
        ("parts", "none", r"plate P9: parts: got 'none'"),
        ("segment.otsu.grow", "3", r"plate P9: column 'segment\.otsu\.grow' is no key of the config"),
        ("layuot", "pattern", r"plate P9: unknown key 'layuot'"),
    ],
)
def test_a_sheet_that_cannot_be_meant_is_refused_before_the_graph(toy, sheet, column, value, message):
    sheet(P1=TOY["P1"], P9={"source": "images/P1", column: value})
    done = snakemake(toy, "--dry-run")
    assert done.returncode != 0
    assert re.search(message, done.stdout)


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        (r"nothing(?P<well>A1)(?P<channel>\d)", r"matches (nothing|none|no file)"),
        (r"(?P<well>[A-Z]\d+)_z\d_c(?P<channel>\d)\.tif", r"A01_z0_c1\.tif.*A01_z1_c1\.tif"),
    ],
)
def test_a_regular_expression_that_cannot_be_meant_names_files(fresh, regex, message):
    write_config(fresh, with_value(TOY_CONFIG, "ingest.pattern.regex", regex))
    done = snakemake(fresh, "--cores", "1", "results/ingest/P1/images.parquet")
    assert done.returncode != 0
    assert re.search("SourceError: .*" + message, done.stdout, re.DOTALL)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """A good plate, one with most fields broken, and one without negative controls, run to the end."""
    folder = make_campaign(tmp_path_factory.mktemp("troubled") / "campaign", {"good": {}, "broken": {}, "blind": {}})
    for well in ("A01", "A02", "A03", "B01", "B02", "B03"):
        truncate(folder / "images" / "broken" / f"{well}_z0_c1.tif")
    (folder / "blind.csv").write_text((folder / "map.csv").read_text().replace("negative", "untreated"))
    write_sheet(folder, {"good": {}, "broken": {}, "blind": {"platemap": "blind.csv"}})
    done = snakemake(folder, "--cores", "2", "--keep-going")
    (folder / "printed.txt").write_text(done.stdout)
    assert done.returncode != 0
    return folder


def test_a_plate_with_too_many_bad_fields_fails_the_run_by_name(troubled):
    printed = (troubled / "printed.txt").read_text()
    expected = r"FailedPlates: plate broken failed: 6 of 9 fields are bad, more than profile\.max_bad_fields = 0\.5"
    assert re.search(expected, printed)
    assert not (troubled / "results/verdict.json").exists()
    # Only the verdict is missing: the other plates have their pages.
    assert planned(troubled) == {"verdict_screen"}
    assert set(pd.read_parquet(troubled / "results/correct/profiles.parquet")["Metadata_Plate"]) == {"good"}
    assert "6 of 9 fields are bad" in (troubled / "results/report/broken/index.html").read_text()


def test_a_plate_without_negative_controls_is_left_out_of_the_screen_with_its_reason(troubled):
    ledger = pd.read_parquet(troubled / "results/ledger.parquet")
    blind = ledger[(ledger["Metadata_Plate"] == "blind") & (ledger["stage"] == "correct")]
    assert len(blind) == 9
    assert blind["reason"].str.contains("negative").all()
    wells = pd.read_parquet(troubled / "results/profile/blind.parquet")
    assert wells["Metadata_Readout_ratio"].notna().all()
    assert wells["Metadata_Readout_percent_moved"].isna().all()
    scores = pd.read_parquet(troubled / "results/assay/blind.parquet")
    assert scores["reason"].str.startswith("not estimable").all()
    assert (troubled / "results/report/blind/index.html").is_file()


# --- the tools of the house


def command(*arguments, folder=ROOT):
    """A tool run at the root of the clone."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_snakemake_lint_is_clean():
    assert "Congratulations" in command("snakemake", "--lint")


def test_snakefmt_is_clean():
    command("snakefmt", "--check", "Snakefile", "workflow/Snakefile", "workflow/rules")


def test_the_slurm_profile_plans_the_demo_from_the_root():
    assert "verdict_screen" in command("snakemake", "-n", "--profile", "slurm", "--forceall")


def test_a_new_campaign_runs(tmp_path):
    folder = tmp_path / "campaign"
    command("plateline.cli", "new", str(folder))
    assert "verdict_screen" in command("snakemake", "-n", folder=folder)


def test_the_workflow_is_found_by_tools_that_look_in_its_folder():
    assert "verdict_screen" in command(
        "snakemake", "-n", "--snakefile", str(Path("workflow", "Snakefile")), "--forceall"
    )


# --- plates that start from somebody else's table


@pytest.fixture(scope="module")
def tables_only(tmp_path_factory):
    """Three plates in one table, and a fourth whose cells stand in a file of their own; no images at all."""
    folder = make_campaign(tmp_path_factory.mktemp("tables") / "campaign", {})
    rng, rows = np.random.default_rng(0), []
    for plate in ("T1", "T2", "T3", "T4"):
        for number, well in enumerate(f"{row}{column:02d}" for row in "ABCD" for column in range(1, 7)):
            treated = number >= 12
            values = 10 + 5 * (treated and number % 2) + rng.normal(size=3)
            rows.append((plate, well, "drug" if treated else "DMSO", 1 + number % 2 if treated else None, 50, *values))
    names = ["Spot_plate", "Spot", "Compound", "Concentration_uM", "Metadata_Object_Count"]
    wells = pd.DataFrame(rows, columns=[*names, "Nuclei_AreaShape_Area", "Cells_Texture_A", "Cells_Texture_B"])
    wells[wells["Spot_plate"] != "T4"].to_csv(folder / "wells.csv.gz", index=False)
    cells = wells[wells["Spot_plate"] == "T4"].drop(columns="Metadata_Object_Count")
    cells = pd.concat([cells] * 5).assign(Metadata_ObjectNumber=lambda t: np.arange(len(t)))
    cells.drop(columns=["Compound", "Concentration_uM"]).to_parquet(folder / "T4.parquet")
    (folder / "names.csv").write_text("theirs,ours\nSpot,Well\nSpot_plate,Plate\n")
    wells.loc[wells["Spot_plate"] == "T4"].rename(columns={"Spot": "Well"})[
        ["Well", "Compound", "Concentration_uM"]
    ].assign(ControlType=lambda t: t["Compound"].map({"DMSO": "negative"})).to_csv(folder / "map.csv", index=False)
    config = copy.deepcopy(TOY_CONFIG)
    config["profile"] = {"readouts": {"area": "median(Nuclei_AreaShape_Area)"}, "min_cells": 5}
    config["profile"]["imported"] = {"columns_file": "names.csv", "controls": {"DMSO": "negative"}}
    write_config(folder, config)
    row = {"layout": "profiles", "source": "wells.csv.gz", "platemap": ""}
    own = {"layout": "profiles", "source": "T4.parquet", "platemap": "map.csv"}
    write_sheet(folder, {"T1": row, "T2": row, "T3": row | {"batch": "2"}, "T4": own | {"batch": "2"}})
    run(folder)
    return folder


def test_plates_from_tables_enter_at_profile(tables_only):
    results = tables_only / "results"
    assert not (results / "ingest").exists()
    assert not (results / "images").exists()
    wells = pd.concat([pd.read_parquet(results / "profile" / f"T{n}.parquet") for n in (1, 2, 3, 4)])
    assert len(wells) == 96
    assert set(wells["Metadata_Status"]) == {"ok"}
    assert wells.groupby("Metadata_Plate")["Metadata_Object_Count"].first().to_dict() == {
        "T1": 50,
        "T2": 50,
        "T3": 50,
        "T4": 5,
    }
    assert set(wells["Metadata_ControlType"]) == {"negative", "sample"}
    hits = pd.read_parquet(results / "hits" / "hits.parquet").set_index("Metadata_Treatment")
    assert hits.loc["drug@2 uM", "hit"]
    assert not hits.loc["drug@1 uM", "hit"]
    assert "drug@2 uM" in (results / "hits" / "hits.csv").read_text()
    page = (results / "report" / "T1" / "index.html").read_text()
    assert "There are no pictures of this plate" in page
    assert "T4" in (results / "report" / "index.html").read_text()
    assert planned(tables_only) == set()


def test_a_table_reruns_what_reads_it_and_a_plate_map_only_its_plate(tables_only):
    before = (tables_only / "map.csv").read_text()
    (tables_only / "map.csv").write_text(before.replace("drug,1.0", "drug,3.0"))
    assert planned(tables_only) == jobs_of(["platemap_plate"], plates=["T4"])
    (tables_only / "map.csv").write_text(before)
    config = yaml.safe_load((tables_only / "config" / "config.yaml").read_text())
    write_config(tables_only, with_value(config, "profile.imported.controls", {"DMSO": "negative", "x": "positive"}))
    assert planned(tables_only) == jobs_of(["profile_plate"], plates=["T1", "T2", "T3", "T4"])
    write_config(tables_only, config)
    for key, value in {"segment.cells.grow_px": 3, "qc.plate.blurred_z": 3}.items():
        write_config(tables_only, with_value(config, key, value))
        assert planned(tables_only) == set()
    write_config(tables_only, config)


def test_a_well_that_stands_twice_in_a_table_fails_its_plate_by_name(tables_only, tmp_path):
    folder = tmp_path / "campaign"
    shutil.copytree(tables_only, folder, symlinks=True)
    (folder / "Snakefile").write_text((tables_only / "Snakefile").read_text().replace(str(tables_only), str(folder)))
    table = pd.read_csv(folder / "wells.csv.gz")
    pd.concat([table, table.iloc[:1]]).to_csv(folder / "wells.csv.gz", index=False)
    done = snakemake(folder, "--cores", "2", "results/profile/T1.parquet")
    assert done.returncode != 0
    assert "profiles of plate T1: 1 rows too many for 24 wells (A01)" in done.stdout
