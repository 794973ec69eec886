"""Write the page of a plate."""

from pathlib import Path

import numpy as np
import pandas as pd

from plateline import log, report, store
from plateline.identity import FIELD, readouts_of

plate, section = snakemake.wildcards.plate, snakemake.params.section


def picture(well, title, pixels, segmented):
    """First good field of a well with its labels, for the gallery."""
    field = segmented[(segmented["Metadata_Well"] == well) & (segmented["status"] == "ok")].iloc[0]
    raw = pixels.merge(field[FIELD].to_frame().T.astype(pixels[FIELD].dtypes)).iloc[0]
    zarr, place = store.images_of(plate), list(field[FIELD[1:]])
    labels = store.read_labels(zarr, *place, field["Metadata_Key"])
    image = store.read_field(zarr, *place, raw["Metadata_Key"]) / np.float32(raw["full_scale"])
    return {"well": well, "title": title, "image": image, **{name: labels[name] for name in ("nuclei", "cells")}}


with log.job(snakemake) as counts:
    wells = store.read_table(snakemake.input.wells)
    images = snakemake.input.get("fields")  # a plate that started from a table of profiles has none
    pixels = store.read_tables(images) if images else pd.DataFrame()
    segmented = store.read_tables(snakemake.input.segmented) if images else pd.DataFrame()
    tables = {
        "wells": wells,
        "assay": store.read_table(snakemake.input.assay),
        "positions": store.read_table(snakemake.input.positions),
        "fields": store.read_table(snakemake.input.flags) if images else pd.DataFrame(),
        "segmented": segmented,
        "ledger": store.read_tables(snakemake.input.ledgers),
    }
    readouts = readouts_of(wells, first=section["main_readout"])
    chosen = report.pick_wells(wells, readouts) if images else []
    pages = report.plate_page(
        tables,
        plate=plate,
        readouts=readouts,
        channels=pixels["channels"].iloc[0].split("|") if len(pixels) else [],
        gallery=[picture(well, title, pixels, segmented) for well, title in chosen],
        gallery_px=section["gallery_px"],
        templates=store.read_texts(snakemake.input.templates),
    )
    store.save_pages(pages, Path(snakemake.output.page).parent)
    counts.update({"wells": len(wells), "pictured": len(chosen), "files": len(pages)})
