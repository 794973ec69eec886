"""Every key of the config reaches the rules that must rerun when it changes, and no other: each key alone, no run."""

import json
import re

import pytest
import yaml
from campaign import ROOT, TOY_CONFIG
from changes import CHANGES, READ_BY, closure, leaves, with_value

from plateline import config, methods

SCHEMAS = {
    name: yaml.safe_load((ROOT / "workflow" / "schemas" / f"{name}.schema.yaml").read_text())
    for name in ("config", "plates")
}
RULES = {
    match[1]: (match[2], match[3])
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    for match in re.finditer(r'^rule (\w+):(?:(?!^rule )(?:.|\n))*?section\("(\w+)", "(\w+)"\)', path.read_text(), re.M)
}
IMAGES = {"plate": "P1", "source": "images/P1", "platemap": "map.csv"}
TABLE = {"plate": "T1", "source": "T1.parquet", "layout": "profiles"}


def sections(changed, **columns):
    """What each rule is told of the config, for a plate with images and for one from a table."""
    filled = config.fill_defaults(changed, SCHEMAS["config"])
    lines = [config.fill_defaults(line, SCHEMAS["plates"]) for line in (IMAGES | columns, TABLE)]
    return {
        rule: json.dumps([config.section(filled, *place, None if place[1] == "screen" else line) for line in lines])
        for rule, place in RULES.items()
    }


def told(before, after):
    return {rule for rule in RULES if before[rule] != after[rule]}


def takers(key):
    """Rules that take a key, by the words in it: those of its grain, or all of its stage but a training."""
    stage, *path = key.split(".")
    if key == "segment.approve":  # decides whether a run begins, not what it makes
        return set()
    grains = {path[0]} & {*config.GRAINS} or {*config.GRAINS} - {"fit"}
    return {rule for rule, place in RULES.items() if place[0] == stage and place[1] in grains}


def test_the_table_of_changes_names_every_key_of_the_config_and_every_rule():
    assert set(leaves(SCHEMAS["config"])) - {"sheet"} == set(CHANGES)
    snakefiles = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert set(READ_BY) == set(RULES) == set(re.findall(r"^rule (\w+):", snakefiles, re.M))


def test_every_rule_but_the_ledgers_has_a_key_that_reruns_it():
    assert {rule for key in CHANGES for rule in takers(key)} == set(RULES) - {"ledger_screen", "verdict_screen"}


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_key_is_told_to_its_rules_and_to_no_other(key):
    value, rules = CHANGES[key]
    stage, block, *deeper = key.split(".")
    is_method = bool(deeper) and block in methods.TABLES.get(stage, {})
    chosen, columns = TOY_CONFIG, {}
    if is_method and stage == "ingest":
        columns = {"layout": block}
    elif is_method:
        chosen = with_value(TOY_CONFIG, f"{stage}.method", block)
    assert told(sections(chosen, **columns), sections(with_value(chosen, key, value), **columns)) == takers(key)
    if is_method:  # another method is chosen
        other, columns = with_value(TOY_CONFIG, f"{stage}.method", "lab:method"), {"layout": "lab:layout"}
        other = other if stage != "ingest" else TOY_CONFIG
        columns = columns if stage == "ingest" else {}
        assert told(sections(other, **columns), sections(with_value(other, key, value), **columns)) == set()
    # What the dry runs of the toy expect of the key is what it is told to, or nothing where the toy does not use it.
    assert not rules or closure(rules) == closure(takers(key))
