"""What the treatments resemble, with held-out evaluation.

Needs: corrected profiles.
Makes: results/classify/predictions.parquet (one treatment), resemblance.parquet (nearest other, cluster, map),
evaluation.json (scores with intervals and controls).
"""


rule classify_screen:
    """Learn from the control and reference wells and predict every treatment."""
    input:
        profiles="results/correct/profiles.parquet",
    output:
        table="results/classify/predictions.parquet",
        resemblance="results/classify/resemblance.parquet",
        evaluation="results/classify/evaluation.json",
        ledger="results/classify/predictions.ledger.parquet",
    log:
        "logs/classify_screen/screen.log",
    benchmark:
        "logs/classify_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        section=section("classify", "screen"),
        code=code("classify"),
    script:
        "../scripts/classify_screen.py"
