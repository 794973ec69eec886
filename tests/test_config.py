"""The params of every rule: exactly what it depends on; digests that see code and not comments; the guard of a run."""

import ast
import base64
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from plateline import config, digests, methods, run
from plateline.errors import ConfigError, EditedDuringRun

ROOT = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
OWN = config.fill_defaults(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()), SCHEMA)
LINE = {"plate": "P1", "batch": "2", "source": "images", "layout": "pattern", "platemap": "map.csv", "shape": "96"}


def keys_of(value):
    """Keys of a nested dictionary, level by level, in their order."""
    if isinstance(value, dict):
        yield list(value)
        for item in value.values():
            yield from keys_of(item)


# --- the sheet


def test_the_sheet_is_text_without_blanks_and_comments(tmp_path):
    path = tmp_path / "plates.tsv"
    path.write_bytes("\ufeffplate\tbatch\tsegment.cells.grow_px\n# a comment\tx\nP1\t 2 \t\n\nµ\t\t12\n".encode())
    assert config.read_sheet(path) == [{"plate": "P1", "batch": "2"}, {"plate": "µ", "segment.cells.grow_px": "12"}]


def test_a_missing_sheet_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"sheet: no file .*absent.tsv; expected a tab-separated table with a line per"
    ):
        config.read_sheet(tmp_path / "absent.tsv")


def test_a_line_with_more_cells_than_the_header_is_refused(tmp_path):
    path = tmp_path / "plates.tsv"
    path.write_text("plate\tbatch\nP1\t1\nP2\t1\tno: broken\n")
    with pytest.raises(ConfigError, match=r"sheet .*plates.tsv, plate P2: more cells than the header has columns"):
        config.read_sheet(path)
    path.write_text("plate\tbatch\nP1\t1\t\n")
    assert config.read_sheet(path) == [{"plate": "P1", "batch": "1"}]


# --- defaults and overrides


def test_defaults_fill_what_is_missing_at_every_level():
    schema = {
        "properties": {
            "a": {"default": 1},
            "b": {"default": {}, "properties": {"c": {"default": [1]}, "d": {"type": "string"}}},
            "e": {"properties": {"f": {"default": 2}}},
        }
    }
    assert config.fill_defaults({}, schema) == {"a": 1, "b": {"c": [1]}}
    assert config.fill_defaults({"a": 5, "b": {"d": "x"}, "z": 0}, schema) == {
        "a": 5,
        "b": {"d": "x", "c": [1]},
        "z": 0,
    }
    assert config.fill_defaults({"e": {}}, schema) == {"a": 1, "b": {"c": [1]}, "e": {"f": 2}}
    given = {"b": {}}
    config.fill_defaults(given, schema)
    assert given == {"b": {}}


def test_a_column_with_a_dot_overrides_that_key_for_its_plate():
    line = LINE | {
        "segment.cells.grow_px": "20",
        "profile.exclude_border": "false",
        "profile.exclude_flags": '["blank"]',
        "segment.nuclei_channel": "GFP",
        "segment.method": "lab.module:x",
    }
    merged = config.override(OWN, line)
    assert merged["segment"]["cells"]["grow_px"] == 20
    assert merged["profile"]["exclude_border"] is False
    assert merged["profile"]["exclude_flags"] == ["blank"]
    assert merged["segment"]["nuclei_channel"] == "GFP"
    assert OWN["segment"]["cells"]["grow_px"] == 12
    assert config.override(OWN, LINE) is OWN  # a dry run asks thousands of times, and most plates override nothing
    assert merged["assay"] is OWN["assay"]
    assert config.method_of(OWN, "segment", line) == "lab.module:x"
    assert config.section(OWN, "segment", "part", line)["options"] == {}


@pytest.mark.parametrize(
    "column", ["segment.otsu.grow", "segmen.otsu.grow_px", "sheet.x", "segment.method.x", "segment.cells.grow_px.y"]
)
def test_an_override_of_no_key_is_refused(column):
    with pytest.raises(ConfigError, match=rf"plate sheet, plate P1: column '{column}' is no key of the config"):
        config.override(OWN, LINE | {column: "1"})


# --- sections


@pytest.mark.parametrize(
    ("stage", "grain"), [(stage, grain) for stage, all_ in config.STAGES.items() for grain in all_]
)
def test_every_section_is_sorted_at_every_level(stage, grain):
    found = config.section(OWN, stage, grain, LINE)
    assert all(keys == sorted(keys) for keys in keys_of(found))
    backwards = dict(reversed(list(OWN.items())))
    backwards[stage] = dict(reversed(list(OWN.get(stage, {}).items())))
    assert json.dumps(config.section(backwards, stage, grain, LINE)) == json.dumps(found)


def test_the_block_of_the_chosen_method_only():
    found = config.section(OWN, "segment", "part", LINE)
    assert found == {
        "cell_channels": ["FKHR"],
        "cells": OWN["segment"]["cells"],
        "ensemble": [],
        "method": "otsu",
        "nuclei_channel": "DNA",
        "options": OWN["segment"]["otsu"],
        "tile_px": 0,
        "modality": "fluorescence",
    }
    assert "none" not in config.section(OWN, "flatfield", "plate", LINE)
    other = {**OWN, "flatfield": OWN["flatfield"] | {"method": "none"}}
    assert config.section(other, "flatfield", "plate", LINE)["options"] == {}
    assert "median" not in config.section(other, "flatfield", "plate", LINE)


def test_a_custom_method_has_the_custom_block():
    own = OWN["segment"] | {"method": "lab.module:x", "custom": {"a": 1}}
    assert config.section({**OWN, "segment": own}, "segment", "part", LINE)["options"] == {"a": 1}
    layout = {**OWN, "ingest": OWN["ingest"] | {"custom": {"b": 2}}}
    assert config.section(layout, "ingest", "part", LINE | {"layout": "lab.module"})["options"] == {"b": 2}
    assert "regex" in config.section(layout, "ingest", "part", LINE)["options"]


def test_each_method_of_an_ensemble_has_its_own_block_and_weights(tmp_path):
    weights = tmp_path / "net.safetensors"
    own = OWN["segment"] | {"flow": {"model": str(weights), "steps": 9}, "custom": {"a": 1}, "stardist": {"overlap": 1}}
    own["ensemble"] = ["flow", "lab:x"]
    found = []
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        found.append(config.section({**OWN, "segment": own}, "segment", "part", LINE))
    first, second = (section.pop("ensemble") for section in found)
    assert first[0] | {"model_digest": ""} == {"method": "flow", "options": own["flow"], "model_digest": ""}
    assert first[1] == second[1] == {"method": "lab:x", "options": {"a": 1}}
    assert first[0]["model_digest"] != second[0]["model_digest"]
    without = config.section(OWN, "segment", "part", LINE)
    assert found[0] == found[1] == {key: value for key, value in without.items() if key != "ensemble"}
    assert config.members_of({"classify": {"ensemble": 5}}, "classify") == []


def test_the_block_of_the_own_grain_only():
    assert config.section(OWN, "qc", "part", LINE) == {"background_percentile": 5}
    assert config.section(OWN, "qc", "plate", LINE) == OWN["qc"]["plate"]
    plate, screen = config.section(OWN, "report", "plate", LINE), config.section(OWN, "report", "screen")
    assert plate == {"gallery_px": 320, "main_readout": "log2_ratio"}
    assert screen == {"main_readout": "log2_ratio", "top_treatments": 20}
    assert "projection" not in config.section(OWN, "ingest", "plate", LINE)
    assert "channels" not in config.section(OWN, "ingest", "part", LINE)


def test_facts_of_the_sheet_go_to_the_rules_that_need_them():
    assert config.section(OWN, "platemap", "plate", LINE) == {
        "batch": "2",
        "columns": {},
        "controls": {},
        "shape": "96",
        "unit": "",
    }
    assert config.section(OWN, "ingest", "plate", LINE)["source"] == "images"
    assert "shape" not in config.section(OWN, "ingest", "part", LINE)
    assert config.section(OWN, "segment", "part", LINE) == config.section(OWN, "segment", "part")


def test_an_override_reaches_its_plate_and_its_stage_only():
    line = LINE | {"segment.cells.grow_px": "20"}
    for stage, grains in config.STAGES.items():
        for grain in grains:
            same = config.section(OWN, stage, grain, line) == config.section(OWN, stage, grain, LINE)
            assert same == ((stage, grain) != ("segment", "part"))


def test_swapped_values_are_noticed():
    swapped = OWN["segment"]["otsu"] | {"min_area_px": 5, "min_distance_px": 40}
    before = config.section(OWN, "segment", "part", LINE)
    after = config.section({**OWN, "segment": OWN["segment"] | {"otsu": swapped}}, "segment", "part", LINE)
    assert json.dumps(before) != json.dumps(after)


def test_new_weights_of_a_model_count_as_a_change(tmp_path):
    weights = tmp_path / "unet.safetensors"
    own = OWN["segment"] | {"method": "lab.module:x", "custom": {"model": str(weights)}}
    found = []
    for content in (None, b"one", b"two"):
        if content:
            weights.write_bytes(content)
        found.append(config.section({**OWN, "segment": own}, "segment", "part", LINE)["model_digest"])
    assert found[0] == "missing"
    assert len(set(found)) == 3
    assert "model_digest" not in config.section(OWN, "segment", "part", LINE)


def test_a_model_is_read_once_by_a_process_until_it_changes(tmp_path, monkeypatch):
    weights = tmp_path / "unet.safetensors"
    weights.write_bytes(b"one")
    first, of = config.digest_file(weights), weights.stat()
    read, digest = [], config.digest_file
    monkeypatch.setattr(config, "digest_file", lambda path: read.append(path) or digest(path))
    own = {"segment": OWN["segment"] | {"method": "lab.module:x", "custom": {"model": str(weights)}}}

    def found(now):
        monkeypatch.setattr(config.time, "time", lambda: now)
        return [config.section(own, "segment", "part", LINE)["model_digest"] for _ in range(3)]

    assert found(of.st_ctime + 0.5) == [first] * 3
    assert len(read) == 3  # too new to be trusted
    assert found(of.st_ctime + 60) == [first] * 3
    assert len(read) == 4
    while weights.stat().st_ctime_ns == of.st_ctime_ns:  # the clock of a file system ticks every few milliseconds
        weights.write_bytes(b"two")
    os.utime(weights, ns=(of.st_atime_ns, of.st_mtime_ns))  # of the same size and time as before
    assert first not in found(of.st_ctime + 60)
    assert len(read) == 5


def test_the_method_of_a_stage():
    assert config.method_of(OWN, "ingest", LINE) == "pattern"
    assert config.method_of(OWN, "ingest") is None
    assert config.method_of(OWN, "segment") == "otsu"
    assert config.method_of(OWN, "qc", LINE) is None
    assert config.method_of(OWN, "ledger", LINE) is None


# --- digests of the code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package whose code may be edited, and a working folder beside it."""
    copy = tmp_path / "plateline"
    shutil.copytree(digests.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "PACKAGE", copy)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "campaign").mkdir()
    monkeypatch.chdir(tmp_path / "campaign")
    digests.code_digest.cache_clear()
    yield copy
    digests.code_digest.cache_clear()


def all_digests():
    """Digest of every stage with its method of the demo, from the files as they are now."""
    digests.code_digest.cache_clear()
    return {stage: digests.code_digest(stage, config.method_of(OWN, stage, LINE)) for stage in config.STAGES}


def changed_by(edit):
    before = all_digests()
    edit()
    after = all_digests()
    return {stage for stage in before if before[stage] != after[stage]}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def append(path, text):
    path.write_text(path.read_text() + text)


def test_a_module_of_several_stages_is_parsed_once(package, monkeypatch):
    digests._read_module.cache_clear()
    parsed, parse = [], digests.ast.parse
    monkeypatch.setattr(digests.ast, "parse", lambda text: parsed.append(text) or parse(text))
    all_digests()
    all_digests()
    assert len(parsed) == len(set(parsed))
    assert 50 < len(parsed) <= len(list(package.rglob("*.py")))


def parsed_by_a_new_process(monkeypatch):
    """Digests as a process makes them that starts now, and the texts that it had to parse for them."""
    digests._read_module.cache_clear()
    parsed, parse = [], ast.parse
    with monkeypatch.context() as patch:
        patch.setattr(digests.ast, "parse", lambda text: parsed.append(text) or parse(text))
        return all_digests(), parsed


def test_a_later_process_parses_only_what_was_edited(package, monkeypatch):
    first, parsed = parsed_by_a_new_process(monkeypatch)
    assert parsed
    assert parsed_by_a_new_process(monkeypatch) == (first, [])
    path = package / "ledger.py"
    before, changed = path.stat(), path.read_text().replace("import pandas", "import pandaz", 1)
    path.write_text(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size and time as before
    second, parsed = parsed_by_a_new_process(monkeypatch)
    assert parsed == [changed]
    assert second["ledger"] != first["ledger"]
    append(path, "# a comment\n")
    assert parsed_by_a_new_process(monkeypatch)[0] == second


def test_a_note_of_a_module_that_is_broken_or_of_another_reader_is_written_anew(package, monkeypatch):
    expected, parsed = parsed_by_a_new_process(monkeypatch)
    notes = sorted(package.rglob("__pycache__/*.json"))
    assert len(notes) == len(parsed)
    notes[0].write_bytes(notes[0].read_bytes()[:100])
    notes[1].write_bytes(b"\x00\xff")
    assert len(parsed_by_a_new_process(monkeypatch)[1]) == 2
    monkeypatch.setattr(digests, "_reader", lambda: "another")
    assert parsed_by_a_new_process(monkeypatch) == (expected, parsed)
    assert parsed_by_a_new_process(monkeypatch) == (expected, [])
    assert not list(package.rglob("*.draft"))


def test_a_clone_that_cannot_be_written_is_read_without_notes(package, monkeypatch):
    for folder in {path.parent for path in package.rglob("*.py")}:
        (folder / "__pycache__").write_text("in the way")
    first = parsed_by_a_new_process(monkeypatch)
    assert first == parsed_by_a_new_process(monkeypatch)
    assert first[1]


def test_a_digest_is_the_same_twice(package):
    assert all_digests() == all_digests()
    assert {len(digest) for digest in all_digests().values()} == {32}
    assert len(set(all_digests().values())) == len(config.STAGES)


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("segment/classical.py", {"segment"}),
        ("segment/cells.py", {"segment"}),
        ("qc/plate.py", {"qc"}),
        ("ingest/index.py", {"ingest"}),
        ("ingest/field.py", {"ingest"}),
        ("layouts/pattern.py", {"ingest"}),
        ("profile/wells.py", {"profile"}),
        ("profile/__init__.py", {"profile"}),
        ("readouts.py", {"profile"}),
        ("hits/dose.py", {"hits", "report"}),
        ("report/canvas.py", {"report"}),
        ("ledger.py", {"ledger"}),
        ("methods.py", set()),
        ("log.py", set()),
        ("store/plate.py", set()),
        ("store/tables.py", set()),
        ("config.py", set()),
        ("cli/campaign.py", set()),
        ("compute/cluster.py", set()),
    ],
)
def test_an_edit_of_the_code_changes_the_stages_that_run_it(package, file, stages):
    assert changed_by(lambda: append(package / file, "\nEDITED = 1\n")) == stages


def test_shared_ground_changes_every_stage_that_stands_on_it(package):
    changed = changed_by(lambda: append(package / "identity.py", "\nEDITED = 1\n"))
    assert {"ingest", "platemap", "profile", "correct", "hits", "report", "ledger"} <= changed


def test_comments_docstrings_and_layout_change_nothing(package):
    def comment():
        for path in package.rglob("*.py"):
            append(path, "\n\n\n# a comment\n")
        edit(package / "segment" / "classical.py", '"""', '"""Another beginning. ')
        append(package / "qc/plate.py", "")
        edit(package / "ingest/field.py", "    return levels\n", "    # as they are\n    return  (levels)\n")
        edit(package / "ingest/index.py", '"""What all fields of a plate share."""', '"""Edited."""')

    assert changed_by(comment) == set()


def test_a_docstring_alone_in_its_body_changes_nothing(package):
    append(package / "errors.py", '\n\nclass Other(Exception):\n    """One."""\n')
    append(package / "errors.py", '\n\ndef other():\n    """One."""\n')
    assert changed_by(lambda: edit(package / "errors.py", '"""One."""', '"""Two."""')) == set()


def test_a_new_format_of_the_store_changes_every_stage(package):
    edited = changed_by(lambda: edit(package / "store" / "__init__.py", "\nFORMAT = 1\n", "\nFORMAT = 2\n"))
    assert edited == set(config.STAGES)


def test_imports_inside_functions_and_of_packages_count(package):
    append(package / "flatfield.py", "\n\ndef late():\n    from plateline import tiles_of_lab\n")
    append(package / "qc/plate.py", "\n\ndef late():\n    import plateline.deep.inner as inner\n")
    (package / "deep").mkdir()
    for name in ("tiles_of_lab.py", "deep/__init__.py", "deep/inner.py"):
        (package / name).write_text("X = 1\n")
    assert changed_by(lambda: append(package / "tiles_of_lab.py", "Y = 1\n")) == {"flatfield"}
    assert changed_by(lambda: append(package / "deep" / "inner.py", "Y = 1\n")) == {"qc"}
    assert changed_by(lambda: append(package / "deep" / "__init__.py", "Y = 1\n")) == {"qc"}


def test_only_the_chosen_methods_module_counts(package, monkeypatch):
    (package / "other.py").write_text("def otsu(): pass\n")
    monkeypatch.setitem(methods.SEGMENTERS, "other", "plateline.other:otsu")

    def of(method):
        digests.code_digest.cache_clear()
        return digests.code_digest("segment", method)

    before = of("otsu"), of("other"), of(None)
    append(package / "other.py", "EDITED = 1\n")
    after = of("otsu"), of("other"), of(None)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_the_modules_of_an_ensemble_count_too(package, monkeypatch):
    (package / "other.py").write_text("def otsu(): pass\n")
    monkeypatch.setitem(methods.SEGMENTERS, "other", "plateline.other:otsu")
    Path("lab_member.py").write_text("def method(image):\n    return image\n")

    def of(*names):
        digests.code_digest.cache_clear()
        return digests.code_digest("segment", *names)

    before = of("otsu"), of("otsu", "other"), of("otsu", "lab_member:method")
    append(package / "other.py", "EDITED = 1\n")
    append(Path("lab_member.py"), "EDITED = 1\n")
    after = of("otsu"), of("otsu", "other"), of("otsu", "lab_member:method")
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]
    own = {"segment": {"method": "otsu", "ensemble": ["lab_member:method", "other"]}}
    assert [file.name for file in config.method_files(own)] == ["lab_member.py"]


@pytest.mark.parametrize("with_init", [True, False, None])
def test_a_labs_own_file_counts(package, with_init):
    folder = Path("lab_folder") if with_init is not None else Path()
    folder.mkdir(exist_ok=True)
    if with_init:
        (folder / "__init__.py").write_text("")
    file = folder / f"lab_own_{with_init}.py"
    file.write_text("def method(image):\n    return image\n")
    name = ".".join(file.with_suffix("").parts) + ":method"

    def of():
        digests.code_digest.cache_clear()
        return digests.code_digest("segment", name)

    first = of()
    append(file, "# a comment\n")
    assert of() == first
    append(file, "EDITED = 1\n")
    assert of() != first
    for module in [module for module in sys.modules if module.startswith("lab_folder")]:
        del sys.modules[module]


@pytest.mark.parametrize("name", ["lab_absent:method", "lab_absent.module:method"])
def test_a_labs_missing_file_is_refused(package, name):
    module = name.partition(":")[0]
    with pytest.raises(
        ConfigError, match=f"method module '{module}' is not found; expected an installed one or a file"
    ):
        digests.code_digest("segment", name)


def test_an_unknown_method_has_no_digest(package):
    with pytest.raises(ConfigError, match="segment: unknown method 'otzu'"):
        digests.code_digest("segment", "otzu")


# --- the run


@pytest.fixture
def begun(package, tmp_path):
    """The package of a run that has begun."""
    Path("config.yaml").write_text("a: 1")
    Path("plates.tsv").write_text("plate\n")
    run.begin_run(["config.yaml", "plates.tsv"], {"a": 1})
    return package


def test_a_run_says_what_it_rests_on(begun):
    recorded = run.read_run()
    assert recorded["files"]["config.yaml"] == digests.digest_file("config.yaml")
    assert str(begun / "store" / "plate.py") in recorded["files"]
    assert recorded["versions"]["python"] == sys.version.split()[0]
    assert {"plateline", "snakemake", "numpy", "zarr"} <= set(recorded["versions"])
    run.check_run()


def test_a_file_edited_or_gone_during_the_run_is_named(begun):
    append(begun / "segment" / "classical.py", "# even a comment\n")
    Path("plates.tsv").unlink()
    with pytest.raises(
        EditedDuringRun, match=r"edited while the run was on: plates.tsv, .*classical.py; start snakemake"
    ):
        run.check_run()
    assert digests.digest_file("plates.tsv") == "missing"


def test_what_snakemake_has_no_record_of_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long = "P" * 240
    names = [
        "segment/P1/part-1.parquet",
        "segment/P1/part-1.ledger.parquet",
        f"profile/{long}.parquet",
        "report/P1/index.html",
        "ledger.parquet",
    ]
    (tmp_path / "results/qc/P1").mkdir(parents=True)
    (tmp_path / "results/qc/P1/fields.parquet").touch()
    os.utime(tmp_path / "results/qc/P1/fields.parquet", (0, 0))  # of an earlier run
    others = ["run.json", "mine/wells.parquet", "segment/P1/.part-1/key/A01/fields.parquet", "report/P1/A01.png"]
    for name in others + names:
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert run.unrecorded() == sorted(Path("results", name) for name in names)
    # As Snakemake names its notes: base 64, cut to what a file system takes.
    for kind, name in (("metadata", names[0]), ("incomplete", names[1]), ("metadata", names[2])):
        note = base64.urlsafe_b64encode(f"results/{name}".encode()).decode()
        note = Path(f"@{note[:254]}", note[254:]) if len(note) > 254 else Path(note)
        (tmp_path / ".snakemake" / kind / note).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".snakemake" / kind / note).touch()
    assert run.unrecorded() == [Path("results/ledger.parquet"), Path("results/report/P1/index.html")]
    # A note of an earlier config is none; one that only another clock calls earlier is.
    later = (tmp_path / "results" / names[0]).stat().st_mtime + 100
    os.utime(tmp_path / "results" / names[0], (later, later))
    note = tmp_path / ".snakemake/metadata" / base64.urlsafe_b64encode(f"results/{names[0]}".encode()).decode()
    for ended, found in ((later - 50, True), (later, False)):
        note.write_text(json.dumps({"endtime": ended}))
        assert (Path("results", names[0]) in run.unrecorded()) is found
    (tmp_path / "results/run.json").unlink()
    assert run.unrecorded() == []


def test_a_job_by_hand_has_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.read_run() == {}
    run.check_run()


def test_orphans_are_what_no_rule_makes(tmp_path):
    made = [
        "ingest/P1/images.parquet",
        "ingest/P1/part-1.parquet",
        "ingest/P1/part-2.ledger.parquet",
        "segment/P1/part-2.fields.parquet",
        "profile/P1.parquet",
        "profile/P1.ledger.parquet",
        "assay/P1.positions.parquet",
        "correct/profiles.parquet",
        "ledger.parquet",
        "ingest/P1/.part-3/key/A01/fields.parquet",
        "images/P1.zarr/zarr.json",
    ]
    orphans = [
        "ingest/P1/part-3.parquet",
        "ingest/P1/part-12.ledger.parquet",
        "measure/P2/part-1.parquet",
        "profile/P2.parquet",
        "assay/P2.positions.parquet",
        "profile/P2.ledger.parquet",
        "images/P2.zarr",
    ]
    for name in [*made, *orphans]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if path.suffix == ".zarr" else path.write_text("")
    found = run.orphans({"P1": 2}, root=tmp_path)
    assert found == sorted(tmp_path / name for name in orphans)
    assert run.orphans({"P1": 2}, root=tmp_path / "absent") == []


def test_a_source_is_compared_with_what_was_indexed(tmp_path):
    source, results = tmp_path / "images", tmp_path / "results"
    plate = {"plate": "P1", "source": str(source)}
    assert run.grown(plate, results) == ""
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a.tif").touch()
    (results / "ingest" / "P1").mkdir(parents=True)
    state = run.source_state(source)
    assert state["files"] == 1
    (results / "ingest" / "P1" / "source.json").write_text(json.dumps(state))
    assert run.grown(plate, results) == ""
    (source / "b.tif").touch()
    assert "has 2 files, 1 when it was indexed" in run.grown(plate, results)
    (source / "b.tif").unlink()
    os.utime(source / "sub" / "a.tif", (1, state["newest"] + 60))
    assert "or newer ones" in run.grown(plate, results)
    shutil.rmtree(source)
    assert run.grown(plate, results) == ""


def test_only_a_plate_from_a_table_depends_on_how_tables_are_read():
    block = {"profile": {"method": "median", "imported": {"file": "", "rows": "auto"}}}
    sheet = {"plate": "P1", "source": "images", "batch": "2", "barcode": "", "shape": "96", "layout": "pattern"}
    assert "imported" not in config.section(block, "profile", "plate", sheet)
    assert "source" not in config.section(block, "profile", "plate", sheet)
    found = config.section(block, "profile", "plate", sheet | {"layout": "profiles"})
    assert found["imported"] == {"file": "", "rows": "auto"}
    assert (found["source"], found["batch"], found["shape"]) == ("images", "2", "96")
    assert "imported" not in config.section(block, "profile", "plate")


def test_the_door_of_tables_counts_for_the_plates_that_use_it():
    plain = digests.code_digest("profile", "median")
    assert digests.code_digest("profile", "median", "plateline.tables") != plain
    assert digests.code_digest("profile", "median", None) == plain


# --- models


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ({"method": "otsu", "otsu": {}}, ""),
        ({"method": "flow", "flow": {"model": ""}}, str(config.SHIPPED / "flow.safetensors")),
        (
            {"method": "boundary", "boundary": {"model": "boundary-wide"}},
            str(config.SHIPPED / "boundary-wide.safetensors"),
        ),
        ({"method": "flow", "flow": {"model": "fit"}}, config.FITTED),
        ({"method": "flow", "flow": {"model": "own.safetensors"}}, "own.safetensors"),
        ({"method": "lab:segment", "custom": {"model": "own.pt"}}, "own.pt"),
    ],
)
def test_a_model_is_shipped_trained_or_given(segment, expected):
    assert config.model_of({"segment": segment}, "segment") == expected


def test_the_models_of_an_ensemble_follow_that_of_the_method():
    blocks = {"flow": {"model": "fit"}, "distance": {"model": ""}, "otsu": {}, "custom": {"model": "own.pt"}}
    shipped = str(config.SHIPPED / "distance.safetensors")
    for method, ensemble, expected in (
        ("otsu", [], []),
        ("otsu", ["distance"], [shipped]),
        ("distance", ["otsu", "lab:net", "flow"], [shipped, "own.pt", config.FITTED]),
    ):
        own = {"segment": blocks | {"method": method, "ensemble": ensemble}}
        assert config.models_of(own, "segment") == expected
    assert config.models_of(own, "segment", {"segment.ensemble": '["otsu"]'}) == [shipped]


def test_a_training_depends_on_its_own_block_alone_and_what_uses_it_on_the_file():
    own = {"segment": {"method": "flow", "flow": {"model": "fit"}, "fit": {"steps": 3}, "nuclei_channel": "DNA"}}
    assert config.section(own, "segment", "fit") == {"steps": 3}
    assert "model_digest" not in config.section(own, "segment", "part")
    assert "fit" not in config.section(own, "segment", "part")


def test_training_files_are_the_tiffs_of_a_folder(tmp_path):
    for name in ("b.tif", "a.tiff", "c.png"):
        (tmp_path / name).touch()
    assert config.files_of(str(tmp_path)) == [f"{tmp_path}/a.tiff", f"{tmp_path}/b.tif"]
    assert config.files_of("") == []
