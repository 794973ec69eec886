"""Score the readouts of a plate by its controls, and ask whether position shows in them."""

from plateline import assay, ledger, log, store
from plateline.identity import readouts_of

section = dict(snakemake.params.section)
shape = int(section.pop("shape"))

with log.job(snakemake) as counts:
    wells = store.read_table(snakemake.input.wells)
    scores = assay.plate_statistics(wells, readouts_of(wells), **section)
    positions = assay.position_effects(wells, readouts_of(wells), shape=shape, **section)
    scores["confidence"] = positions["confidence"] = section["confidence"]
    warnings = scores[scores["reason"] != ""]
    reasons = warnings["readout"] + " against " + warnings["positive"] + ": " + warnings["reason"]
    made = store.provenance(snakemake.params, snakemake.input)
    entries = [ledger.noted("warning", "wells", warnings.assign(reason=reasons, count=len(wells)))]
    entries.append(ledger.noted("warning", "wells", assay.findings(positions).assign(count=len(wells))))
    store.save_table(scores, snakemake.output.table, made)
    store.save_table(positions, snakemake.output.positions, made)
    store.save_table(assay.well_scores(wells, readouts_of(wells)), snakemake.output.bscores, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"wells": len(wells), "scores": len(scores), "effects": len(positions)})
