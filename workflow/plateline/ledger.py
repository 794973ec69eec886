"""Counts in and out of every job, every exclusion with its reason, and the verdict over them."""

from collections.abc import Iterable

import pandas as pd

from plateline.errors import FailedPlates
from plateline.identity import FIELD

SCHEMA = {
    "Metadata_Plate": "object",
    "stage": "object",
    "rule": "object",
    "part": "int64",
    "kind": "object",
    "unit": "object",
    "count_in": "int64",
    "count_out": "int64",
    "Metadata_Well": "object",
    "Metadata_Site": "int64",
    "Metadata_Timepoint": "int64",
    "count": "int64",
    "reason": "object",
}
DEFAULTS = {"object": "", "int64": 0} | {"Metadata_Site": -1, "Metadata_Timepoint": -1}

# Unit -> the rule, and which of its counts, that later rules of the plate must take in.
LINKS = {"fields": ("ingest_part", "count_in"), "cells": ("measure_part", "count_out")}


def counted(unit: str, count_in: int, count_out: int) -> pd.DataFrame:
    """One row: so many fields, cells, ... went into the job, so many came out."""
    return pd.DataFrame([{"kind": "count", "unit": unit, "count_in": count_in, "count_out": count_out}])


def noted(kind: str, unit: str, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per exclusion, warning or failure.

    Parameters
    ----------
    kind : {'exclusion', 'warning', 'failure'}
    unit : str
        What is counted: `planes`, `fields`, `wells`, `cells`, `plates`.
    rows : DataFrame
        `reason`, optionally `count` (else 1) and identity columns.
    """
    kept = rows[[column for column in (*FIELD, "count", "reason") if column in rows]]
    if "count" not in kept:
        kept = kept.assign(count=1)
    return kept.assign(kind=kind, unit=unit)


def as_entry(kind: str, unit: str, *told) -> pd.DataFrame:
    """An entry from what a stage told of itself: `count` with numbers in and out, or any other kind with its rows."""
    return counted(unit, *told) if kind == "count" else noted(kind, unit, *told)


def of_job(job, entries: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The entries of one job as a ledger table, full schema also when there are none.

    Parameters
    ----------
    job : object
        With `rule` and `wildcards`, as Snakemake gives them to a script; a screen rule's entries may name their plate.
    entries : iterable of DataFrame
        From `counted` and `noted`.
    """
    # As objects, since pandas would guess the type of a column that one entry lacks.
    told = [entry.astype(object) for entry in entries if len(entry)]
    table = pd.concat([pd.DataFrame(columns=["kind"], dtype=object), *told], ignore_index=True)
    table["rule"], table["stage"] = job.rule, job.rule.rpartition("_")[0]
    table["part"] = int(job.wildcards.get("part", 0))
    if plate := job.wildcards.get("plate"):
        table["Metadata_Plate"] = plate
    for column, dtype in SCHEMA.items():
        values = table[column] if column in table else pd.Series(index=table.index, dtype="object")
        table[column] = values.where(values.notna(), DEFAULTS.get(column, DEFAULTS[dtype])).astype(dtype)
    return table[list(SCHEMA)]


def unbalanced(ledger: pd.DataFrame) -> list[str]:
    """Jobs whose counts do not add up: in = out + excluded must hold per rule, plate, part and unit."""
    job = ["rule", "Metadata_Plate", "part", "unit"]
    # A screen rule counts all plates together, though an exclusion names its plate.
    whole = ledger["rule"].str.endswith("_screen")
    ledger = ledger.assign(Metadata_Plate=ledger["Metadata_Plate"].mask(whole, ""))
    counts = ledger[ledger["kind"] == "count"].groupby(job)[["count_in", "count_out"]].sum()
    excluded = ledger[ledger["kind"] == "exclusion"].groupby(job)["count"].sum()
    missing = counts["count_in"] - counts["count_out"] - excluded.reindex(counts.index, fill_value=0)
    return [
        f"{rule} of plate {plate or '(all)'} part {part}: {lost:+d} {unit} unaccounted for"
        for (rule, plate, part, unit), lost in missing[missing != 0].items()
    ]


def unlinked(ledger: pd.DataFrame) -> list[str]:
    """Jobs that did not take in what an earlier one told of: every field that was ingested, every measured cell."""
    counts = ledger[ledger["kind"] == "count"]
    sums = counts.groupby(["unit", "Metadata_Plate", "rule"], sort=False)[["count_in", "count_out"]].sum()
    problems = []
    for unit, (source, column) in LINKS.items():
        for (_, plate, rule), row in sums[sums.index.get_level_values("unit") == unit].iterrows():
            told = sums[column].get((unit, plate, source), row["count_in"])
            if rule != source and row["count_in"] != told:
                got = f"{rule} of plate {plate} took in {row['count_in']} {unit}"
                problems.append(f"{got}; expected the {told} of {source}")
    return problems


def verdict(ledger: pd.DataFrame) -> dict[str, list[str]]:
    """What a run that ends well says of itself: its `plates`, and those `not_used`.

    Raises
    ------
    FailedPlates
        If a plate was given up, a job's counts do not add up, or it did not take in what an earlier one told of; the
        message names each with its reason.
    """
    failed = ledger[ledger["kind"] == "failure"]
    problems = [f"plate {row.Metadata_Plate} failed: {row.reason}" for row in failed.itertuples()]
    problems += unbalanced(ledger) + unlinked(ledger)
    if problems:
        msg = "; ".join(problems) + "; the other plates are complete, see results/report/index.html"
        raise FailedPlates(msg)
    plates, unused = set(ledger["Metadata_Plate"]) - {""}, ledger[ledger["unit"] == "plates"]["Metadata_Plate"]
    return {"plates": sorted(plates - set(unused)), "not_used": sorted(unused)}
