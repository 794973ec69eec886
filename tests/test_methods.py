"""Every method by name or import path, and a message with the known names for what is neither."""

import sys

import pytest

from plateline.errors import ConfigError
from plateline.methods import TABLES, load, target

NAMES = [(stage, name) for stage, table in TABLES.items() for name in table]


@pytest.mark.parametrize(("stage", "name"), NAMES)
def test_every_known_name_loads(stage, name):
    found = load(stage, name)
    assert callable(found) or stage == "ingest"
    assert target(stage, name) == TABLES[stage][name]


@pytest.mark.parametrize("stage", TABLES)
@pytest.mark.parametrize(
    "name", ["otzu", "", ":otsu", ".otsu", "lab.", "lab module:x", "lab.module:", "../lab:x", "a:b:c"]
)
def test_what_is_neither_name_nor_import_path_is_refused(stage, name):
    known = ", ".join(TABLES[stage])
    with pytest.raises(ConfigError, match=f"{stage}: unknown method .*; known are {known}, or an import path like"):
        target(stage, name)
    with pytest.raises(ConfigError, match=f"{stage}: unknown method"):
        load(stage, name)


@pytest.mark.parametrize("name", ["lab_absent.module:x", "plateline.segment:absent", "plateline.absent"])
def test_an_import_path_that_leads_nowhere_is_refused(name):
    with pytest.raises(ConfigError, match=rf"segment: method '{name}' cannot be loaded \(.*\); known are flow"):
        load("segment", name)


def test_a_stage_without_a_table_takes_import_paths_only():
    assert target("qc", "lab.module:name") == "lab.module:name"
    with pytest.raises(ConfigError, match="qc: unknown method 'otsu'"):
        target("qc", "otsu")


def test_a_lab_adds_a_method_beside_its_config(tmp_path, monkeypatch):
    (tmp_path / "lab_method_here.py").write_text("def own(image):\n    return image\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert load("segment", "lab_method_here:own")(3) == 3
    assert load("ingest", "lab_method_here:own").__name__ == "own"
    assert load("ingest", "lab_method_here:own") is load("segment", "lab_method_here:own")
    sys.modules.pop("lab_method_here")
