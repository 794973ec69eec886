"""Estimate the illumination of each channel from a seeded sample of fields."""

from pathlib import Path

import pandas as pd

from plateline import flatfield, ledger, log, methods, store

plate, section = snakemake.wildcards.plate, snakemake.params.section

with log.job(snakemake) as counts:
    fields = store.read_tables(snakemake.input.fields)
    good = fields[fields["status"] == "ok"]
    sample = flatfield.sample_fields(good, max_fields=section["max_fields"], seed=section["seed"])
    estimate, options = methods.load("flatfield", section["method"]), section["options"]
    rows = []
    for number, channel in enumerate(fields["channels"].iloc[0].split("|") if len(fields) else []):
        images = store.read_stack(store.images_of(plate), sample, number)
        if section["method"] == "provided":
            named = {"plate": plate, "channel": channel, "index": snakemake.input.index}
            options = store.read_illumination(**section["options"], **named)
        illum, dark = estimate(images, **options)
        before, after = flatfield.residual(images, illum, dark, bin_px=section["residual_px"])
        beside = Path(snakemake.output.table).parent
        store.save_array(illum, beside / f"{plate}_Illum{channel}.npy")
        store.save_array(dark, beside / f"{plate}_Dark{channel}.npy")
        checksum = store.checksum(illum, dark)
        rows.append(
            {"Metadata_Plate": plate, "Metadata_Channel": channel, "checksum": checksum, "n_fields": len(images)}
        )
        rows[-1] |= {"residual_before": before, "residual_after": after, "dark_level": float(dark.mean())}
        rows[-1] |= {"divided_by": float(options["illum"].mean()) if section["method"] == "provided" else 1.0}
    made = store.provenance(snakemake.params, snakemake.input)
    entries = [
        ledger.counted("fields", len(fields), len(good)),
        ledger.noted("exclusion", "fields", fields.drop(good.index)),
    ]
    store.save_table(pd.DataFrame(rows), snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"fields": len(fields), "sampled": len(sample), "channels": len(rows)})
