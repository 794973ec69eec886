"""Which treatments do something, and at which dose.

Needs: corrected profiles and the wells of all plates.
Makes: results/hits/hits.parquet (one treatment), hits.csv (the hits alone), wells.parquet (one well),
features.parquet (the strongest features of a treatment), dose_response.parquet (compound and readout),
false_positives.parquet (control wells that were called).
"""


rule hits_screen:
    """Distance to controls, effect size, FDR and dose response."""
    input:
        profiles="results/correct/profiles.parquet",
        wells=expand("results/profile/{plate}.parquet", plate=PLATES),
    output:
        table="results/hits/hits.parquet",
        wells="results/hits/wells.parquet",
        dose_response="results/hits/dose_response.parquet",
        features="results/hits/features.parquet",
        rates="results/hits/false_positives.parquet",
        hits="results/hits/hits.csv",
        ledger="results/hits/hits.ledger.parquet",
    log:
        "logs/hits_screen/screen.log",
    benchmark:
        "logs/hits_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        section=section("hits", "screen"),
        code=code("hits"),
    script:
        "../scripts/hits_screen.py"
