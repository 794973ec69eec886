"""Nuclei, cells and cytoplasm as label images.

Needs: images with label masks, where a model is to be trained; pixels, part tables and illumination of a plate.
Makes: results/segment/model.safetensors (its card beside it), where one is trained; results/segment/{plate}/part-{part}.parquet (one object), part-{part}.fields.parquet (one field, vouching for
       its labels), and labels/{nuclei,cells,cytoplasm} in results/images/{plate}.zarr.
"""


rule segment_fit_screen:
    """Train the network of a segmenter on images and their label masks."""
    input:
        files=training_files,
    output:
        model="results/segment/model.safetensors",
        card="results/segment/model.json",
        curve="results/segment/model.curve.parquet",
        scores="results/segment/model.scores.parquet",
        ledger="results/segment/model.ledger.parquet",
    log:
        "logs/segment_fit_screen/screen.log",
    benchmark:
        "logs/segment_fit_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 4
    resources:
        mem_mb=16000,
        runtime=720,
        gpu=0,
    params:
        section=section("segment", "fit"),
        code=code("segment", "fit"),
    script:
        "../scripts/segment_fit_screen.py"


rule segment_part:
    """Segment a share of a plate's wells."""
    input:
        fields="results/ingest/{plate}/part-{part}.parquet",
        flatfield="results/flatfield/{plate}/flatfield.parquet",
        models=model_files,
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
        gpu=0,
    params:
        section=section("segment", "part"),
        code=code("segment"),
        share=share,
    script:
        "../scripts/segment_part.py"
