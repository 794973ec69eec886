"""Normalise the wells of all plates on their controls and select features."""

from functools import partial

from plateline import correct, ledger, log, methods, store

section = snakemake.params.section

with log.job(snakemake) as counts:
    wells = store.read_tables(snakemake.input.wells)
    corrected, selection, left_out = correct.correct_profiles(
        wells,
        partial(methods.load("correct", section["method"]), **section["options"]),
        min_controls=section["min_controls"],
        max_correlation=section["max_correlation"],
        drop=section["drop"],
    )
    made = store.provenance(snakemake.params, snakemake.input)
    entries = [ledger.counted("wells", len(wells), len(corrected)), ledger.noted("exclusion", "wells", left_out)]
    store.save_table(corrected, snakemake.output.table, made)
    store.save_anndata(corrected, snakemake.output.anndata)
    store.save_table(selection, snakemake.output.selection, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"wells in": len(wells), "corrected": len(corrected), "features kept": int(selection["kept"].sum())})
