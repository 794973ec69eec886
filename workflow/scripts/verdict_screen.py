"""Fail the run, naming them, if plates were given up or counts do not add up."""

from plateline import ledger, log, store

with log.job(snakemake) as counts:
    verdict = ledger.verdict(store.read_table(snakemake.input.ledger))
    store.save_json(verdict, snakemake.output.verdict)
    counts.update({"plates": len(verdict["plates"])})
