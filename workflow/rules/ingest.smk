"""The microscope's folder becomes an index, an OME-Zarr plate and its pixels.

Needs: the plate's source folder and layout, from the sheet.
Makes: results/ingest/{plate}/images.parquet (one image plane), part-{part}.parquet (one field), and
       results/images/{plate}.zarr, whose pixels the part tables vouch for.
"""


rule ingest_plate:
    """Index the planes of a plate and lay out its OME-Zarr, empty."""
    output:
        table="results/ingest/{plate}/images.parquet",
        ledger="results/ingest/{plate}/images.ledger.parquet",
    log:
        "logs/ingest_plate/{plate}.log",
    benchmark:
        "logs/ingest_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        section=section("ingest", "plate"),
        code=code("ingest"),
    script:
        "../scripts/ingest_plate.py"


rule ingest_part:
    """Write the pixels of a share of a plate's wells."""
    input:
        index="results/ingest/{plate}/images.parquet",
    output:
        table="results/ingest/{plate}/part-{part}.parquet",
        ledger="results/ingest/{plate}/part-{part}.ledger.parquet",
    log:
        "logs/ingest_part/{plate}.part-{part}.log",
    benchmark:
        "logs/ingest_part/{plate}.part-{part}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        section=section("ingest", "part"),
        code=code("ingest"),
        share=share,
    script:
        "../scripts/ingest_part.py"
