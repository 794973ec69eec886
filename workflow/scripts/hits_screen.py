"""Distance to controls, effect size, FDR and dose response."""

from plateline import hits, ledger, log, store
from plateline.identity import readouts_of

section = snakemake.params.section

with log.job(snakemake) as counts:
    profiles = store.read_table(snakemake.input.profiles)
    wells, other = hits.one_pixel_size(store.read_tables(snakemake.input.wells))
    treatments, features, rates = hits.find_hits(profiles, wells, section=section)
    curves = hits.dose_curves(profiles, wells, readouts_of(wells), confidence=section["confidence"])
    curves["confidence"] = section["confidence"]
    made = store.provenance(snakemake.params, snakemake.input)
    untested = treatments[treatments["reason"] != ""]
    reasons = untested["Metadata_Treatment"] + ": " + untested["reason"]
    entries = [
        ledger.noted("warning", "treatments", untested.assign(reason=reasons)),
        ledger.noted("warning", "wells", other),
        ledger.noted("warning", "features", hits.uneven_features(wells)),
        ledger.noted("warning", "wells", rates[rates["reason"] != ""].assign(count=rates["n_wells"])),
    ]
    store.save_table(treatments, snakemake.output.table, made)
    store.save_table(hits.distances(profiles), snakemake.output.wells, made)
    store.save_table(curves, snakemake.output.dose_response, made)
    store.save_table(features, snakemake.output.features, made)
    store.save_table(rates, snakemake.output.rates, made)
    store.save_csv(hits.hit_list(treatments, curves), snakemake.output.hits)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"wells": len(profiles), "treatments": len(treatments), "hits": int(treatments["hit"].sum())})
