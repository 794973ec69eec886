"""Plateline: a high-content screen from the microscope's folder to the report a scientist reads.

The includes stand in the order of the data; the word of a stage opens its rules, scripts, library, config and results.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/platemap.smk"
include: "workflow/rules/flatfield.smk"
include: "workflow/rules/qc.smk"
include: "workflow/rules/segment.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/assay.smk"
include: "workflow/rules/correct.smk"
include: "workflow/rules/hits.smk"
include: "workflow/rules/classify.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/ledger.smk"


rule all:
    default_target: True
    input:
        "results/report/index.html",
        expand("results/report/{plate}/index.html", plate=PLATES),
        "results/verdict.json",


onstart:
    start_run()
