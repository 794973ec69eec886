"""What is in each well: compound, dose, controls.

Needs: the plate's plate map, from the sheet, and the index.
Makes: results/platemap/{plate}.parquet (one well). A corrected plate map never re-reads an image.
"""


rule platemap_plate:
    """Read the plate map of a plate."""
    input:
        platemap=platemap_file,
        index=index_table,
    output:
        table="results/platemap/{plate}.parquet",
        ledger="results/platemap/{plate}.ledger.parquet",
    log:
        "logs/platemap_plate/{plate}.log",
    benchmark:
        "logs/platemap_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        section=section("platemap", "plate"),
        code=code("platemap"),
    script:
        "../scripts/platemap_plate.py"
