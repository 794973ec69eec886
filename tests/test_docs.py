"""The manual names every key and column with the default it has; links, trees and commands in the pages hold."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MANUAL = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
# Cell of a key that has no default because it must be given.
REQUIRED = "required"
# What a run makes: a tree may name it, a clone does not hold it.
MADE = ("results", "logs", ".venv", ".snakemake")


def schema(name):
    return yaml.safe_load((ROOT / "workflow" / "schemas" / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def keys(rule, path=""):
    """Every key of a schema with its rule, blocks of keys before the keys in them."""
    for name, inner in rule.get("properties", {}).items():
        yield f"{path}{name}", inner
        yield from keys(inner, f"{path}{name}.")


CONFIG = dict(keys(schema("config")))
VALUES = {key: rule for key, rule in CONFIG.items() if "properties" not in rule}
COLUMNS = schema("plates")["properties"]


def cells_of(line):
    """Cells of a row of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def defaults_of(first):
    """Name in the first column -> text of the column `default`, over all tables whose header starts with `first`."""
    found, header = {}, []
    for line in MANUAL.splitlines():
        cells = cells_of(line) if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif header[0] == first and header[-1] == "default" and not set(cells[0]) <= set("-:"):
            name = cells[0].strip("`")
            assert len(cells) == len(header), line
            assert name not in found, f"{name} stands in two tables"
            found[name] = cells[-1].strip("`")
    return found


def pages():
    """Markdown files of the clone that git tracks or would track."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(listed, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no git here to list the pages")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def blocks_of(text):
    """Blocks of code of a page: fenced, without their fences, and indented."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"(?<=\n\n)((?:    .*\n)+)", without_blocks(text))


def without_blocks(text):
    return re.sub(r"^```[^\n]*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(text):
    """Names under which the headings of a page can be linked to."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tree_of(text):
    """Paths in the tables of a page whose first column is `path`; a bare name is a neighbour of the one before it."""
    paths, header = [], ""
    for line in text.splitlines():
        first = cells_of(line)[0] if line.startswith("|") else ""
        if header == "path" and first:
            names = re.findall(r"`([^`]+)`", first)
            beside = Path(names[0]).parent if names else Path()
            paths += [name if name in names[:1] or "/" in name else str(beside / name) for name in names]
        header = (first and header) or first
    return paths


# --- the manual of a campaign


@pytest.mark.parametrize("key", CONFIG)
def test_every_key_of_the_config_is_named(key):
    assert f"`{key}`" in MANUAL or f"### {key}\n" in MANUAL


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_the_plate_sheet_is_named(column):
    assert f"`{column}`" in MANUAL


@pytest.mark.parametrize("key", VALUES)
def test_every_default_of_a_key_is_the_schemas(key):
    shown = defaults_of("key")[key]
    if "default" not in VALUES[key]:
        assert shown == REQUIRED
    else:
        assert yaml.safe_load(shown) == VALUES[key]["default"]


@pytest.mark.parametrize("column", COLUMNS)
def test_every_default_of_a_column_is_the_schemas(column):
    assert defaults_of("column")[column] == COLUMNS[column].get("default", REQUIRED)


def test_no_table_shows_a_key_that_is_gone():
    assert set(defaults_of("key")) == set(VALUES)
    assert set(defaults_of("column")) == set(COLUMNS)


@pytest.mark.parametrize("name", ["config", "plates"])
def test_every_key_of_a_schema_says_what_it_is(name):
    assert [key for key, rule in keys(schema(name)) if not rule.get("description")] == []


def test_the_examples_of_readouts_are_in_the_grammar():
    from plateline import readouts

    examples = [yaml.safe_load(block) for block in blocks_of(MANUAL) if block.startswith("profile:")]
    assert examples
    for example in examples:
        profile = example["profile"]
        _, _, called = readouts.parse(profile["quantities"], profile["gates"], profile["readouts"])
        assert set(called) == set(profile["readouts"])


# --- all pages


def test_every_relative_link_leads_somewhere():
    broken = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            if not linked.exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
            elif anchor and linked.suffix == ".md" and anchor not in anchors_of(linked.read_text(encoding="utf-8")):
                broken.append(f"{page.relative_to(ROOT)}: {target} (no such heading)")
    assert broken == []


def test_make_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    unknown = []
    for page in pages():
        lines = "\n".join(blocks_of(page.read_text(encoding="utf-8"))).splitlines()
        for line in lines:
            words = re.split(r"#|&&|;|\|", line.strip().removeprefix("$ "))[0].split()
            if words[:1] == ["make"]:
                asked = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
                unknown += [f"{page.relative_to(ROOT)}: {line.strip()}" for word in asked if word not in targets]
    assert unknown == []


def test_the_tree_of_the_readme_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if not text.strip():
        pytest.skip("README.md is empty")
    paths = tree_of(text)
    assert "Snakefile" in paths, "README.md shows no tree: a table whose first column is `path`"
    patterns = {path: re.sub(r"<[^>]*>|\{[^}]*\}", "*", path).rstrip("/") for path in paths}
    held = {path: pattern for path, pattern in patterns.items() if pattern.split("/")[0] not in MADE}
    assert [path for path, pattern in held.items() if not any(ROOT.glob(pattern))] == []


def test_a_bare_name_in_a_tree_stands_beside_the_one_before_it():
    page = "| path | what |\n|---|---|\n| `lib/log.py`, `cli.py` | two |\n| `rules/<stage>.smk` | one |\n\n| a | b |\n"
    assert tree_of(page) == ["lib/log.py", "lib/cli.py", "rules/<stage>.smk"]
