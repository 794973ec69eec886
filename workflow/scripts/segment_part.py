"""Segment a share of a plate's wells."""

from functools import partial

import pandas as pd

from plateline import compute, flatfield, ledger, log, methods, segment, segmenters, store
from plateline.identity import COMPARTMENTS, FIELD, channel_numbers

plate, section, code = snakemake.wildcards.plate, snakemake.params.section, snakemake.params.code
names = segmenters.names_of(section)


def segment_well(well, *, fields, flat, models, section, code, zarr):
    """Objects of a well, and its fields: labels written where the field is good, taken back where it is not."""
    found, checksums = segmenters.load_ensemble(section, models)
    wanted, objects, rows = [section["nuclei_channel"], *section["cell_channels"]], [segment.no_objects()], []
    for field in fields[fields["Metadata_Well"] == well].to_dict("records"):
        place, identity = [field[name] for name in FIELD[1:]], {name: field[name] for name in FIELD}
        row = identity | {"Metadata_Key": "", "checksum": "", "status": field["status"], "reason": field["reason"]}
        if field["status"] == "ok":
            image = flatfield.correct(store.read_field(zarr, *place, field["Metadata_Key"]), *flat["images"])
            row |= segment.status(image)
        if row["status"] != "ok":
            store.reset_labels(zarr, *place)
            rows.append(row | {"n_nuclei": 0, "disagreement": float("nan")})
            continue
        chosen = channel_numbers(field["channels"].split("|"), wanted, key="segment", plate=field["Metadata_Plate"])
        image, where, size = image[chosen], f"plate {identity}", field["pixel_size_um"]
        ready = {n: partial(f, **segment.in_pixels(given, size, where=where)) for n, (f, given) in found.items()}
        labels = segment.segment_field(image, ready.pop(section["method"]), cells=section["cells"], where=where)
        apart = segment.compare_nuclei(image, labels["nuclei"], ready, where=where)
        key = store.chain(section, code, field["Metadata_Key"], flat["key"], *checksums)
        vouch = {"Metadata_Key": key, "checksum": store.checksum(*(labels[name] for name in COMPARTMENTS))}
        store.write_labels(zarr, *place, labels, tuple(vouch.values()))
        objects.append(segment.object_table(labels).assign(**identity, Metadata_Key=key))
        rows.append(row | vouch | {"n_nuclei": segment.count(labels["nuclei"]), "disagreement": apart})
    return {"objects": pd.concat(objects), "fields": pd.DataFrame(rows)}


with log.job(snakemake) as counts, compute.devices(methods.gpus(names, snakemake.resources)) as devices:
    fields = store.read_table(snakemake.input.fields)
    made = store.provenance(snakemake.params, snakemake.input)
    flat = store.read_flatfield(snakemake.input.flatfield, plate)
    known = {"fields": fields, "flat": flat, "models": [*snakemake.input.models], "zarr": store.images_of(plate)}
    work = partial(segment_well, **known, section=section, code=code)
    with store.part(snakemake.output.table, made["key"], sorted(set(fields["Metadata_Well"]))) as part:
        for well, tables in compute.map_wells(work, part.todo, workers=snakemake.threads, devices=devices):
            part.commit(well, tables)
        objects, done = part.join("objects", segment.no_objects()), part.join("fields", segment.no_fields())
        bad, empty = done[done["status"] != "ok"], done[(done["status"] == "ok") & (done["n_nuclei"] == 0)]
        entries = [
            ledger.counted("fields", len(fields), len(fields) - len(bad)),
            ledger.noted("exclusion", "fields", bad),
            ledger.noted("warning", "fields", empty.assign(reason="no nuclei found")),
        ]
        store.save_table(objects, snakemake.output.table, made)
        store.save_table(done, snakemake.output.fields, made)
        store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"fields": len(fields), "nuclei": int(done["n_nuclei"].sum())})
