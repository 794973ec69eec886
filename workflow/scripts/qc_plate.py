"""Flag fields against the rest of their plate, and tell drift from one end of the run to the other."""

from plateline import ledger, log, qc, store

limits = dict(snakemake.params.section)

with log.job(snakemake) as counts:
    metrics = store.read_tables(snakemake.input.metrics)
    roles = limits.pop("roles")
    least = limits.pop("drift_correlation")
    fields = qc.flag_fields(metrics, **limits)
    drift = qc.find_drift(metrics, blank_contrast=limits["blank_contrast"], drift_correlation=least)
    flagged = fields[fields["flags"] != ""]
    reasons = flagged["flags"] + " in " + flagged["Metadata_Channel"]
    made = store.provenance(snakemake.params, snakemake.input)
    entries = [
        ledger.noted("warning", "fields", flagged.assign(reason=reasons)),
        ledger.noted("warning", "fields", qc.drift_reasons(drift)),
        ledger.noted("warning", "fields", qc.role_reasons(metrics, roles, blank_contrast=limits["blank_contrast"])),
    ]
    store.save_table(fields, snakemake.output.table, made)
    store.save_table(drift, snakemake.output.drift, made)
    store.save_table(ledger.of_job(snakemake, entries), snakemake.output.ledger, made)
    counts.update({"images of a field and channel": len(fields), "flagged": len(flagged)})
