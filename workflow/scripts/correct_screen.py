"""Scale the wells of all plates on their controls, select features, remove batch effects."""

from functools import partial

import pandas as pd

from plateline import correct, ledger, log, methods, store

section = snakemake.params.section

with log.job(snakemake) as counts:
    wells = store.read_tables(snakemake.input.wells)
    made = correct.correct_profiles(
        wells,
        partial(methods.load("correct", section["method"]), **section["options"]),
        scale=methods.load("correct", section["scale"]),
        min_controls=section["min_controls"],
        drop=section["drop"],
        blocklist=section["blocklist"],
        select={key: section[key] for key in ("min_variance", "max_outlier", "max_correlation", "n_relevant")},
    )
    origin = store.provenance(snakemake.params, snakemake.input)
    entries = [
        ledger.counted("wells", len(wells), len(made.profiles)),
        ledger.noted("exclusion", "wells", made.left_out),
        ledger.noted("warning", "profiles", pd.DataFrame({"reason": made.warnings}, dtype=object)),
    ]
    store.save_table(made.profiles, snakemake.output.table, origin)
    store.save_anndata(made.profiles, snakemake.output.anndata)
    store.save_table(made.selection, snakemake.output.selection, origin)
    store.save_table(made.mixing, snakemake.output.mixing, origin)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, origin)
    kept = int(made.selection["kept"].sum())
    counts.update({"wells in": len(wells), "corrected": len(made.profiles), "features kept": kept})
