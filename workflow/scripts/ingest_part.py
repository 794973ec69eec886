"""Write the pixels of a share of a plate's wells."""

from functools import partial
from pathlib import Path

import pandas as pd

from plateline import compute, ingest, ledger, log, methods, store
from plateline.errors import ImageError
from plateline.identity import FIELD

plate, section, code = snakemake.wildcards.plate, snakemake.params.section, snakemake.params.code


def write_well(well, *, index, shared, read, section, code, zarr):
    """Fields of a well, written or excluded: one row each."""
    rows = []
    for field, planes in index[index["Metadata_Well"] == well].groupby(FIELD):
        _, _, site, time = field
        made = {"Metadata_Key": "", "checksum": "", "status": "excluded", "reason": ""}
        try:
            pixels = ingest.build_field(planes, shared, read, projection=section["projection"])
        except ImageError as error:
            store.reset_field(zarr, well, site, time)
            made["reason"] = str(error)
        else:
            checksum = store.checksum(pixels)
            key = store.chain(section, code, planes.to_json(orient="values"), checksum)
            store.write_field(zarr, well, site, time, ingest.pyramid(pixels), (key, checksum))
            if store.keeps_planes(zarr, well, site):
                store.write_planes(zarr, well, site, time, ingest.field_planes(planes, shared, read), (key, checksum))
            made |= {"Metadata_Key": key, "checksum": checksum, "status": "ok"}
        told = ingest.facts(shared) | {"acquired": ingest.acquired(planes)}
        rows.append(dict(zip(FIELD, field, strict=True)) | made | told)
    return {"fields": pd.DataFrame(rows)}


with log.job(snakemake) as counts:
    index = store.read_table(snakemake.input.index)
    layout = methods.load("ingest", section["layout"])
    made = store.provenance(snakemake.params, snakemake.input)
    read = partial(layout.read_plane, Path(section["source"]))
    shared, zarr = ingest.geometry(index), store.images_of(plate)
    write = partial(write_well, index=index, shared=shared, read=read, section=section, code=code, zarr=zarr)
    wells = store.share_wells(index["Metadata_Well"], snakemake.params.share)
    with store.part(snakemake.output.table, made["key"], wells) as part:
        for well, tables in compute.map_wells(write, part.todo, workers=snakemake.threads):
            part.commit(well, tables)
        fields = part.join("fields", ingest.no_fields())
        bad = fields[fields["status"] != "ok"]
        entries = [
            ledger.counted("fields", len(fields), len(fields) - len(bad)),
            ledger.noted("exclusion", "fields", bad),
        ]
        store.save_table(fields, snakemake.output.table, made)
        store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"fields in": len(fields), "written": len(fields) - len(bad)})
