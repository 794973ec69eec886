"""Join the ledgers of all jobs."""

import pandas as pd

from plateline import ledger, log, store

with log.job(snakemake) as counts:
    jobs = store.read_tables(snakemake.input.ledgers)
    unused = pd.DataFrame(snakemake.params.section["unused"].items(), columns=["Metadata_Plate", "reason"])
    unused["reason"] = "not used: " + unused["reason"]
    joined = pd.concat([jobs, ledger.of_job(snakemake, [ledger.noted("exclusion", "plates", unused)])])
    made = store.provenance(snakemake.params, snakemake.input)
    store.save_table(joined, snakemake.output.table, made)
    counts.update({"jobs": len(snakemake.input.ledgers), "entries": len(joined)})
