"""CellProfiler-named features of each cell.

Needs: pixels, labels and illumination of a plate, with the part tables that vouch for them.
Makes: results/measure/{plate}/part-{part}.parquet (one cell, all features).
"""


rule measure_part:
    """Measure the cells of a share of a plate's wells."""
    input:
        fields="results/ingest/{plate}/part-{part}.parquet",
        segmented="results/segment/{plate}/part-{part}.fields.parquet",
        flatfield="results/flatfield/{plate}/flatfield.parquet",
    output:
        table="results/measure/{plate}/part-{part}.parquet",
        ledger="results/measure/{plate}/part-{part}.ledger.parquet",
    log:
        "logs/measure_part/{plate}.part-{part}.log",
    benchmark:
        "logs/measure_part/{plate}.part-{part}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        section=section("measure", "part"),
        code=code("measure"),
        share=share,
    script:
        "../scripts/measure_part.py"
