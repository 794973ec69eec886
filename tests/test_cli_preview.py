"""`plateline preview` on a drawn plate that nothing has been made of yet, and the gate that waits for its approval."""

import json
import re
import shutil

import pytest
import yaml
from campaign import ROOT, TOY_CONFIG, TOY_MAP, draw_plate, truncate, write_config, write_sheet

from plateline import check, cli, segment
from plateline import config as settings
from plateline.cli import campaign, pixels
from plateline.errors import ConfigError

PREVIEW = "results/preview/P1"
LAB = """
from plateline.segment.classical import otsu

def whole(image, *, smooth_px):
    return otsu(image, smooth_px=smooth_px, min_area_px=20, min_distance_px=4)

def nothing(image):
    return {"nuclei": (image[0] * 0).astype("int32")}

def broken(image):
    return {}
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A campaign of one plate with its images only; the model of the one that each test has."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "config").mkdir()
    (folder / "map.csv").write_text(TOY_MAP)
    draw_plate(folder / "images" / "P1")
    (folder / "lab.py").write_text(LAB)
    write_sheet(folder, {"P1": {}})
    return folder


@pytest.fixture
def here(drawn, tmp_path, monkeypatch):
    """The campaign, as the working directory."""
    folder = tmp_path / "campaign"
    shutil.copytree(drawn, folder)
    write_config(folder, TOY_CONFIG | {"flatfield": {"method": "none"}})
    monkeypatch.chdir(folder)
    return folder


def configure(folder, **segmenting):
    changed = TOY_CONFIG | {"flatfield": {"method": "none"}, "segment": TOY_CONFIG["segment"] | segmenting}
    write_config(folder, changed)


def plateline(*arguments, capsys=None):
    """What the command printed when it went well."""
    assert cli.main(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out if capsys else ""


def refused(*arguments, capsys):
    assert cli.main(list(arguments)) == 1
    return capsys.readouterr().err


def page(folder):
    return (folder / PREVIEW / "index.html").read_text()


# --- the page


def test_a_preview_shows_controls_and_extremes_before_anything_is_ingested(here, capsys):
    said = plateline("preview", "P1", "--methods", "otsu", capsys=capsys)
    assert re.match(r"results/preview/P1/index\.html is there; fields: [3-5], seconds: \d+\n", said)
    text = page(here)
    for words in ("negative control", "positive control", "highest dose", "dimmest nuclei of 9 fields", "images/P1"):
        assert words in text
    assert "none, as configured" in text
    assert "16 nuclei" in text
    for name in re.findall(r'src="([^"]+)"', text):
        assert (here / PREVIEW / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (here / "results").iterdir()) == ["preview"]


def test_wells_and_methods_are_the_ones_asked_for(here, capsys):
    configure(here, custom={"smooth_px": 1.0})
    plateline("preview", "P1", "--wells", "c3", "r01c01", "--methods", "lab:whole", "otsu", capsys=capsys)
    text = page(here)
    assert re.findall(r"<h3>(\w+)", text) == ["C03", "A01"]
    assert re.findall(r"<tr><td>([^<]+)</td>", text) == ["lab:whole", "otsu (configured)"]


def test_a_preview_segments_as_segment_part_does(here, capsys, monkeypatch):
    calls = []
    whole = segment.segment_field

    def seen(image, method, *, cells, where):
        calls.append((image, method.keywords, cells, where))
        return whole(image, method, cells=cells, where=where)

    monkeypatch.setattr(segment, "segment_field", seen)
    configure(here, otsu={"smooth_px": 2.0}, cells={"grow_px": 4.0})
    write_sheet(here, {"P1": {"segment.otsu.min_area_px": "33"}})
    plateline("preview", "P1", "--wells", "A01", "--methods", "otsu", capsys=capsys)
    config, sheet = campaign.read()
    section = settings.section(config, "segment", "part", sheet[0])
    [(image, options, cells, where)] = calls
    assert options == section["options"] == {"smooth_px": 2.0, "min_area_px": 33, "min_distance_px": 5}
    assert cells == section["cells"]
    assert image.shape == (2, 96, 96)
    assert "P1 well A01 site 1" in where


def test_illumination_is_a_quick_estimate_and_the_page_says_so(here, capsys):
    write_config(here, TOY_CONFIG)
    plateline("preview", "P1", "--wells", "A01", "--methods", "otsu", capsys=capsys)
    assert "a quick estimate by basic from 9 fields; a run takes up to 96" in page(here)


def test_the_same_seed_shows_the_same_and_another_may_not(here, capsys):
    seen = []
    for seed in ("0", "0", "1", "2", "3"):
        plateline("preview", "P1", "--methods", "otsu", "--seed", seed, capsys=capsys)
        seen.append(tuple(re.findall(r"<h3>(\w+)", page(here))))
    assert seen[0] == seen[1]
    assert len(set(seen)) > 1


def test_a_field_that_cannot_be_read_is_named_and_the_others_are_shown(here, capsys):
    truncate(here / "images" / "P1" / "A01_z0_c1.tif")
    plateline("preview", "P1", "--wells", "A01", "B01", "--methods", "otsu", capsys=capsys)
    assert re.search(r"Field A01 site 1 time 0 could not be read: .*A01_z0_c1\.tif", page(here))
    assert re.findall(r"<h3>(\w+)", page(here)) == ["B01"]
    for flat in ({"method": "none"}, {"method": "basic"}):
        write_config(here, TOY_CONFIG | {"flatfield": flat})
        said = refused("preview", "P1", "--wells", "A01", "--methods", "otsu", capsys=capsys)
        assert re.search(r"none of the 1 fields chosen can be read: A01 site 1 time 0: .*A01_z0_c1\.tif", said)


def test_a_method_that_does_not_run_leaves_the_others(here, capsys):
    configure(here, method="lab:broken")
    plateline("preview", "P1", "--wells", "A01", capsys=capsys)
    assert re.search(r"The configured method lab:broken did not run\.</b> .*lack", page(here))
    assert "<tr><td>otsu</td>" in page(here)
    assert "no method runs: lab:broken: " in refused("preview", "P1", "--methods", "lab:broken", capsys=capsys)


def test_methods_of_other_packages_run_only_where_they_are_named(here, capsys):
    plateline("preview", "P1", "--wells", "A01", capsys=capsys)
    tried = re.findall(r"<tr><td>([\w-]+)", page(here)) + re.findall(r"<b>([\w-]+)</b> did not run", page(here))
    assert tried[0] == "otsu"
    assert "adaptive" in tried
    assert not {"cellpose", "stardist_plugin", "instanseg"} & set(tried)


def test_a_field_without_objects_is_shown_as_such(here, capsys):
    plateline("preview", "P1", "--wells", "A01", "--methods", "lab:nothing", capsys=capsys)
    assert "0 nuclei" in page(here)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["P9"], r"plate 'P9' is not in use; the plate sheet has P1"),
        (["P1", "--wells", "H12"], r"plate P1 has no images of well H12; it has A01, A02"),
        (["P1", "--wells", "Z99"], r"well 'Z99' is not on a plate of 96 wells"),
        (["P1", "--methods", "ostu"], r"segment: unknown method 'ostu'; known are flow"),
    ],
)
def test_what_there_is_not_is_refused(here, capsys, arguments, message):
    assert re.search(message, refused("preview", *arguments, capsys=capsys))
    assert not (here / "results").exists()


def test_a_channel_that_the_plate_lacks_is_refused(here, capsys):
    changed = TOY_CONFIG | {"ingest": TOY_CONFIG["ingest"] | {"plate": {}}}
    write_config(here, changed)
    assert "plate P1 has no channel 'DNA'; it has 1, 2" in refused("preview", "P1", capsys=capsys)


def test_a_source_that_is_gone_before_it_was_ingested_is_refused_by_the_sheet(here, capsys):
    shutil.rmtree(here / "images")
    assert "source: no folder 'images/P1'" in refused("preview", "P1", capsys=capsys)


def test_a_plate_that_is_neither_there_nor_ingested_has_no_pixels(here):
    line = {"plate": "P1", "source": "images/P9", "parts": "2"}
    with pytest.raises(ConfigError, match=r"images/P9 is gone and it is not ingested: no results/ingest/P1/part-1"):
        pixels.open_plate({}, line)


def test_a_folder_that_is_no_campaign_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert re.search(r"no file config/config\.yaml in .*campaign folder", refused("preview", "P1", capsys=capsys))


def test_a_config_that_is_no_yaml_is_refused(here, capsys):
    (here / "config" / "config.yaml").write_text("segment: [")
    assert "config/config.yaml is no YAML: " in refused("preview", "P1", capsys=capsys)


# --- the gate


def gate():
    """What the run asks before the graph is built."""
    config, sheet = campaign.read()
    check.check_approved(sheet, config)


WAITS = r"segment\.approve: plate P1: segmentation is not approved as it is configured now; run plateline preview P1,"


def test_a_run_waits_for_the_approval_of_what_the_preview_showed(here, capsys):
    configure(here, approve=True)
    with pytest.raises(ConfigError, match=WAITS):
        gate()
    assert "there is no preview of method otsu as it is configured now" in refused(
        "preview", "P1", "--approve", capsys=capsys
    )
    plateline("preview", "P1", "--wells", "A01", "--methods", "otsu", capsys=capsys)
    assert "The run waits" in page(here)
    with pytest.raises(ConfigError, match=WAITS):
        gate()
    assert "approved as it is configured now" in plateline("preview", "P1", "--approve", capsys=capsys)
    gate()


@pytest.mark.parametrize(
    "change",
    [{"otsu": {"min_area_px": 41}}, {"cell_channels": []}, {"cells": {"grow_px": 3}}, {"method": "lab:nothing"}],
)
def test_a_changed_section_needs_a_new_approval(here, capsys, change):
    configure(here, approve=True)
    plateline("preview", "P1", "--wells", "A01", "--methods", "otsu", capsys=capsys)
    plateline("preview", "P1", "--approve", capsys=capsys)
    configure(here, approve=True, **change)
    with pytest.raises(ConfigError, match=WAITS):
        gate()
    assert "there is no preview of method" in refused("preview", "P1", "--approve", capsys=capsys)


def test_an_approval_is_of_one_plate_and_of_its_own_section(here, capsys):
    configure(here, approve=True)
    sheet = {"P1": {"segment.otsu.smooth_px": "2"}, "P2": {"source": "images/P1"}, "P3": {"use": "no: late"}}
    write_sheet(here, sheet)
    with pytest.raises(ConfigError, match=r"plate P1 and 1 more plates: segmentation is not approved"):
        gate()
    for plate in ("P1", "P2"):
        plateline("preview", plate, "--wells", "A01", "--methods", "otsu", capsys=capsys)
        plateline("preview", plate, "--approve", capsys=capsys)
    gate()
    one, other = ((here / f"results/preview/{plate}.approved").read_text() for plate in ("P1", "P2"))
    assert one != other
    write_sheet(here, sheet | {"P1": {}})
    with pytest.raises(ConfigError, match=r"plate P1: segmentation is not approved"):
        gate()


def test_a_preview_without_the_configured_method_cannot_be_approved(here, capsys):
    configure(here, approve=True)
    plateline("preview", "P1", "--wells", "A01", "--methods", "lab:nothing", capsys=capsys)
    assert json.loads((here / PREVIEW / "preview.json").read_text()) == {"approves": ""}
    assert "no preview of method otsu" in refused("preview", "P1", "--approve", capsys=capsys)


def test_the_gate_is_open_by_default_and_changes_no_section(here):
    gate()
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    open_, shut = (settings.fill_defaults(TOY_CONFIG, schema) for _ in range(2))
    shut["segment"] = shut["segment"] | {"approve": True}
    assert settings.section(open_, "segment", "part") == settings.section(shut, "segment", "part")
