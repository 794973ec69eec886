"""Cells become wells: exclusions, gates, readouts, aggregation, counts.

Needs: plate map, fields with flags, objects and features of a plate; the exclusion list where there is one.
Makes: results/profile/{plate}.parquet (one well).
"""


rule profile_plate:
    """Aggregate the cells of a plate to wells."""
    input:
        platemap="results/platemap/{plate}.parquet",
        fields=parts("results/segment/{plate}/part-{part}.fields.parquet"),
        flags="results/qc/{plate}/fields.parquet",
        objects=parts("results/segment/{plate}/part-{part}.parquet"),
        cells=parts("results/measure/{plate}/part-{part}.parquet"),
        exclusions=exclude_list,
    output:
        table="results/profile/{plate}.parquet",
        ledger="results/profile/{plate}.ledger.parquet",
    log:
        "logs/profile_plate/{plate}.log",
    benchmark:
        "logs/profile_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        section=section("profile", "plate"),
        code=code("profile"),
    script:
        "../scripts/profile_plate.py"
