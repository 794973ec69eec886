"""Refuse a config or a plate sheet that cannot be meant, before the graph is built.

Only the main process of a run imports this. Every message says which key, what it got and what it expected.
"""

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

import jsonschema

from plateline import config as settings
from plateline import measure, methods, readouts, run
from plateline import sheet as sheets
from plateline.check.segmenters import check_ensemble, check_modality
from plateline.errors import ConfigError

__all__ = [
    "approval_of",
    "check_approved",
    "check_config",
    "check_modality",
    "check_records",
    "check_sheet",
    "check_writable",
    "segment_digest",
]


def check_config(config: dict, schema: dict, where: str = "config") -> None:
    """Refuse a config that does not fit its schema, names unknown methods, or declares readouts outside the grammar.

    Parameters
    ----------
    config : dict
        As loaded, before defaults are filled in.
    schema : dict
        JSON schema, closed objects.
    where : str
        Start of each message.

    Raises
    ------
    ConfigError
        Naming every key that does not fit.
    """
    _fit_schema(config, schema, where)
    filled = settings.fill_defaults(config, schema)
    for stage in methods.TABLES:
        _check_method(filled, stage, where)
    check_ensemble(filled, where)
    _check_channels(filled, where)
    _check_readouts(filled, where)
    listed = filled["profile"]["exclude_list"]
    if listed and not Path(listed).is_file():
        msg = f"{where}: profile.exclude_list: no file {listed!r}; expected a table of wells and fields to exclude"
        raise ConfigError(msg)


def _check_method(config: dict, stage: str, where: str) -> None:
    """A method, and each of an ensemble, must be one that can be meant, and its model a file."""
    for method in filter(None, [settings.method_of(config, stage), *settings.members_of(config, stage)]):
        methods.target(stage, method)
        model = settings.model_of(config, stage, method=method)
        if model == settings.FITTED:
            _check_fit(config, method, where)
        elif model and not Path(model).is_file():
            msg = f"{where}: {stage}: model: no file {model!r}; expected the weights of method {method}"
            raise ConfigError(msg)


def _check_fit(config: dict, method: str, where: str) -> None:
    """A model can be trained when there are images and masks, and it is for the method that uses it."""
    fit = config["segment"]["fit"]
    if settings.is_plate(fit["images"]):
        _check_painted(fit, where)
        missing = False
    else:
        missing = any(not settings.files_of(fit[key]) for key in ("images", "masks"))
    if missing or fit["method"] != method:
        msg = (
            f"{where}: segment.{method}.model is 'fit': got segment.fit with method {fit['method']}, images "
            f"{fit['images']!r} and masks {fit['masks']!r}; expected method {method} and two folders with TIFF files, "
            "or an OME-Zarr plate and the name of a label"
        )
        raise ConfigError(msg)


def _check_painted(fit: dict, where: str) -> None:
    """A plate to train on has the label, and is none that this campaign writes: its labels would be written over."""
    if Path(fit["images"]).resolve().is_relative_to(Path("results").resolve()):
        msg = (
            f"{where}: segment.fit.images: got {fit['images']!r}, which this campaign writes anew; expected a plate "
            "outside results/: copy it"
        )
        raise ConfigError(msg)
    if not settings.training_files(fit):
        msg = (
            f"{where}: segment.fit.masks: no field of {fit['images']} has a label {fit['masks']!r} with anything "
            "painted; expected the name of one under labels/"
        )
        raise ConfigError(msg)


def _check_channels(config: dict, where: str) -> None:
    """Every channel that a stage names must be one that `ingest` gives a name to, where it names them."""
    channels = list(config["ingest"]["plate"]["channels"].values())
    if twice := [name for name, count in Counter(channels).items() if count > 1]:
        msg = f"{where}: ingest.plate.channels: {twice} is the name of more than one channel; expected different names"
        raise ConfigError(msg)
    projection = config["ingest"]["part"]["projection"]
    wanted = {
        "qc.plate.roles.DNA": [name for name in [config["qc"]["plate"]["roles"]["DNA"]] if name],
        "segment.nuclei_channel": [config["segment"]["nuclei_channel"]],
        "segment.cell_channels": config["segment"]["cell_channels"],
        "measure.full_scale": config["measure"]["full_scale"],
        "measure.skip_channels": config["measure"]["skip_channels"],
        "ingest.part.projection": projection if isinstance(projection, dict) else {},
    }
    for key, names in wanted.items():
        if channels and (unknown := [name for name in names if name not in channels]):
            msg = f"{where}: {key}: got {unknown[0]!r}; expected a name in ingest.plate.channels: {', '.join(channels)}"
            raise ConfigError(msg)


def _check_readouts(config: dict, where: str) -> None:
    """Gates and readouts must be in the grammar, on features that are measured, where the channels are named."""
    profile, channels = config["profile"], list(config["ingest"]["plate"]["channels"].values())
    trees = readouts.parse(profile["quantities"], profile["gates"], profile["readouts"])
    main = config["report"]["main_readout"]
    if main and main not in trees[2]:
        msg = f"{where}: report.main_readout: got {main!r}; expected one of {', '.join(trees[2])}"
        raise ConfigError(msg)
    measured = measure.feature_names(channels, measure.Settings(**config["measure"]))
    for name in readouts.features_in(trees) if channels else ():
        if name not in measured:
            near = ", ".join(get_close_matches(name, measured, n=3)) or "none is like it"
            msg = f"{where}: profile names feature {name!r}, which measure does not make; nearest: {near}"
            raise ConfigError(msg)


def check_sheet(sheet: list[dict[str, str]], schema: dict, config: dict, config_schema: dict) -> None:
    """Refuse a plate sheet whose lines do not fit, whose files are missing, or whose overrides break the config.

    Parameters
    ----------
    sheet : list of dict
        Lines with defaults filled in.
    schema, config_schema : dict
        JSON schemas of a line and of the config.
    config : dict
        The config that the lines override.

    Raises
    ------
    ConfigError
        Naming plate, column, what it got and what it expected.
    """
    if not sheet:
        msg = f"sheet {config['sheet']} names no plate; expected a line per plate (config/README.md)"
        raise ConfigError(msg)
    counts, meant = Counter(line.get("plate") for line in sheet), set()
    for line in sheet:
        where = f"plate sheet {config['sheet']}, plate {line.get('plate')}"
        _fit_schema(line, schema, where)
        if counts[line["plate"]] > 1:
            msg = f"{where}: stands in {counts[line['plate']]} lines; expected one"
            raise ConfigError(msg)
        if line["use"] == "yes":
            _check_source(line, where, config)
            _check_platemap(line, where)
            if not sheets.is_imported(line):
                methods.target("ingest", line["layout"])
            overrides = tuple(sorted((column, text) for column, text in line.items() if "." in column))
            if overrides not in meant:  # most plates are alike
                check_config(settings.override(config, line), config_schema, where)
            meant.add(overrides)
            _check_overrides(line, where)
    if not any(line["use"] == "yes" for line in sheet):
        msg = f"plate sheet {config['sheet']}: no plate is in use; expected at least one line with yes in column use"
        raise ConfigError(msg)


def check_approved(sheet: list[dict[str, str]], config: dict) -> None:
    """Refuse a run until the segmentation of every plate that asks for it is approved as it is configured now.

    Parameters
    ----------
    sheet : list of dict
        Lines with defaults filled in.
    config : dict
        With defaults; `segment.approve` asks.

    Raises
    ------
    ConfigError
        Naming the plates, and what to run.
    """
    waiting = [line["plate"] for line in sheet if line["use"] == "yes" and not _is_approved(config, line)]
    if waiting:
        name, more = waiting[0], f" and {len(waiting) - 1} more plates" if len(waiting) > 1 else ""
        msg = (
            f"segment.approve: plate {name}{more}: segmentation is not approved as it is configured now; run plateline "
            f"preview {name}, look at the page, then run plateline preview {name} --approve"
        )
        raise ConfigError(msg)


def check_records() -> None:
    """Refuse results without Snakemake's records of what made them: any change would go unnoticed.

    Raises
    ------
    ConfigError
        If no result has one, or if some were left by jobs that outlived their run; naming the ways out.
    """
    held = [path for path in Path(".snakemake").glob("metadata*") if path.is_file() or any(path.iterdir())]
    if not held and any(Path("results", "ingest").glob("*/images.parquet")):
        msg = (
            "results/ holds tables, but .snakemake/ has no record of what made them: results/ and .snakemake/ move "
            "together. Bring .snakemake/ here too; or, if you know that results/ is of this config, sheet and code, "
            "run snakemake --cores 1 --touch --forceall; or delete results/"
        )
        raise ConfigError(msg)
    # While a run is on, its jobs end a moment before it takes note of them.
    if any(Path(".snakemake", "locks").glob("*")):
        return
    if left := run.unrecorded():
        more = f" and {len(left) - 1} more" * (len(left) > 1)
        msg = (
            f"{left[0]}{more} was made by a job that outlived its run, or written or copied by hand since: no change "
            "to it would be noticed; run plateline unlock, which takes over what is of this config and deletes the rest"
        )
        raise ConfigError(msg)


def check_writable(arguments: Iterable[str]) -> None:
    """Refuse a run, but no look at one, where `results` or a folder in it cannot be written.

    Parameters
    ----------
    arguments : iterable of str
        Of the command line: a run names cores, jobs or a profile, a dry run `-n`.

    Raises
    ------
    StorageError
        Naming the folder and the remedy.
    """
    given = list(arguments)
    runs = any(re.match(r"-[cj]|--(cores|jobs|profile)", word) for word in given)
    if not runs or any(re.match(r"-[a-zA-Z]*n[a-zA-Z]*$|--dry-?run$", word) for word in given):
        return
    for folder in [path for path in (run.RUN.parent, *sorted(run.RUN.parent.glob("*/"))) if path.is_dir()]:
        if not os.access(folder, os.W_OK):
            closed = os.statvfs(folder).f_flag & os.ST_RDONLY
            with run.writing(folder):
                raise OSError(errno.EROFS if closed else errno.EACCES, "")


def approval_of(plate: str) -> Path:
    """File that says which segmentation of a plate was approved."""
    return Path("results", "preview", f"{plate}.approved")


def segment_digest(config: dict, line: dict[str, str]) -> str:
    """Digest of the section of `segment` as a plate sees it, weights included; an ensemble changes no label."""
    section = settings.section(config, "segment", "part", line)
    del section["ensemble"]
    return sha256(json.dumps(section).encode()).hexdigest()[:32]


def _is_approved(config: dict, line: dict[str, str]) -> bool:
    if not settings.override(config, line)["segment"]["approve"]:
        return True
    approval = approval_of(line["plate"])
    return approval.is_file() and approval.read_text().strip() == segment_digest(config, line)


def _check_overrides(line: dict[str, str], where: str) -> None:
    """A plate cannot override what is done on all plates together: nothing would read it."""
    for column in line:
        stage, _, key = column.partition(".")
        block = key.partition(".")[0]
        together = block in {"fit", "screen"} or not {"part", "plate"} & set(settings.STAGES.get(stage, ()))
        if key and together:
            msg = f"{where}: column {column!r}: that works on all plates together; expected a key of one plate"
            raise ConfigError(msg)


def _check_source(line: dict[str, str], where: str, config: dict) -> None:
    """A plate needs its source until it is ingested; a table of profiles always."""
    if sheets.is_imported(line):
        imported = settings.override(config, line)["profile"]["imported"]
        if not Path(line["source"]).exists() or not sheets.tables_of(line, imported["file"]):
            msg = f"{where}: source: no table {line['source']!r}; expected a file of profiles or a folder of such files"
            raise ConfigError(msg)
        if imported["columns_file"] and not Path(imported["columns_file"]).is_file():
            msg = f"{where}: profile.imported.columns_file: no file {imported['columns_file']!r}; expected a table"
            raise ConfigError(msg)
        return
    tables = [f"results/ingest/{line['plate']}/part-{part + 1}.parquet" for part in range(int(line["parts"]))]
    ingested = all(Path(table).is_file() for table in tables)
    if not ingested and not Path(line["source"]).is_dir():
        msg = f"{where}: source: no folder {line['source']!r}; expected the folder of the plate's images"
        raise ConfigError(msg)


def _check_platemap(line: dict[str, str], where: str) -> None:
    """A plate needs its plate map always, unless its table of profiles says what is in its wells."""
    if not line["platemap"]:
        if not sheets.is_imported(line):
            msg = f"{where}: missing key 'platemap'"
            raise ConfigError(msg)
        return
    for file in (line["platemap"], settings.platemap_of(line) if Path(line["platemap"]).is_file() else ""):
        if not Path(file).is_file():
            msg = f"{where}: platemap: no file {file!r}; expected the plate map of this plate"
            raise ConfigError(msg)


def _fit_schema(value: dict, schema: dict, where: str) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: error.json_path)
    if errors:
        # A line for every missing key names them all: once is enough.
        raise ConfigError("\n".join(dict.fromkeys(f"{where}: {_explain(error)}" for error in errors)))


def _explain(error: jsonschema.ValidationError) -> str:
    """One sentence: key, got, expected."""
    key = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        known, patterns = error.schema.get("properties", {}), error.schema.get("patternProperties", {})
        unknown = [name for name in error.instance if name not in known and not _fits(name, patterns)]
        return f"{key + ': ' if key else ''}unknown key {', '.join(map(repr, unknown))}; known are {', '.join(known)}"
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{key + ': ' if key else ''}missing key {', '.join(map(repr, missing))}"
    meaning = error.schema.get("description")
    return f"{key}: got {error.instance!r}; expected {_expected(error)}{f' ({meaning})' if meaning else ''}"


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _expected(error: jsonschema.ValidationError) -> str:
    words = {
        "enum": "one of {}",
        "type": "{}",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "pattern": "text like {}",
        "maxProperties": "at most {} entries",
    }
    if error.validator not in words:
        return error.message
    value = error.validator_value
    if error.validator == "pattern" and (choices := re.fullmatch(r"\^\(([\w|-]+)\)\$", value)):
        return "one of " + choices[1].replace("|", ", ")
    return words[error.validator].format(", ".join(map(str, value)) if isinstance(value, list) else value)
