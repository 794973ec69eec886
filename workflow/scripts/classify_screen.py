"""Learn from the control wells and predict every treatment."""

from functools import partial

import pandas as pd

from plateline import classify, ledger, log, methods, store

section = snakemake.params.section

with log.job(snakemake) as counts:
    profiles = store.read_table(snakemake.input.profiles)
    make = partial(methods.load("classify", section["method"]), **section["options"], seed=section["seed"])
    predictions, evaluation = classify.classify_treatments(
        profiles, make, hold_out=section["hold_out"], coverage=section["coverage"], seed=section["seed"]
    )
    made = store.provenance(snakemake.params, snakemake.input)
    silent = evaluation["status"] != "ok"
    warnings = pd.DataFrame({"reason": [evaluation["reason"]] if silent else [], "count": len(predictions)})
    store.save_table(predictions, snakemake.output.table, made)
    store.save_json(evaluation, snakemake.output.evaluation)
    store.save_table(
        ledger.of_job(snakemake, [ledger.noted("warning", "treatments", warnings)]), snakemake.output.ledger, made
    )
    counts.update({"wells": len(profiles), "treatments": len(predictions)})
