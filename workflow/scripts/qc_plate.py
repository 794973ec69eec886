"""Flag fields against the rest of their plate."""

from plateline import ledger, log, qc, store

with log.job(snakemake) as counts:
    metrics = store.read_tables(snakemake.input.metrics)
    fields = qc.flag_fields(metrics, **snakemake.params.section)
    flagged = fields[fields["flags"] != ""]
    reasons = flagged["flags"] + " in " + flagged["Metadata_Channel"]
    made = store.provenance(snakemake.params, snakemake.input)
    entries = [ledger.noted("warning", "fields", flagged.assign(reason=reasons))]
    store.save_table(fields, snakemake.output.table, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"images of a field and channel": len(fields), "flagged": len(flagged)})
