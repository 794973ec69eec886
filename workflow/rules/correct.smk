"""Profiles on one scale: normalised on controls, features selected, batch effects removed.

Needs: the wells of all plates.
Makes: results/correct/profiles.parquet, profiles.h5ad (all wells), selection.parquet (one feature), mixing.parquet
(what the correction did to batches and to biology).
"""


rule correct_screen:
    """Scale the wells of all plates on their controls, select features, remove batch effects."""
    input:
        wells=expand("results/profile/{plate}.parquet", plate=PLATES),
    output:
        table="results/correct/profiles.parquet",
        anndata="results/correct/profiles.h5ad",
        selection="results/correct/selection.parquet",
        mixing="results/correct/mixing.parquet",
        ledger="results/correct/profiles.ledger.parquet",
    log:
        "logs/correct_screen/screen.log",
    benchmark:
        "logs/correct_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        section=section("correct", "screen"),
        code=code("correct"),
    script:
        "../scripts/correct_screen.py"
