"""Read the plate map of a plate."""

from plateline import ledger, log, platemap, store

plate, section = snakemake.wildcards.plate, snakemake.params.section

with log.job(snakemake) as counts:
    index = store.read_table(snakemake.input.index, ["Metadata_Well"])
    raw = store.read_values(snakemake.input.platemap)
    tidy = platemap.tidy(
        raw, plate=plate, shape=int(section["shape"]), columns=section["columns"], controls=section["controls"]
    )
    wells, without_images = platemap.whole_plate(tidy, list(index["Metadata_Well"]), plate=plate)
    wells["Metadata_Batch"] = section["batch"]
    made = store.provenance(snakemake.params, snakemake.input)
    unknown = wells[wells["Metadata_Reason"] != ""].rename(columns={"Metadata_Reason": "reason"})
    entries = [
        ledger.counted("wells", len(tidy), len(tidy) - len(without_images)),
        ledger.noted("exclusion", "wells", without_images),
        ledger.noted("warning", "wells", unknown),
    ]
    store.save_table(wells, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"wells on the map": len(tidy), "with images": len(wells)})
