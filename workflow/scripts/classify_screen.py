"""Learn from the control and reference wells and predict every treatment."""

from functools import partial

import pandas as pd

from plateline import classify, ledger, log, methods, store

section = snakemake.params.section

with log.job(snakemake) as counts:
    profiles = store.read_table(snakemake.input.profiles)
    make = classify.wrap(
        partial(methods.load("classify", section["method"]), **section["options"]),
        **{key: section[key] for key in ("resample", "clean", "ensemble", "temperature", "seed")},
    )
    predictions, evaluation = classify.classify_treatments(
        profiles,
        make,
        **{key: section[key] for key in ("hold_out", "coverage", "seed", "level", "negative_class")},
    )
    made = store.provenance(snakemake.params, snakemake.input)
    warnings = classify.warnings_of(evaluation)
    warnings = pd.DataFrame({"reason": warnings, "count": len(predictions)}, index=range(len(warnings)))
    store.save_table(predictions, snakemake.output.table, made)
    store.save_table(classify.resemblance(profiles), snakemake.output.resemblance, made)
    store.save_json(evaluation, snakemake.output.evaluation)
    store.save_table(
        ledger.of_job(snakemake, [ledger.noted("warning", "treatments", warnings)]), snakemake.output.ledger, made
    )
    counts.update({"wells": len(profiles), "treatments": len(predictions)})
