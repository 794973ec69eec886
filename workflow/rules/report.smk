"""The pages a person reads.

Needs: the tables of every stage, and pixels and labels for the pictures, where a plate has images; the curve and scores of
       a training, where a model is trained.
Makes: results/report/index.html (the screen), {plate}/index.html, pictures beside them.
"""


rule report_plate:
    """Write the page of a plate."""
    input:
        unpack(page_inputs),
        wells="results/profile/{plate}.parquet",
        assay="results/assay/{plate}.parquet",
        positions="results/assay/{plate}.positions.parquet",
        ledgers=plate_ledgers,
        templates=PAGE_FILES,
    output:
        page="results/report/{plate}/index.html",
        pictures="results/report/{plate}/pictures.json",
    log:
        "logs/report_plate/{plate}.log",
    benchmark:
        "logs/report_plate/{plate}.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        section=section("report", "plate"),
        code=code("report"),
    script:
        "../scripts/report_plate.py"


rule report_screen:
    """Write the page of the screen."""
    input:
        unpack(training_tables),
        wells=expand("results/profile/{plate}.parquet", plate=PLATES),
        assay=expand("results/assay/{plate}.parquet", plate=PLATES),
        hits="results/hits/hits.parquet",
        rates="results/hits/false_positives.parquet",
        dose_response="results/hits/dose_response.parquet",
        predictions="results/classify/predictions.parquet",
        resemblance="results/classify/resemblance.parquet",
        evaluation="results/classify/evaluation.json",
        pictures=expand("results/report/{plate}/pictures.json", plate=PLATES),
        ledger="results/ledger.parquet",
        templates=PAGE_FILES,
    output:
        page="results/report/index.html",
    log:
        "logs/report_screen/screen.log",
    benchmark:
        "logs/report_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        section=section("report", "screen"),
        code=code("report"),
    script:
        "../scripts/report_screen.py"
