"""Index the planes of a plate and lay out its OME-Zarr, empty."""

from pathlib import Path

from plateline import ingest, ledger, log, methods, run, store

plate, section = snakemake.wildcards.plate, snakemake.params.section

with log.job(snakemake) as counts:
    layout = methods.load("ingest", section["layout"])
    shape = int(section["shape"])
    planes, left_out = layout.index(Path(section["source"]), plate=plate, shape=shape, **section["options"])
    found = len(planes) + len(left_out)
    index, left_out = ingest.index_table(planes, left_out, plate=plate, channels=section["channels"])
    index, warnings = ingest.set_pixel_size(index, section["pixel_size_um"])
    shared = ingest.geometry(index)
    shared = shared if section["keep_planes"] else shared._replace(planes=1)
    told = {"told": ingest.told_of_channels(index), "positions": ingest.stage_positions(index)}
    store.lay_out(
        store.images_of(plate),
        wells={well: sorted(set(rows["Metadata_Site"])) for well, rows in index.groupby("Metadata_Well")},
        times=shared.times,
        sizes=ingest.level_sizes(shared.height, shared.width),
        dtype=shared.dtype,
        omero={**shared._asdict(), **told, "name": plate, "shape": shape},
    )
    table = Path(snakemake.output.table)
    store.save_json(run.source_state(section["source"]), table.with_name("source.json"))
    kept, lost = store.keep_illuminations(Path(section["source"]), ingest.illuminations(index), table, plate)
    index["illum_checksum"] = index["Metadata_Channel"].map(kept).fillna("").astype(object)
    made = store.provenance(snakemake.params, snakemake.input)
    left_out["reason"] = left_out["path"] + ": " + left_out["reason"]
    entries = [ledger.counted("planes", found, len(index)), ledger.noted("exclusion", "planes", left_out)]
    entries += [ledger.noted("warning", "planes", warnings), ledger.noted("warning", "channels", lost)]
    store.save_table(index, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"image planes found": found, "indexed": len(index)})
