"""Write the page of the screen."""

from pathlib import Path

import pandas as pd
import yaml

from plateline import log, report, run, store
from plateline.identity import readouts_of

section = snakemake.params.section

with log.job(snakemake) as counts:
    trained = snakemake.input.get("curve")  # only where this campaign trains the network of its segmenter
    wells = store.read_metadata(snakemake.input.wells)
    tables = {
        "plates": report.plate_table(wells),
        "wells": wells,
        "pictures": pd.DataFrame([shot for path in snakemake.input.pictures for shot in store.read_json(path)]),
        "assay": store.read_tables(snakemake.input.assay),
        "dose": store.read_table(snakemake.input.dose_response),
        "treatments": store.read_table(snakemake.input.hits),
        "rates": store.read_table(snakemake.input.rates),
        "predictions": store.read_table(snakemake.input.predictions),
        "resemblance": store.read_table(snakemake.input.resemblance),
        "curve": store.read_table(snakemake.input.curve) if trained else pd.DataFrame(),
        "scores": store.read_table(snakemake.input.scores) if trained else pd.DataFrame(),
        "ledger": store.read_table(snakemake.input.ledger),
    }
    pages = report.screen_page(
        tables,
        readouts=readouts_of(wells, first=section["main_readout"]),
        evaluation=store.read_json(snakemake.input.evaluation),
        run=run.read_run(),
        config_text=yaml.safe_dump(snakemake.config, sort_keys=False),
        top_treatments=section["top_treatments"],
        templates=store.read_texts(snakemake.input.templates),
    )
    store.save_pages(pages, Path(snakemake.output.page).parent)
    counts.update({"plates": len(tables["plates"]), "wells": len(wells), "files": len(pages)})
