"""Aggregate the cells of a plate, or the rows of somebody else's table, to wells."""

from functools import partial

import pandas as pd

from plateline import ledger, log, methods, profile, readouts, store, tables
from plateline.identity import CELL, FIELD, features_of

plate, section, given = snakemake.wildcards.plate, snakemake.params.section, snakemake.input
used = readouts.features_in(readouts.parse(*(section[name] for name in ("quantities", "gates", "readouts"))))


def from_images(listed):
    """What counts, the names of all features, and how columns of the cells that count are read."""
    pixels = store.read_tables(given.pixels, [*FIELD, "height", "width", "pixel_size_um"])
    fields = store.read_tables(given.fields).merge(pixels, "left", FIELD)
    objects = store.read_tables(given.objects, [*CELL, "compartment", "touches_border"])
    cells, nuclei = store.read_tables(given.cells, CELL), objects[objects["compartment"] == "nuclei"]
    tables_of_fields = (fields, store.read_table(given.flags), store.read_table(given.platemap))
    judged = profile.judge_images(cells, nuclei, *tables_of_fields, listed=listed, section=section)
    names = features_of(store.columns_of(given.cells[0]))
    return judged, names, lambda wanted: store.read_rows(given.cells, wanted, judged.kept)


def from_table(listed):
    """The same of somebody else's table."""
    words = {"plate": plate, "barcode": section["barcode"], "shape": int(section["shape"])}
    columns = section["imported"]["columns"] | store.read_mapping(given.columns)
    source = tables.open_source(given.source, section["source"], columns=columns, **words)
    rows, platemap = tables.read_identity(source), store.read_table(given.platemap) if given.get("platemap") else None
    metadata = tables.read_metadata(source, rows["Metadata_Well"])
    options = {"names": list(source.names), "listed": listed, "section": section}
    judged = profile.judge_table(rows, metadata, platemap, plate=plate, **options)
    return judged, source.features, partial(tables.read_columns, source, rows=judged.kept)


with log.job(snakemake) as counts:
    listed = [store.read_values(path, "exclusion list") for path in given.exclusions]
    judged, names, read = from_table(listed) if given.get("source") else from_images(listed)
    method = partial(methods.load("profile", section["method"]), **section["options"])
    cells = pd.concat([judged.cells, read([name for name in used if name in names])], axis=1)
    features, infinite = profile.aggregate_cells(read, names, cells["Metadata_Well"], method)
    facts = {"kind": judged.kind, "failure": judged.failure}
    wells, warnings = profile.build_profile(cells, judged.wells, features, declared=section, **facts)
    few = wells[wells["Metadata_Status"] != "ok"].rename(columns={"Metadata_Reason": "reason"})
    entries = [
        *(ledger.as_entry(*told) for told in judged.entries),
        ledger.noted("warning", "wells", few if not judged.failure else few.iloc[:0]),
        ledger.noted("warning", "wells", warnings.assign(count=len(wells))),
        ledger.noted("warning", "values", profile.note_infinite(infinite, len(cells))),
        ledger.noted("failure", "plates", pd.DataFrame({"reason": [judged.failure] if judged.failure else []})),
    ]
    made = store.provenance(snakemake.params, snakemake.input)
    store.save_table(wells, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"rows in": len(judged.kept), "counted": len(cells), "wells": len(wells)})
