"""The section of the config that each rule depends on, and the files that the config names.

Standard library only: every cluster job imports this before anything else.
"""

import csv
import glob
import json
import time
from functools import cache
from pathlib import Path

from plateline import methods
from plateline.digests import PACKAGE, digest_file, module_file
from plateline.errors import ConfigError
from plateline.sheet import is_imported

# Stage words in the order of the data, with the grains of their rules.
STAGES = {
    "ingest": ("plate", "part"),
    "platemap": ("plate",),
    "flatfield": ("plate",),
    "qc": ("part", "plate"),
    "segment": ("fit", "part"),
    "measure": ("part",),
    "profile": ("plate",),
    "assay": ("plate",),
    "correct": ("screen",),
    "hits": ("screen",),
    "classify": ("screen",),
    "report": ("plate", "screen"),
    "ledger": ("screen",),
}
GRAINS = ("fit", "part", "plate", "screen")
# Keys that decide whether a run begins, and not what it makes.
GATES = ("approve",)

# What a rule must know of its plate's line in the sheet, beside its section.
SHEET_FACTS = {
    ("ingest", "plate"): ("source", "layout", "shape"),
    ("ingest", "part"): ("source", "layout"),
    ("platemap", "plate"): ("batch", "barcode", "shape"),
    ("assay", "plate"): ("shape",),
}

# What `profile` must know of a plate whose source is somebody else's table, as `ingest` and `platemap` do of others.
IMPORTED_FACTS = ("source", "batch", "barcode", "shape")

# Models that come with the clone, and the one that a campaign trains.
SHIPPED = PACKAGE.parents[1] / "resources" / "models"
FITTED = "results/segment/model.safetensors"


def read_sheet(path: str | Path) -> list[dict[str, str]]:
    """Lines of the plate sheet, a TSV, as text; blank cells are left out, `#` lines are comments."""
    if not Path(path).is_file():
        msg = f"sheet: no file {path}; expected a tab-separated table with a line per plate (config/README.md)"
        raise ConfigError(msg)
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    for row in rows:
        if any(cell.strip() for cell in row.pop(None, [])):
            msg = f"sheet {path}, plate {row.get('plate')}: more cells than the header has columns"
            raise ConfigError(msg)
    return [{key: value.strip() for key, value in row.items() if key and value and value.strip()} for row in rows]


def platemap_of(plate: dict[str, str]) -> str:
    """File with the plate map of a plate: the sheet's, or the one that a Broad `barcode_platemap.csv` names for it.

    Parameters
    ----------
    plate : dict
        Line of the sheet. The plate is looked up by its `barcode`, or its name where there is none.

    Raises
    ------
    ConfigError
        If the table cannot be read, does not name exactly one map of the barcode, or the map is no plain name.
    """
    table = Path(plate["platemap"])
    if table.name != "barcode_platemap.csv":
        return str(table)
    barcode, maps = plate.get("barcode") or plate["plate"], _maps_by_barcode(table)
    if barcode not in maps:
        near = [known for known in maps if known.lstrip("0") == barcode.lstrip("0")]
        found = ", ".join((near or sorted(maps))[:5])
        msg = (
            f"plate sheet, plate {plate['plate']}: {table} has no barcode {barcode!r} (it has {found}); expected the "
            "plate's name or its column barcode"
        )
        raise ConfigError(msg)
    names = sorted(maps[barcode])
    if len(names) > 1 or not names[0] or Path(names[0]).name != names[0]:
        msg = f"{table}: barcode {barcode!r} has the plate map {' and '.join(names)!r}; expected one name of a file"
        raise ConfigError(msg)
    return str(table.parent / "platemap" / f"{names[0].removesuffix('.txt')}.txt")


def _maps_by_barcode(table: Path) -> dict[str, set[str]]:
    """Names of the plate maps of each barcode."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        pairs = [(row["Assay_Plate_Barcode"].strip(), row["Plate_Map_Name"].strip()) for row in rows]
    except (OSError, ValueError, csv.Error, KeyError, AttributeError) as error:
        msg = f"{table} cannot be read ({error}); expected a CSV with Assay_Plate_Barcode and Plate_Map_Name"
        raise ConfigError(msg) from error
    return {barcode: {name for other, name in pairs if other == barcode} for barcode, _ in pairs}


def fill_defaults(value: dict, schema: dict) -> dict:
    """The config with the schema's defaults where a key is missing; the config's own values stay."""
    filled = dict(value)
    for key, rule in schema.get("properties", {}).items():
        if key not in filled and "default" in rule:
            filled[key] = rule["default"]
        if isinstance(filled.get(key), dict):
            filled[key] = fill_defaults(filled[key], rule)
    return filled


def override(config: dict, plate: dict[str, str]) -> dict:
    """The config as one plate sees it: columns of the sheet with a dot (`segment.cells.grow_px`) replace that key."""
    merged = config
    for column, text in plate.items():
        if "." in column:
            try:
                merged = _replace(merged, column.split("."), _scalar(text))
            except KeyError:
                msg = f"plate sheet, plate {plate.get('plate')}: column {column!r} is no key of the config"
                raise ConfigError(msg) from None
    return merged


def _replace(block: dict, path: list[str], value) -> dict:
    """The block with one key changed that it has; what does not change is shared, since a plate has many rules."""
    if not isinstance(block, dict) or path[0] not in block:
        raise KeyError(path[0])
    return block | {path[0]: _replace(block[path[0]], path[1:], value) if path[1:] else value}


def _scalar(text: str):
    """A cell of the sheet as JSON would read it, or the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def section(config: dict, stage: str, grain: str, plate: dict[str, str] | None = None) -> dict:
    """What one rule depends on: its stage's shared keys, its grain's block, its method's options, its plate's facts.

    Parameters
    ----------
    config : dict
        The whole config, defaults filled in.
    stage, grain : str
        Stage word and suffix of the rule.
    plate : dict, optional
        Line of the sheet of the rule's plate: overrides and facts.

    Returns
    -------
    dict
        Sorted by key at every level, because Snakemake compares params by their text. The options of the chosen method
        stand under `options`; the blocks of other methods and grains are left out. An option `model` is a file: its
        digest stands under `model_digest`, so that new weights count as a change; of a model that a rule trains, the
        file is an input instead. Under `ensemble` of `segment` stands the same of each method of an ensemble, with its
        name as `method`.
    """
    stage_config = override(config, plate or {}).get(stage, {})
    if grain == "fit":  # a training depends on nothing else
        return json.loads(json.dumps(stage_config["fit"], sort_keys=True))
    imported = stage == "profile" and is_imported(plate or {})
    blocks = {*GRAINS, *GATES, "custom", *methods.TABLES.get(stage, {})} | (set() if imported else {"imported"})
    chosen = {key: value for key, value in stage_config.items() if key not in blocks}
    chosen |= stage_config.get(grain, {})
    facts = IMPORTED_FACTS if imported else SHEET_FACTS.get((stage, grain), ())
    chosen |= {fact: (plate or {})[fact] for fact in facts if fact in (plate or {})}
    if method := method_of(config, stage, plate):
        chosen |= _options_of(config, stage, plate, method)
    if stage == "segment":
        chosen["ensemble"] = [
            {"method": name} | _options_of(config, stage, plate, name) for name in members_of(config, stage, plate)
        ]
    return json.loads(json.dumps(chosen, sort_keys=True))


def _options_of(config: dict, stage: str, plate: dict[str, str] | None, method: str) -> dict:
    """What the config says of one method, with the digest of its model where no rule makes that."""
    block = method if method in methods.TABLES[stage] else "custom"
    found = {"options": override(config, plate or {}).get(stage, {}).get(block, {})}
    model = model_of(config, stage, plate, method)
    return found | ({"model_digest": _digest_model(Path(model))} if model and model != FITTED else {})


def _digest_model(model: Path) -> str:
    """Digest of a model's file, which is read again only where it changed: every part of every plate asks."""
    state = model.stat() if model.is_file() else None
    if state is None or time.time() - state.st_ctime < 1:  # it may change again without a later time of change
        return digest_file(model)
    return _digest_as_of(model, (state.st_ino, state.st_size, state.st_ctime_ns))


@cache
def _digest_as_of(model: Path, state: tuple[int, int, int]) -> str:
    return digest_file(model)


def model_of(config: dict, stage: str, plate: dict[str, str] | None = None, method: str | None = None) -> str:
    """File with the model of the method a stage uses, or of another method of it; empty for a method without one.

    The option `model` is a path, the name of a model in `SHIPPED`, `fit` for the model that this campaign trains, or
    empty for the one that is shipped under the name of the method.
    """
    method = method or method_of(config, stage, plate)
    known = method in methods.TABLES.get(stage, {})
    model = override(config, plate or {}).get(stage, {}).get(method if known else "custom", {}).get("model")
    if model is None:
        return ""
    if model == "fit":
        return FITTED
    shipped = SHIPPED / f"{model or method}.safetensors"
    return str(shipped) if not model or shipped.is_file() else model


def method_of(config: dict, stage: str, plate: dict[str, str] | None = None) -> str | None:
    """Name of the method a stage uses; the layout for `ingest`; None for a stage without choice."""
    if stage == "ingest":
        return (plate or {}).get("layout")
    return override(config, plate or {}).get(stage, {}).get("method")


def members_of(config: dict, stage: str, plate: dict[str, str] | None = None) -> list[str]:
    """Names of the methods whose nuclei `segment` compares with those of its own; none for other stages."""
    return override(config, plate or {}).get(stage, {}).get("ensemble", []) if stage == "segment" else []


def models_of(config: dict, stage: str, plate: dict[str, str] | None = None) -> list[str]:
    """Files with the models of the method a stage uses and of its ensemble, in that order, of those that have one."""
    names = [method_of(config, stage, plate), *members_of(config, stage, plate)]
    return [model for name in names if (model := model_of(config, stage, plate, name))]


def files_of(folder: str) -> list[str]:
    """TIFF files of a folder, sorted; none of no folder."""
    return sorted(path.as_posix() for path in Path(folder).glob("*.tif*")) if folder else []


def is_plate(folder: str) -> bool:
    """Whether a folder is the root of an OME-Zarr plate, of either version of its metadata."""
    return bool(folder) and any(Path(folder, name).is_file() for name in ("zarr.json", ".zattrs"))


def training_files(fit: dict) -> list[str]:
    """Files that a training reads, sorted: TIFF files of two folders, or the painted fields of an OME-Zarr plate.

    Parameters
    ----------
    fit : dict
        The block `segment.fit`: `images` and `masks`; with a plate as `images`, `masks` is the name of a label.
    """
    if not is_plate(fit["images"]):
        return [path for key in ("images", "masks") for path in files_of(fit[key])]
    labels = Path(fit["images"]).glob(f"*/*/*/labels/{glob.escape(fit['masks'])}") if fit["masks"] else []
    painted = [(label, chunks) for label in labels if (chunks := _chunks(label))]
    return sorted(path for label, chunks in painted for path in [*chunks, *_chunks(label.parents[1] / "0")])


def _chunks(folder: Path) -> list[str]:
    """Files of a Zarr array or of the arrays of a group, without their metadata; none before something is written."""
    metadata = ("zarr.json", ".zattrs", ".zarray", ".zgroup")
    return [path.as_posix() for path in folder.rglob("*") if path.is_file() and path.name not in metadata]


def provided_files(folder: str, pattern: str, plate: str) -> list[str]:
    """Files of a folder whose names fit a pattern with `{plate}` and `{channel}`, for one plate and any channel."""
    name = "*".join(glob.escape(piece.replace("{plate}", plate)) for piece in pattern.split("{channel}"))
    return sorted(path.as_posix() for path in Path(folder).glob(name)) if folder else []


def method_files(config: dict) -> list[Path]:
    """Files of the methods that are not the package's own."""
    names = {stage: [method_of(config, stage), *members_of(config, stage)] for stage in methods.TABLES}
    chosen = [methods.target(stage, name) for stage in names for name in names[stage] if name]
    files = [module_file(path.partition(":")[0]) for path in chosen if not path.startswith("plateline.")]
    return [file for file in files if file]
