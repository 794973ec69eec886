"""Nuclei, cells and cytoplasm as label images.

Needs: pixels, part tables and illumination of a plate.
Makes: results/segment/{plate}/part-{part}.parquet (one object), part-{part}.fields.parquet (one field, vouching for
       its labels), and labels/{nuclei,cells,cytoplasm} in results/images/{plate}.zarr.
"""


rule segment_part:
    """Segment a share of a plate's wells."""
    input:
        fields="results/ingest/{plate}/part-{part}.parquet",
        flatfield="results/flatfield/{plate}/flatfield.parquet",
    output:
        table="results/segment/{plate}/part-{part}.parquet",
        fields="results/segment/{plate}/part-{part}.fields.parquet",
        ledger="results/segment/{plate}/part-{part}.ledger.parquet",
    log:
        "logs/segment_part/{plate}.part-{part}.log",
    benchmark:
        "logs/segment_part/{plate}.part-{part}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        section=section("segment", "part"),
        code=code("segment"),
        share=share,
    script:
        "../scripts/segment_part.py"
