"""The house holds: floors, rules and scripts of one name, closed schemas, one set of pins."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from plateline import config, digests, methods, segment, store
from plateline.store import tables

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "workflow"
PACKAGE = WORKFLOW / "plateline"
MODULES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
SCRIPTS = {path.stem: path for path in sorted((WORKFLOW / "scripts").glob("*.py"))}
RULES = "".join(path.read_text() for path in sorted((WORKFLOW / "rules").glob("*.smk")))
BLOCKS = {
    match[1]: match[0]
    for path in sorted((WORKFLOW / "rules").glob("*.smk"))
    for match in re.finditer(r"^rule (\w+):\n(?:(?:[ \t].*)?\n)*", path.read_text() + "\n", re.MULTILINE)
}
CONFIG, PLATES = (
    yaml.safe_load((WORKFLOW / "schemas" / f"{name}.schema.yaml").read_text()) for name in ("config", "plates")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DOORS = (
    "store/",
    "layouts/",
    "tables/",
    "compute/",
    "config.py",
    "digests.py",
    "run.py",
    "sheet.py",
    "methods.py",
    "log.py",
    "cli/",
    "check/",
    "segmenters.py",
)
GROUND = [name for name in MODULES if not name.startswith(DOORS)]
# What every cluster job imports before anything else.
LIGHT = ("config.py", "digests.py", "run.py", "sheet.py", "methods.py", "errors.py", "identity.py", "readouts.py")
NUMBERS = {"numpy", "scipy", "skimage", "sklearn", "pandas", "numba", "dask", "cc3d", "edt"}
OPENS_FILES = {"pathlib", "os", "io", "shutil", "tempfile", "subprocess", "socket", "glob", "csv", "pickle", "urllib"}
# Packages that a lab may have: imported inside a function, when a method of theirs is named; never pinned.
OPTIONAL = {"segment/plugins.py": {"cellpose", "stardist", "instanseg"}}
TELLS = {"logging", "warnings", "sys", "importlib"}
TECHNOLOGY = {
    "store/files.py": {"numpy", "pandas"},
    "store/illumination.py": {"numpy", "pandas"},
    "store/keys.py": {"numpy"},
    "store/models.py": {"numpy", "tifffile", "safetensors"},
    "store/parts.py": {"pandas", "pyarrow"},
    "store/painted.py": {"numpy", "zarr"},
    "store/plate.py": {"numpy", "pandas", "zarr"},
    "store/shards.py": {"numpy", "numcodecs", "google_crc32c"},
    "store/tables.py": {"numpy", "pandas", "pyarrow", "anndata"},
    "tables/arrays.py": {"numpy", "pyarrow", "anndata"},
    "tables/delimited.py": {"pyarrow"},
    "tables/source.py": {"numpy", "pandas", "pyarrow"},
    "compute/cluster.py": {"distributed"},
    "check/__init__.py": {"jsonschema"},
    "cli/campaign.py": {"yaml"},
}


def imports(tree):
    """Full names of what a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def foreign(tree):
    """Packages outside the standard library and Plateline that a module imports."""
    found = {name.partition(".")[0] for name in imports(tree)}
    return found - set(sys.stdlib_module_names) - {"plateline"}


def own(tree):
    """Files of Plateline that a module imports."""
    for name in imports(tree):
        parts = name.split(".")[1:]
        if name.startswith("plateline."):
            candidates = (
                f"{'/'.join(parts[:n])}{end}" for n in (len(parts), len(parts) - 1) for end in (".py", "/__init__.py")
            )
            yield next(file for file in (*candidates, "__init__.py") if file in MODULES)


def calls(tree):
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


# --- floors


@pytest.mark.parametrize("name", GROUND)
def test_ground_takes_and_returns_arrays_and_frames(name):
    tree = MODULES[name]
    allowed = set(NUMBERS)
    refused = OPENS_FILES | TELLS
    if name.startswith("report/"):
        allowed |= {"matplotlib", "jinja2"}
        refused -= {"io", "warnings"}  # pictures become bytes in memory; matplotlib warns of glyphs it lacks
    if name.startswith("models/"):
        allowed |= {"torch"}
    if name in {"errors.py", "identity.py", "readouts.py"}:
        allowed = set()
    allowed |= OPTIONAL.get(name, set())
    assert foreign(tree) <= allowed
    assert not {module.partition(".")[0] for module in imports(tree)} & refused
    assert "dask" not in foreign(tree) or all(
        module.startswith("dask.array") for module in imports(tree) if module.startswith("dask")
    )
    assert {file for file in own(tree) if file.startswith(DOORS)} == set()


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_packages_are_imported_inside_functions(name):
    top = ast.Module([node for node in MODULES[name].body if not isinstance(node, ast.FunctionDef)], [])
    assert not foreign(top) & OPTIONAL[name]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(DOORS)])
def test_doors_import_their_technology_only(name):
    layouts = {"numpy", "pandas", "tifffile", "zarr", "imagecodecs"} if name.startswith("layouts/") else set()
    assert foreign(MODULES[name]) <= TECHNOLOGY.get(name, set()) | layouts


@pytest.mark.parametrize("name", LIGHT)
def test_what_every_job_imports_is_the_standard_library(name):
    assert foreign(MODULES[name]) == set()
    assert set(own(MODULES[name])) <= {*LIGHT, "__init__.py"}


def test_the_start_of_a_job_imports_no_numbers():
    names = "plateline.config, plateline.run, plateline.sheet"
    code = f"import sys, {names}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & {
        *NUMBERS,
        "torch",
        "zarr",
        "jsonschema",
        "yaml",
    }


@pytest.mark.parametrize("name", MODULES)
def test_no_module_prints_or_runs_text(name):
    banned = {"eval", "exec", "breakpoint", "input"} | ({"print"} if name != "cli/__init__.py" else set())
    banned |= set() if name.startswith(DOORS) else {"open"}
    assert not calls(MODULES[name]) & banned
    assert "snakemake" not in foreign(MODULES[name])
    assert "yaml" not in foreign(MODULES[name]) or name == "cli/campaign.py"
    assert "torch" not in foreign(MODULES[name]) or name.startswith("models/")


@pytest.mark.parametrize("name", MODULES)
def test_the_digest_of_the_code_can_follow_every_import(name):
    for node in ast.walk(MODULES[name]):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "code_digest follows absolute imports only"
        assert not (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))


def test_modules_import_in_one_direction():
    waiting = {name: {file for file in own(tree) if file != name} for name, tree in MODULES.items()}
    # A folder's front door imports its rooms; a room imports its neighbours through no door.
    while ready := [name for name, needs in waiting.items() if not needs & set(waiting)]:
        for name in ready:
            del waiting[name]
    assert waiting == {}


def test_the_package_itself_is_empty():
    assert (PACKAGE / "__init__.py").read_text() == ""


@pytest.mark.parametrize("name", MODULES)
def test_modules_and_functions_fit_on_screens(name):
    tree = MODULES[name]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 40, node.name
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 7, node.name
    assert len((PACKAGE / name).read_text().splitlines()) <= 400
    assert name == "__init__.py" or ast.get_docstring(tree) or name.endswith("__init__.py")
    assert not {"utils", "helpers", "manager", "factory", "base"} & set(name.removesuffix(".py").split("/"))


def test_every_stage_word_is_a_module():
    for stage in config.STAGES:
        assert f"{stage}.py" in MODULES or f"{stage}/__init__.py" in MODULES
        assert any(rule.startswith(f"{stage}_") for rule in BLOCKS)
        assert (WORKFLOW / "rules" / f"{stage}.smk").is_file()


# --- rules and scripts


def test_rules_and_scripts_have_the_same_names():
    assert set(BLOCKS) == set(SCRIPTS)
    assert len(BLOCKS) == len(re.findall(r"^\s*(?:rule|checkpoint) ", RULES, re.MULTILINE))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_stands_alone(name):
    text = SCRIPTS[name].read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 60
    assert ast.get_docstring(tree)
    assert not {module.partition(".")[0] for module in imports(tree)} & {*SCRIPTS, "scripts"}
    assert not {"print", "open", "exit"} & calls(tree)
    assert not any(isinstance(node, ast.Raise | ast.Try) for node in ast.walk(tree)) or name == "ingest_part"
    assert [node for node in tree.body if isinstance(node, ast.With) and "log.job(snakemake)" in ast.unparse(node)]


@pytest.mark.parametrize("name", BLOCKS)
def test_a_rule_says_all_that_it_needs(name):
    block = BLOCKS[name]
    for word in ("output", "log", "benchmark", "conda", "threads", "resources", "params", "script"):
        assert len(re.findall(rf"^    {word}:", block, re.MULTILINE)) == 1, word
    resources = block.partition("resources:")[2].partition("params:")[0]
    assert re.search(r"mem_mb=", resources)
    assert re.search(r"runtime=", resources)
    assert f'"../scripts/{name}.py"' in block
    assert re.search(r'"logs/' + name + r"/[^\"]+\.log\"", block)
    assert "../../envs/plateline.yaml" in block
    assert '"""' in block


@pytest.mark.parametrize("name", BLOCKS)
def test_a_rule_takes_its_own_section_and_code_and_no_more(name):
    params = BLOCKS[name].partition("params:")[2].partition("script:")[0]
    stage, _, grain = name.rpartition("_")
    stage = {"verdict": "ledger"}.get(stage, stage)
    if stage.endswith("_fit"):  # a training has a section and a digest of its own
        stage, grain = stage.removesuffix("_fit"), "fit"
        assert params.split() == f'section=section("{stage}", "fit"), code=code("{stage}", "fit"),'.split()
        assert grain in config.STAGES[stage]
        return
    assert grain in config.STAGES[stage]
    expected = [f'section=section("{stage}", "{grain}")', f'code=code("{stage}")'] + ["share=share"] * (grain == "part")
    # A part that reads the tables of a part before it has its share from them.
    assert [line.strip().rstrip(",") for line in params.strip().splitlines()] in (expected, expected[:2])


@pytest.mark.parametrize("path", sorted((WORKFLOW / "rules").glob("*.smk")), ids=lambda path: path.stem)
def test_rule_files_hold_rules_and_a_docstring(path):
    text = path.read_text()
    assert text.startswith('"""')
    assert not re.search(r"^\s*run:", text, re.MULTILINE)
    assert not re.search(r"\blambda\b", text)
    assert "checkpoint " not in text
    assert path.stem == "common" or not re.search(r"^def |^import |^from ", text, re.MULTILINE)
    assert path.stem == "common" or {"Needs:", "Makes:"} <= set(text.split())
    assert path.stem == "common" or 1 <= len(re.findall(r"^rule ", text, re.MULTILINE)) <= 3


def test_the_snakefile_is_short_and_includes_every_rule_file():
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) < 60
    included = re.findall(r'include: "workflow/rules/(\w+)\.smk"', text)
    assert included[0] == "common"
    assert included[1:] == list(config.STAGES)
    assert set(included) == {path.stem for path in (WORKFLOW / "rules").glob("*.smk")}


# --- the profile of a cluster


SLURM = (ROOT / "slurm" / "config.yaml").read_text()


def test_the_slurm_profile_gives_every_rule_what_it_asks_for_and_more_at_each_attempt():
    given = yaml.safe_load(SLURM)["set-resources"]
    assert set(given) == set(BLOCKS)
    for name, block in BLOCKS.items():
        asked = dict(re.findall(r"(mem_mb|runtime)=(\d+)", block))
        assert {key: given[name][key] for key in asked} == {key: f"attempt * {value}" for key, value in asked.items()}


def test_the_slurm_profile_has_the_threads_of_the_rules():
    threads = {name: int(re.search(r"threads: (\d+)", block)[1]) for name, block in BLOCKS.items()}
    assert yaml.safe_load(SLURM)["set-threads"] == {name: number for name, number in threads.items() if number > 1}


def test_the_slurm_profile_retries_by_submission_and_waits_for_files():
    profile = yaml.safe_load(SLURM)
    assert profile["retries"] >= 1
    assert "retries:" not in RULES  # of a rule they stay inside one allocation, with the memory that was too little
    assert profile["rerun-incomplete"] is True
    assert profile["latency-wait"] == 60


def test_a_site_finds_the_lines_for_its_gpus_at_the_rules_that_use_one():
    filled = re.sub(r"^( *)# (\w+): ", r"\1\2: ", SLURM, flags=re.MULTILINE)
    given = yaml.safe_load(filled)["set-resources"]
    wants = {name for name, resources in given.items() if "gpu" in resources}
    assert wants == {"segment_fit_screen", "segment_part"}
    assert all({"slurm_partition", "gpu_model"} <= set(given[name]) for name in wants)


# --- pins


def test_the_environment_has_the_same_pins_as_the_package():
    environment = yaml.safe_load((ROOT / "envs" / "plateline.yaml").read_text())
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert pip == PROJECT["dependencies"]
    assert f"python={PROJECT['requires-python'][2:6]}" in environment["dependencies"]


def test_every_dependency_is_pinned():
    for requirement in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", requirement)


def test_what_is_imported_is_pinned():
    named = {
        "sklearn": "scikit-learn",
        "skimage": "scikit-image",
        "yaml": "pyyaml",
        "google_crc32c": "google-crc32c",
        "cc3d": "connected-components-3d",
    }
    pinned = {requirement.partition("==")[0] for requirement in PROJECT["dependencies"]}
    trees = [*MODULES.values(), *(ast.parse(path.read_text()) for path in SCRIPTS.values())]
    used = {named.get(name, name) for tree in trees for name in foreign(tree)}
    assert used <= pinned | set().union(*OPTIONAL.values())


# --- config and schemas


def objects(schema, path=()):
    """Every object of a schema with its path."""
    if schema.get("type") == "object":
        yield path, schema
    for word in ("properties", "patternProperties"):
        for name, rule in schema.get(word, {}).items():
            yield from objects(rule, (*path, name))
    for rule in [schema.get("additionalProperties"), schema.get("items"), *schema.get("anyOf", [])]:
        if isinstance(rule, dict):
            yield from objects(rule, (*path, "*"))


@pytest.mark.parametrize("schema", [CONFIG, PLATES], ids=["config", "plates"])
def test_schemas_are_closed_and_have_defaults(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    for path, rule in objects(schema):
        closed = rule.get("additionalProperties", True) is not True
        assert closed != (path[-1:] == ("custom",)), path
        for name, key in rule.get("properties", {}).items():
            if "*" not in path:
                assert "default" in key or name in rule.get("required", []), (*path, name)
            if "default" in key:
                jsonschema.Draft202012Validator(key).validate(config.fill_defaults({name: key["default"]}, rule)[name])
        assert set(rule.get("required", [])) <= set(rule.get("properties", {}))


@pytest.mark.parametrize("schema", [CONFIG, PLATES], ids=["config", "plates"])
def test_every_value_is_described(schema):
    for path, rule in objects(schema):
        for name, key in rule.get("properties", {}).items():
            if key.get("type") != "object" and "*" not in path:
                assert key.get("description"), (*path, name)


def test_the_demos_config_and_sheet_fit_their_schemas():
    own = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    validator = jsonschema.Draft202012Validator(CONFIG)
    validator.validate(own)
    validator.validate(config.fill_defaults(own, CONFIG))
    for line in config.read_sheet(ROOT / own["sheet"]):
        jsonschema.Draft202012Validator(PLATES).validate(line)
        jsonschema.Draft202012Validator(PLATES).validate(config.fill_defaults(line, PLATES))


# A step that all methods of a stage share has a block of its own: its keys are those of no single method.
SHARED = {"segment": {"cells": segment.complete}}


def test_the_block_of_a_shared_step_has_the_keywords_of_its_function():
    for stage, steps in SHARED.items():
        for name, function in steps.items():
            parameters = inspect.signature(function).parameters.values()
            keywords = {key.name for key in parameters if key.kind == key.KEYWORD_ONLY}
            assert set(CONFIG["properties"][stage]["properties"][name]["properties"]) == keywords


def test_sections_are_stages_and_blocks_are_grains_or_methods():
    sections = {name: rule for name, rule in CONFIG["properties"].items() if name != "sheet"}
    assert list(sections) == [stage for stage in config.STAGES if stage != "ledger"]
    for stage, rule in sections.items():
        blocks = {name for name, key in rule["properties"].items() if key.get("additionalProperties") is False}
        blocks -= {"imported"}  # of a plate without images, which takes it beside the block of its method
        assert blocks - {*config.GRAINS, *SHARED.get(stage, {})} <= set(methods.TABLES.get(stage, {}))
        assert blocks & {*config.GRAINS} <= set(config.STAGES[stage])
        assert "custom" in rule["properties"] or stage not in methods.TABLES


@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for stage in methods.TABLES for name in methods.TABLES[stage]]
)
def test_the_block_of_a_method_has_the_keywords_of_its_function(stage, name):
    found = methods.load(stage, name)
    function = found.index if inspect.ismodule(found) else found
    given = {"ingest": {"plate", "shape"}, "segment": {"tile_px"}, "classify": {"seed"}}.get(stage, set())
    parameters = inspect.signature(function).parameters.values()
    keywords = {key.name for key in parameters if key.kind in (key.KEYWORD_ONLY, key.POSITIONAL_OR_KEYWORD)} - given
    if stage not in {"correct", "classify"}:
        keywords = {key.name for key in parameters if key.kind == key.KEYWORD_ONLY} - given
    block = CONFIG["properties"][stage]["properties"].get(name, {"properties": {}})
    if (stage, name) == ("flatfield", "provided"):  # its options name files, which the script reads for it
        assert keywords == {"illum", "name"}
        keywords = set(inspect.signature(store.read_illumination).parameters) - {"plate", "channel", "index"}
    # A length in micrometres in the config is one in pixels to the function.
    assert {re.sub("_um$", "_px", key) for key in block.get("properties", {})} == keywords


def test_the_stores_format_is_where_the_digest_looks_for_it():
    assert digests._format() == str(importlib.import_module("plateline.store").FORMAT)
    assert tables.PROVENANCE == b"plateline"
