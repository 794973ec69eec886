"""Measure the cells of a share of a plate's wells."""

from functools import partial

import pandas as pd

from plateline import compute, flatfield, ledger, log, measure, store
from plateline.identity import FIELD

plate, section, code = snakemake.wildcards.plate, snakemake.params.section, snakemake.params.code


def measure_well(well, *, fields, flat, section, code, zarr):
    """Features of the cells of a well, one row per cell, and notes on what could not be measured."""
    cells, notes, settings = [], [], measure.Settings(**section)
    for field in fields[fields["Metadata_Well"] == well].to_dict("records"):
        place, channels = [field[name] for name in FIELD[1:]], field["channels"].split("|")
        image = flatfield.correct(store.read_field(zarr, *place, field["pixels"]), *flat["images"])
        labels = store.read_labels(zarr, *place, field["Metadata_Key"])
        scales = measure.full_scales(channels, section["full_scale"], default=field["full_scale"])
        found, told = measure.measure_field(image, labels, channels, full_scale=scales, settings=settings)
        measure.check_counts(len(found), field["n_nuclei"], where=f"plate {[field[name] for name in FIELD]}")
        key = store.chain(section, code, field["pixels"], flat["key"], field["Metadata_Key"], field["checksum"])
        cells.append(found.assign(**{name: field[name] for name in FIELD}, Metadata_Key=key))
        notes.append(told)
    return {"cells": pd.concat(cells), "notes": pd.concat(notes)}


with log.job(snakemake) as counts:
    pixels = store.read_table(snakemake.input.fields).rename(columns={"Metadata_Key": "pixels"})
    fields = store.read_table(snakemake.input.segmented)
    fields = fields.merge(pixels[[*FIELD, "pixels", "channels", "full_scale"]], on=FIELD, validate="one_to_one")
    good = fields[fields["status"] == "ok"]
    made = store.provenance(snakemake.params, snakemake.input)
    flat = store.read_flatfield(snakemake.input.flatfield, plate)
    # First, so that the kernels are compiled once and not by every worker.
    nothing = measure.no_cells(list(flat["channels"]), measure.Settings(**section))
    work = partial(measure_well, fields=good, flat=flat, section=section, code=code, zarr=store.images_of(plate))
    with store.part(snakemake.output.table, made["key"], sorted(set(good["Metadata_Well"]))) as part:
        for well, tables in compute.map_wells(work, part.todo, workers=snakemake.threads):
            part.commit(well, tables)
        cells, notes = part.join("cells", nothing), part.join("notes", measure.no_notes())
        entries = [
            ledger.counted("fields", len(fields), len(good)),
            ledger.noted("exclusion", "fields", fields.drop(good.index)),
            ledger.counted("cells", int(fields["n_nuclei"].sum()), len(cells)),
            *(ledger.noted("warning", unit, measure.sum_notes(notes, unit)) for unit in ("cells", "pixels")),
        ]
        store.save_table(cells, snakemake.output.table, made)
        store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"fields": len(fields), "cells": len(cells), "features": cells.shape[1]})
