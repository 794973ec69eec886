"""Train the network of a segmenter."""

import pandas as pd

from plateline import compute, ledger, log, store

section, output = snakemake.params.section, snakemake.output

with log.job(snakemake) as counts, compute.devices(snakemake.resources.get("gpu", 0)):
    # Torch, which must not look for devices before this job has its own.
    from plateline.models import training
    from plateline.models.fit import fit

    made = store.provenance(snakemake.params, snakemake.input)
    pairs, left_out = store.read_training(section["images"], section["masks"], section["channel"])
    source = training.sources(pairs)
    held_out = training.hold_out(pairs, source, folds=section["folds"], fold=section["fold"], seed=section["seed"])
    judges = [pair for pair, out in zip(pairs, held_out, strict=True) if out]
    recipe = training.recipe_of(section)
    about = {"method": section["method"], "diameter_px": recipe.diameter_px}
    first = store.read_model(section["begin"])["arrays"] if section["begin"] else {}
    scores = [training.score(first, judges, **about).assign(when="before")] if first else []
    state = f"{output.model}.state"
    images, labels = ([pair[part] for pair in pairs] for part in ("image", "labels"))
    given = {"source": source, "method": section["method"], "recipe": recipe}
    for check in fit(images, labels, held_out, **given, begin=store.read_state(state, made["key"]) or first):
        store.save_state(check.state, made["key"], state)
        log.progress(check.step, recipe.steps, f"loss {check.loss:.4f}, held out {check.held_out:.4f}")
    scores.append(training.score(check.weights, judges, **about).assign(when="after"))
    store.save_model(check.weights, training.card(section, pairs, held_out, scores[-1]), output.model)
    curve = pd.DataFrame(check.curve, columns=["step", "loss", "held_out"])
    store.save_table(curve.astype({"step": int}), output.curve, made)
    store.save_table(pd.concat(scores), output.scores, made)
    files = len(pairs) + len(left_out)
    entries = [
        ledger.counted("images", files, len(pairs)),
        ledger.noted("exclusion", "images", pd.DataFrame(left_out, columns=["name", "reason"])),
    ]
    store.save_table(ledger.of_job(snakemake, entries), output.ledger, made)
    store.drop_state(state)
    counts.update({"images": len(pairs), "steps": check.step})
