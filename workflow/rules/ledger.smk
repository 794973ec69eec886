"""All counts and exclusions in one table, and the verdict over them.

Needs: the ledger of every job; for the verdict, the pages.
Makes: results/ledger.parquet, results/verdict.json.
"""


rule ledger_screen:
    """Join the ledgers of all jobs."""
    input:
        ledgers=screen_ledgers,
    output:
        table="results/ledger.parquet",
    log:
        "logs/ledger_screen/screen.log",
    benchmark:
        "logs/ledger_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        section=section("ledger", "screen"),
        code=code("ledger"),
    script:
        "../scripts/ledger_screen.py"


rule verdict_screen:
    """Fail the run, naming them, if plates were given up or counts do not add up."""
    input:
        ledger="results/ledger.parquet",
        pages=[
            "results/report/index.html",
            *expand("results/report/{plate}/index.html", plate=PLATES),
        ],
    output:
        verdict="results/verdict.json",
    log:
        "logs/verdict_screen/screen.log",
    benchmark:
        "logs/verdict_screen/screen.benchmark.tsv"
    conda:
        "../../envs/plateline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        section=section("ledger", "screen"),
        code=code("ledger"),
    script:
        "../scripts/verdict_screen.py"
