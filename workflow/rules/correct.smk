"""Profiles on one scale: normalised on controls, features selected.

Needs: the wells of all plates.
Makes: results/correct/profiles.parquet, profiles.h5ad (all wells), selection.parquet (one feature).
"""


rule correct_screen:
    """Normalise the wells of all plates on their controls and select features."""
    input:
        wells=expand("results/profile/{plate}.parquet", plate=PLATES),
    output:
        table="results/correct/profiles.parquet",
        anndata="results/correct/profiles.h5ad",
        selection="results/correct/selection.parquet",
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
