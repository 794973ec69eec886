"""Config, plate sheet and params: what every rule file uses, and the only one with functions.

Needs: config/config.yaml and the plate sheet it names.
Makes: PLATES (the plates in use, by name), and the params `section`, `code` and `share`.
"""

import atexit
import gc
import sys
from pathlib import Path

import yaml

from plateline import config as settings
from plateline import digests
from plateline import run as runs
from plateline import sheet as sheets

SCHEMAS = Path(str(workflow.current_basedir), "..", "schemas").resolve()
PAGE_FILES = sorted(
    Path(str(workflow.current_basedir), "..", "report").resolve().glob("*.[hc]*")
)
PART_STAGES = ["ingest", "qc", "segment", "measure"]

# Jobs and files of the graph live as long as the run. Python would look through them for garbage every 700 new ones,
# and once more at the end: a fifth of a dry run.
gc.freeze()
gc.set_threshold(100_000, 10, 10)
atexit.register(gc.freeze)

# Read once: every job waits for it.
CONFIG_SCHEMA, SHEET_SCHEMA = (
    yaml.load(
        (SCHEMAS / f"{name}.schema.yaml").read_text(),
        Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
    )
    for name in ("config", "plates")
)

if workflow.is_main_process:
    # Imports too much for every cluster job, which trusts the main process.
    from plateline import check

    check.check_config(config, CONFIG_SCHEMA)

config.update(settings.fill_defaults(config, CONFIG_SCHEMA))
SHEET = [
    settings.fill_defaults(row, SHEET_SCHEMA)
    for row in settings.read_sheet(config["sheet"])
]

if workflow.is_main_process:
    check.check_sheet(SHEET, SHEET_SCHEMA, config, CONFIG_SCHEMA)
    check.check_modality(SHEET, config)
    check.check_approved(SHEET, config)
    check.check_writable(sys.argv[1:])
    # What --touch is for: a person vouches for what is there.
    if not {"--touch", "-t"} & {*sys.argv}:
        check.check_records()

PLATES = {row["plate"]: row for row in SHEET if row["use"] == "yes"}
UNUSED = {row["plate"]: row["use"] for row in SHEET if row["use"] != "yes"}


wildcard_constraints:
    plate="|".join(PLATES) or "no_plate_in_use",
    part=r"\d+",


def plate_of(wildcards):
    """Line of the sheet for the plate of a rule, or None for a screen rule."""
    return PLATES.get(wildcards.get("plate"))


def section(stage, grain):
    """Param: what a rule depends on in the config and the sheet."""

    def of_rule(wildcards):
        found = settings.section(config, stage, grain, plate_of(wildcards))
        return found | {"unused": UNUSED} if stage == "ledger" else found

    return of_rule


def code(stage, grain=""):
    """Param: digest of the code a stage runs; of a training, that of the training."""

    def of_rule(wildcards):
        plate = plate_of(wildcards) or {}
        method = settings.method_of(config, stage, plate)
        if grain == "fit":
            return digests.code_digest(stage, "plateline.models.training")
        imported = stage == "profile" and sheets.is_imported(plate)
        more = ["plateline.tables"] if imported else []
        members = settings.members_of(config, stage, plate)
        return digests.code_digest(stage, method, *members, *more)

    return of_rule


def share(wildcards):
    """Param: the part of a rule and the number of parts of its plate, so that a new number redoes them all."""
    return [int(wildcards.part), int(PLATES[wildcards.plate]["parts"])]


def parts(path):
    """Input: the tables of all parts of a plate."""

    def of_rule(wildcards):
        return [
            path.format(plate=wildcards.plate, part=part)
            for part in part_numbers(wildcards.plate)
        ]

    return of_rule


def part_numbers(plate):
    """Parts of a plate, counted from 1."""
    return range(1, int(PLATES[plate]["parts"]) + 1)


def platemap_file(wildcards):
    """Input: the file with the plate map of a plate."""
    return settings.platemap_of(PLATES[wildcards.plate])


def model_files(wildcards):
    """Input: the models of the segmenter of a plate and of its ensemble, of those that have one."""
    return settings.models_of(config, "segment", plate_of(wildcards))


def training_files(wildcards):
    """Input: the images and masks to train on."""
    return settings.training_files(config["segment"]["fit"])


def is_trained():
    """Whether this campaign trains a model that one of its plates uses."""
    return any(
        settings.FITTED in settings.models_of(config, "segment", row)
        for row in PLATES.values()
    )


def training_tables(wildcards):
    """Input: what the page of the screen shows of a training; nothing where no model is trained."""
    if not is_trained():
        return {}
    return {
        name: f"results/segment/model.{name}.parquet" for name in ("curve", "scores")
    }


def index_table(wildcards):
    """Input: the index of a plate's images, if it has images."""
    if sheets.is_imported(PLATES[wildcards.plate]):
        return []
    return f"results/ingest/{wildcards.plate}/images.parquet"


def profile_inputs(wildcards):
    """Input: what a plate's wells are made from: the tables of its images, or somebody else's table of profiles."""
    chosen = section("profile", "plate")(wildcards)
    plate = PLATES[wildcards.plate]
    found = {"exclusions": [chosen["exclude_list"]] if chosen["exclude_list"] else []}
    if plate["platemap"]:
        found["platemap"] = f"results/platemap/{wildcards.plate}.parquet"
    if sheets.is_imported(plate):
        mapping = chosen["imported"]["columns_file"]
        found["source"] = sheets.tables_of(plate, chosen["imported"]["file"])
        return found | {"columns": [mapping] if mapping else []}
    return found | {
        "fields": parts("results/segment/{plate}/part-{part}.fields.parquet")(
            wildcards
        ),
        "pixels": parts("results/ingest/{plate}/part-{part}.parquet")(wildcards),
        "flags": f"results/qc/{wildcards.plate}/fields.parquet",
        "objects": parts("results/segment/{plate}/part-{part}.parquet")(wildcards),
        "cells": parts("results/measure/{plate}/part-{part}.parquet")(wildcards),
    }


def page_inputs(wildcards):
    """Input: the tables of a plate's images that its page shows; none for a plate without images."""
    if sheets.is_imported(PLATES[wildcards.plate]):
        return {}
    return {
        "fields": parts("results/ingest/{plate}/part-{part}.parquet")(wildcards),
        "segmented": parts("results/segment/{plate}/part-{part}.fields.parquet")(
            wildcards
        ),
        "flags": f"results/qc/{wildcards.plate}/fields.parquet",
    }


def ledgers_of(plate):
    """Ledgers of all jobs of a plate, in the order of the data."""
    if sheets.is_imported(PLATES[plate]):
        jobs = [f"platemap/{plate}"] if PLATES[plate]["platemap"] else []
        jobs += [f"profile/{plate}", f"assay/{plate}"]
        return [f"results/{job}.ledger.parquet" for job in jobs]
    jobs = [
        f"ingest/{plate}/images",
        f"platemap/{plate}",
        f"flatfield/{plate}/flatfield",
        f"qc/{plate}/fields",
    ]
    jobs += [
        f"{stage}/{plate}/part-{part}"
        for stage in PART_STAGES
        for part in part_numbers(plate)
    ]
    jobs += [f"profile/{plate}", f"assay/{plate}"]
    return [f"results/{job}.ledger.parquet" for job in jobs]


def provided_files(wildcards):
    """Input: the illuminations that the config provides for a plate; none for other methods of flatfield."""
    chosen = section("flatfield", "plate")(wildcards)
    if chosen["method"] != "provided":
        return []
    return settings.provided_files(**chosen["options"], plate=wildcards.plate)


def plate_ledgers(wildcards):
    """Input: the ledgers of a plate."""
    return ledgers_of(wildcards.plate)


def screen_ledgers(wildcards):
    """Input: the ledgers of all plates and of the screen."""
    screen = ["correct/profiles", "hits/hits", "classify/predictions"]
    screen += ["segment/model"] if is_trained() else []
    of_plates = [ledger for plate in PLATES for ledger in ledgers_of(plate)]
    return of_plates + [f"results/{job}.ledger.parquet" for job in screen]


def start_run():
    """What the run rests on goes to results/run.json; tables that no rule makes any more are named."""
    runs.begin_run([*workflow.configfiles, config["sheet"]], config)
    for warning in filter(None, map(runs.grown, PLATES.values())):
        logger.warning(warning)
    for path in runs.orphans({plate: len(part_numbers(plate)) for plate in PLATES}):
        logger.warning(f"{path} is left from an earlier config; no rule makes it now")
