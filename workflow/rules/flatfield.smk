"""Uneven illumination and dark level, per channel.

Needs: the pixels of a plate and the part tables that vouch for them; illuminations of your own, or those the source
names, where provided.
Makes: results/flatfield/{plate}/flatfield.parquet (one channel), {plate}_Illum{Channel}.npy, {plate}_Dark{Channel}.npy.
"""


rule flatfield_plate:
    """Estimate the illumination of each channel from a seeded sample of fields."""
    input:
        index="results/ingest/{plate}/images.parquet",
        fields=parts("results/ingest/{plate}/part-{part}.parquet"),
        provided=provided_files,
    output:
        table="results/flatfield/{plate}/flatfield.parquet",
        ledger="results/flatfield/{plate}/flatfield.ledger.parquet",
    log:
        "logs/flatfield_plate/{plate}.log",
    benchmark:
        "logs/flatfield_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        section=section("flatfield", "plate"),
        code=code("flatfield"),
    script:
        "../scripts/flatfield_plate.py"
