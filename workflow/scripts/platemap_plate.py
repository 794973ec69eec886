"""Read the plate map of a plate."""

import pandas as pd

from plateline import ledger, log, platemap, store

plate, section = snakemake.wildcards.plate, snakemake.params.section

with log.job(snakemake) as counts:
    shape = int(section["shape"])
    raw, unread = platemap.read_map(store.read_sheets(snakemake.input.platemap), plate=plate, shape=shape)
    words = {name: section[name] for name in ("columns", "controls", "unit")}
    tidy = platemap.tidy(raw, plate=plate, shape=shape, **words)
    # A plate without images is joined with its table of profiles by the next stage.
    index = store.read_table(snakemake.input.index, ["Metadata_Well"]) if snakemake.input.index else tidy
    wells, without_images = platemap.whole_plate(tidy, list(index["Metadata_Well"]), plate=plate)
    wells["Metadata_Batch"] = section["batch"]
    wells["Metadata_Barcode"] = section["barcode"] or plate
    unread = pd.DataFrame({"reason": [f"sheet {name} of the plate map is not read" for name in unread]}, dtype=object)
    made = store.provenance(snakemake.params, snakemake.input)
    unknown = wells[wells["Metadata_Reason"] != ""].rename(columns={"Metadata_Reason": "reason"})
    entries = [
        ledger.counted("wells", len(tidy), len(tidy) - len(without_images)),
        ledger.noted("exclusion", "wells", without_images),
        ledger.noted("warning", "wells", unknown),
        ledger.noted("warning", "wells", unread.assign(count=0)),
    ]
    store.save_table(wells, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"wells on the map": len(tidy), "with images": len(wells)})
