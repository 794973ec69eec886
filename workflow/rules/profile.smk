"""Cells become wells: exclusions, gates, readouts, aggregation, counts.

Needs: plate map, fields with flags, objects and features of a plate, or its table of profiles; the exclusion list where
there is one.
Makes: results/profile/{plate}.parquet (one well).
"""


rule profile_plate:
    """Aggregate the cells of a plate to wells."""
    input:
        unpack(profile_inputs),
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
