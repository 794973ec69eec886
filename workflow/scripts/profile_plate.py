"""Aggregate the cells of a plate to wells."""

from functools import partial

import pandas as pd

from plateline import ledger, log, methods, profile, store

section = snakemake.params.section

with log.job(snakemake) as counts:
    fields = store.read_tables(snakemake.input.fields)
    platemap = store.read_table(snakemake.input.platemap)
    listed = [
        profile.read_exclusions(store.read_values(path, "exclusion list"), fields, plate=snakemake.wildcards.plate)
        for path in snakemake.input.exclusions
    ]
    fields, failure = profile.judge_fields(
        fields,
        store.read_table(snakemake.input.flags),
        *[known for known, _ in listed],
        exclude_flags=section["exclude_flags"],
        max_bad_fields=section["max_bad_fields"],
    )
    objects = store.read_tables(snakemake.input.objects)
    cells = store.read_tables(snakemake.input.cells)
    nuclei = objects[objects["compartment"] == "nuclei"]
    reasons = profile.judge_cells(cells, nuclei, fields, exclude_border=section["exclude_border"])
    wells, warnings = profile.build_profile(
        cells[reasons == ""],
        fields,
        platemap,
        aggregate=partial(methods.load("profile", section["method"]), **section["options"]),
        declared=section,
        min_cells=section["min_cells"],
        failure=failure,
    )
    bad = fields[fields["reason"] != ""]
    few = wells[wells["Metadata_Status"] != "ok"].rename(columns={"Metadata_Reason": "reason"})
    entries = [
        ledger.counted("fields", len(fields), len(fields) - len(bad)),
        ledger.noted("exclusion", "fields", bad),
        ledger.noted("warning", "fields", profile.compare_exclusions(fields, platemap)),
        *[ledger.noted("warning", "fields", unknown) for _, unknown in listed],
        ledger.counted("cells", len(cells), int((reasons == "").sum())),
        ledger.noted("exclusion", "cells", profile.count_reasons(cells, reasons)),
        ledger.noted("warning", "wells", few if not failure else few.iloc[:0]),
        ledger.noted("warning", "wells", warnings.assign(count=len(wells))),
        ledger.noted("failure", "plates", pd.DataFrame({"reason": [failure] if failure else []})),
    ]
    made = store.provenance(snakemake.params, snakemake.input)
    store.save_table(wells, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"cells in": len(cells), "counted": int((reasons == "").sum()), "wells": len(wells)})
