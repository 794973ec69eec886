"""Measure focus, saturation and background of a share of a plate's wells."""

from functools import partial

import pandas as pd

from plateline import compute, ledger, log, qc, store
from plateline.identity import FIELD

plate, section = snakemake.wildcards.plate, snakemake.params.section


def measure_well(well, *, fields, options, zarr):
    """Metrics of the readable fields of a well: one row per field and channel."""
    tables = []
    for field in fields[fields["Metadata_Well"] == well].to_dict("records"):
        image = store.read_field(zarr, *(field[name] for name in FIELD[1:]), field["Metadata_Key"])
        channels = field["channels"].split("|")
        found = qc.measure_field(image, channels, [field["full_scale"]] * len(channels), **options)
        found["acquired"] = field["acquired"]
        tables.append(found.assign(**{name: field[name] for name in [*FIELD, "Metadata_Key"]}))
    return {"metrics": pd.concat(tables)}


with log.job(snakemake) as counts:
    fields = store.read_table(snakemake.input.fields)
    good = fields[fields["status"] == "ok"]
    made = store.provenance(snakemake.params, snakemake.input)
    measure = partial(measure_well, fields=good, options=section, zarr=store.images_of(plate))
    with store.part(snakemake.output.table, made["key"], sorted(set(good["Metadata_Well"]))) as part:
        for well, tables in compute.map_wells(measure, part.todo, workers=snakemake.threads):
            part.commit(well, tables)
        metrics = part.join("metrics", qc.no_metrics())
        bad = fields.drop(good.index)
        entries = [ledger.counted("fields", len(fields), len(good)), ledger.noted("exclusion", "fields", bad)]
        store.save_table(metrics, snakemake.output.table, made)
        store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"fields": len(fields), "measured": len(good)})
