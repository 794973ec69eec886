"""Score the readouts of a plate by its controls."""

from plateline import assay, ledger, log, store
from plateline.identity import readouts_of

with log.job(snakemake) as counts:
    wells = store.read_table(snakemake.input.wells)
    scores = assay.plate_statistics(wells, readouts_of(wells), **snakemake.params.section)
    scores["confidence"] = snakemake.params.section["confidence"]
    warnings = scores[scores["reason"] != ""]
    reasons = warnings["readout"] + " against " + warnings["positive"] + ": " + warnings["reason"]
    made = store.provenance(snakemake.params, snakemake.input)
    entries = [ledger.noted("warning", "wells", warnings.assign(reason=reasons, count=len(wells)))]
    store.save_table(scores, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"wells": len(wells), "scores": len(scores)})
