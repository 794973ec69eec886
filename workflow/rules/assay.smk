"""Is the plate any good: statistics of its controls and effects of position, for the declared readouts.

Needs: the wells of a plate.
Makes: results/assay/{plate}.parquet (one readout and positive control), {plate}.positions.parquet (one readout and
position effect), {plate}.bscores.parquet (one well and readout).
"""


rule assay_plate:
    """Score the readouts of a plate by its controls."""
    input:
        wells="results/profile/{plate}.parquet",
    output:
        table="results/assay/{plate}.parquet",
        positions="results/assay/{plate}.positions.parquet",
        bscores="results/assay/{plate}.bscores.parquet",
        ledger="results/assay/{plate}.ledger.parquet",
    log:
        "logs/assay_plate/{plate}.log",
    benchmark:
        "logs/assay_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        section=section("assay", "plate"),
        code=code("assay"),
    script:
        "../scripts/assay_plate.py"
