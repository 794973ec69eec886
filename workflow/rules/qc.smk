"""Image quality per field and channel.

Needs: the pixels of a plate and the part tables that vouch for them.
Makes: results/qc/{plate}/part-{part}.parquet (metrics), fields.parquet (metrics and flags), drift.parquet (trends in the
order of imaging). Flags exclude in `profile`.
"""


rule qc_part:
    """Measure focus, saturation and background of a share of a plate's wells."""
    input:
        fields="results/ingest/{plate}/part-{part}.parquet",
    output:
        table="results/qc/{plate}/part-{part}.parquet",
        ledger="results/qc/{plate}/part-{part}.ledger.parquet",
    log:
        "logs/qc_part/{plate}.part-{part}.log",
    benchmark:
        "logs/qc_part/{plate}.part-{part}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        section=section("qc", "part"),
        code=code("qc"),
        share=share,
    script:
        "../scripts/qc_part.py"


rule qc_plate:
    """Flag fields against the rest of their plate."""
    input:
        metrics=parts("results/qc/{plate}/part-{part}.parquet"),
    output:
        table="results/qc/{plate}/fields.parquet",
        drift="results/qc/{plate}/drift.parquet",
        ledger="results/qc/{plate}/fields.ledger.parquet",
    log:
        "logs/qc_plate/{plate}.log",
    benchmark:
        "logs/qc_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        section=section("qc", "plate"),
        code=code("qc"),
    script:
        "../scripts/qc_plate.py"
