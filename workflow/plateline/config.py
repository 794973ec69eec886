"""The params of every rule: its section of the config and the digest of its code; and the guard of a run.

Standard library only: every cluster job imports this before anything else.
"""

import ast
import csv
import glob
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from plateline import methods
from plateline.errors import ConfigError, EditedDuringRun
from plateline.sheet import is_imported

PACKAGE = Path(__file__).parent

# Stage words in the order of the data, with the grains of their rules.
STAGES = {
    "ingest": ("plate", "part"),
    "platemap": ("plate",),
    "flatfield": ("plate",),
    "qc": ("part", "plate"),
    "segment": ("part",),
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

# What a rule must know of its plate's line in the sheet, beside its section.
SHEET_FACTS = {
    ("ingest", "plate"): ("source", "layout", "shape"),
    ("ingest", "part"): ("source", "layout"),
    ("platemap", "plate"): ("batch", "barcode", "shape"),
    ("assay", "plate"): ("shape",),
}

# What `profile` must know of a plate whose source is somebody else's table, as `ingest` and `platemap` do of others.
IMPORTED_FACTS = ("source", "batch", "barcode", "shape")

# Doors that cannot change a number; the store counts by its FORMAT.
NOT_COUNTED = {"plateline", "plateline.methods", "plateline.log", "plateline.store"}

RUN = Path("results/run.json")


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
    """The config as one plate sees it: columns of the sheet with a dot (`segment.otsu.grow_px`) replace that key."""
    merged = json.loads(json.dumps(config))
    for column, text in plate.items():
        if "." in column:
            *path, last = column.split(".")
            block = merged
            for key in path:
                block = block.get(key) if isinstance(block, dict) else None
            if not isinstance(block, dict) or last not in block:
                msg = f"plate sheet, plate {plate.get('plate')}: column {column!r} is no key of the config"
                raise ConfigError(msg)
            block[last] = _scalar(text)
    return merged


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
        digest stands under `model_digest`, so that new weights count as a change.
    """
    stage_config = override(config, plate or {}).get(stage, {})
    imported = stage == "profile" and is_imported(plate or {})
    blocks = {*GRAINS, "custom", *methods.TABLES.get(stage, {})} | (set() if imported else {"imported"})
    chosen = {key: value for key, value in stage_config.items() if key not in blocks}
    chosen |= stage_config.get(grain, {})
    facts = IMPORTED_FACTS if imported else SHEET_FACTS.get((stage, grain), ())
    chosen |= {fact: (plate or {})[fact] for fact in facts if fact in (plate or {})}
    if method := method_of(config, stage, plate):
        chosen["options"] = stage_config.get(method if method in methods.TABLES[stage] else "custom", {})
        if model := chosen["options"].get("model"):
            chosen["model_digest"] = digest_file(model)
    return json.loads(json.dumps(chosen, sort_keys=True))


def method_of(config: dict, stage: str, plate: dict[str, str] | None = None) -> str | None:
    """Name of the method a stage uses; the layout for `ingest`; None for a stage without choice."""
    if stage == "ingest":
        return (plate or {}).get("layout")
    return override(config, plate or {}).get(stage, {}).get("method")


@cache
def code_digest(stage: str, method: str | None = None, door: str | None = None) -> str:
    """Digest of the code a stage runs, comments and docstrings apart.

    Covers the stage's module, the chosen method's module, and what they import inside the package; a method from
    elsewhere counts by its own file. The file formats count by ``store.FORMAT``.

    Parameters
    ----------
    stage : str
        Stage word.
    method : str, optional
        Name or import path of the chosen method.
    door : str, optional
        A module that reads the source for this stage, and counts as well.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    roots = [f"plateline.{stage}", *([door] if door else [])]
    if method:
        roots.append(methods.target(stage, method).partition(":")[0])
    found = dict(sorted(_closure(roots).items()))
    return hashlib.sha256(json.dumps([_format(), found]).encode()).hexdigest()[:32]


def _format() -> str:
    text = (PACKAGE / "store" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r"^FORMAT = (\d+)$", text, re.MULTILINE)[0]


def _closure(roots: Iterable[str]) -> dict[str, str]:
    """Bare source of the modules and of all they import inside the package, by name."""
    sources, waiting = {}, list(roots)
    while waiting:
        name = waiting.pop()
        if name in sources or name in NOT_COUNTED or (path := _module_file(name)) is None:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        sources[name] = _bare_source(tree)
        waiting += [*_imports(tree), name.rpartition(".")[0]]
    return {name: source for name, source in sources.items() if source}


def _module_file(name: str) -> Path | None:
    """File of a module; of the package's own by path, so that nothing is imported to find it."""
    if not name:
        return None
    if name.split(".")[0] == "plateline":
        base = PACKAGE.joinpath(*name.split(".")[1:])
        return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec and not spec.origin and spec.submodule_search_locations:
        return None  # a folder without __init__.py
    if spec is None or not spec.origin:
        msg = f"method module {name!r} is not found; expected an installed one or a file beside the Snakefile"
        raise ConfigError(msg)
    return Path(spec.origin)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names of the package's modules a module may import, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("plateline."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "plateline":
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _bare_source(tree: ast.Module) -> str:
    """Source without comments and docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def provided_files(folder: str, pattern: str, plate: str) -> list[str]:
    """Files of a folder whose names fit a pattern with `{plate}` and `{channel}`, for one plate and any channel."""
    name = "*".join(glob.escape(piece.replace("{plate}", plate)) for piece in pattern.split("{channel}"))
    return sorted(path.as_posix() for path in Path(folder).glob(name)) if folder else []


def digest_file(path: str | Path) -> str:
    """sha256 of a file's bytes, 32 hexadecimal digits; `missing` when there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32] if path.is_file() else "missing"


def begin_run(files: Iterable[str | Path], config: dict) -> None:
    """Write what this run rests on to `results/run.json`: digests of its files and config, versions of its tools."""
    files = [*files, *_method_files(config)]
    files += sorted(path for kind in ("*.py", "*.smk") for path in PACKAGE.parent.rglob(kind))
    tools = ("plateline", "snakemake", "numpy", "scipy", "scikit-image", "scikit-learn", "pandas", "pyarrow", "zarr")
    run = {
        "files": {str(file): digest_file(file) for file in files},
        "config": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:32],
        "versions": {"python": sys.version.split()[0]} | {tool: metadata.version(tool) for tool in tools},
    }
    RUN.parent.mkdir(exist_ok=True)
    RUN.write_text(json.dumps(run, indent=1))


def _method_files(config: dict) -> list[Path]:
    """Files of the methods that are not the package's own."""
    chosen = [methods.target(stage, name) for stage in methods.TABLES if (name := method_of(config, stage))]
    files = [_module_file(path.partition(":")[0]) for path in chosen if not path.startswith("plateline.")]
    return [file for file in files if file]


def read_run() -> dict:
    """What `results/run.json` says of the run; empty when a job is run by hand, without one."""
    return json.loads(RUN.read_text()) if RUN.is_file() else {}


def check_run() -> None:
    """Refuse to go on when a file of the run was edited after it began.

    Raises
    ------
    EditedDuringRun
        Naming the files that changed.
    """
    recorded = read_run().get("files", {})
    changed = [path for path, digest in recorded.items() if digest_file(path) != digest]
    if changed:
        msg = (
            f"edited while the run was on: {', '.join(changed)}; start snakemake again, and it redoes what that changes"
        )
        raise EditedDuringRun(msg)


def source_state(folder: str | Path) -> dict[str, float]:
    """Number of files under a source folder, and the newest time of change among them, seconds since 1970."""
    times = [path.stat().st_mtime for path in Path(folder).rglob("*") if path.is_file()]
    return {"files": len(times), "newest": max(times, default=0.0)}


def grown(plate: dict[str, str], root: str | Path = "results") -> str:
    """Why a plate's source is not what was indexed; empty when it is, or is gone, or was never indexed."""
    recorded = Path(root, "ingest", plate["plate"], "source.json")
    if not recorded.is_file() or not Path(plate["source"]).is_dir():
        return ""
    before, now = json.loads(recorded.read_text()), source_state(plate["source"])
    if before == now:
        return ""
    index = f"results/ingest/{plate['plate']}/images.parquet"
    found = f"{plate['source']} has {now['files']} files, {before['files']} when it was indexed, or newer ones"
    return f"plate {plate['plate']}: {found}; to take them in, run snakemake -R {index}"


def orphans(parts: dict[str, int], root: str | Path = "results") -> list[Path]:
    """Tables and plates under `results` that no rule of this config makes; nothing is deleted.

    Parameters
    ----------
    parts : dict of str to int
        Plates in use and their number of parts.
    root : str or Path
        Folder of results.

    Returns
    -------
    list of Path
        Sorted.
    """
    stages = [stage for stage, grains in STAGES.items() if {"plate", "part"} & set(grains)]
    found = [path for stage in stages for path in Path(root, stage).glob("**/*.parquet")]
    found += [*Path(root, "images").glob("*.zarr"), *Path(root, "report").glob("*/index.html")]
    return sorted(path for path in found if _is_orphan(path.relative_to(root), parts))


def _is_orphan(path: Path, parts: dict[str, int]) -> bool:
    plate = re.sub(r"((\.ledger|\.positions)?\.parquet|\.zarr)$", "", path.parts[1])
    part = re.match(r"part-(\d+)\.", path.name)
    hidden = any(name.startswith(".") for name in path.parts)
    return not hidden and (plate not in parts or bool(part and int(part[1]) > parts[plate]))
