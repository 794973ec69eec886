"""A campaign folder: made from the clone, and its config and sheet read as a run reads them."""

import csv
import shutil
from pathlib import Path

import yaml

from plateline import config as settings
from plateline.errors import ConfigError

CLONE = Path(__file__).resolve().parents[3]
CONFIG = Path("config/config.yaml")
COPIED = (
    "config/config.yaml",
    "config/README.md",
    "slurm/config.yaml",
    "profiles/default/config.yaml",
    "profiles/local-gpu/config.yaml",
)

# An include does not pass on its default target.
SNAKEFILE = """\
include: "{clone}/Snakefile"


rule campaign:
    input:
        rules.all.input,
    default_target: True
"""


def new(folder: Path, clone: Path = CLONE) -> None:
    """Make a campaign folder: config, sheet with the demo plate, profiles, and a Snakefile that includes the clone.

    Parameters
    ----------
    folder : Path
        Made if missing; must be empty.
    clone : Path
        The clone of Plateline that the campaign runs.

    Raises
    ------
    ConfigError
        If the folder holds something already, or Plateline was installed without its clone.
    """
    if not (clone / "Snakefile").is_file():
        msg = f"no Snakefile in {clone}: a campaign runs the clone of Plateline; install it with pip install -e"
        raise ConfigError(msg)
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        msg = f"{folder} is not empty; expected a new folder for the campaign"
        raise ConfigError(msg)
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clone / name, folder / name)
    _copy_sheet(clone / "config" / "plates.tsv", folder / "config" / "plates.tsv", clone)
    (folder / "Snakefile").write_text(SNAKEFILE.format(clone=clone))


def _copy_sheet(source: Path, target: Path, clone: Path) -> None:
    """The demo's plate sheet with whole paths, so that the campaign runs as it is."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        row |= {column: str(clone / row[column]) for column in ("source", "platemap")}
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read() -> tuple[dict, list[dict[str, str]]]:
    """Config and plate sheet of the campaign in the working directory, refused or filled in as when it is run.

    Returns
    -------
    config : dict
        With defaults.
    sheet : list of dict
        Lines with defaults, also of plates that are not in use.

    Raises
    ------
    ConfigError
        If this is no campaign folder, or for what `check` refuses.
    """
    # Imports what the stages know of their keys.
    from plateline import check

    config_schema, line_schema = (
        _read_yaml(CLONE / "workflow" / "schemas" / f"{name}.schema.yaml") for name in ("config", "plates")
    )
    config = _own_config()
    check.check_config(config, config_schema)
    config = settings.fill_defaults(config, config_schema)
    sheet = [settings.fill_defaults(line, line_schema) for line in settings.read_sheet(config["sheet"])]
    check.check_sheet(sheet, line_schema, config, config_schema)
    return config, sheet


def plate_source(plate: str) -> str:
    """Source folder of a plate in the sheet of the campaign in the working directory; empty where none names it."""
    sheet = settings.read_sheet(_own_config().get("sheet", "config/plates.tsv"))
    return next((line.get("source", "") for line in sheet if line.get("plate") == plate), "")


def plate_line(sheet: list[dict[str, str]], plate: str) -> dict[str, str]:
    """The sheet's line of a plate in use.

    Raises
    ------
    ConfigError
        If the sheet has no such line, naming the plates in use.
    """
    lines = {line["plate"]: line for line in sheet if line["use"] == "yes"}
    if plate not in lines:
        msg = f"plate {plate!r} is not in use; the plate sheet has {', '.join(lines)}"
        raise ConfigError(msg)
    return lines[plate]


def _own_config() -> dict:
    """The campaign's config as written."""
    if not CONFIG.is_file():
        msg = f"no file {CONFIG} in {Path.cwd()}; expected to be called in a campaign folder (plateline new makes one)"
        raise ConfigError(msg)
    return _read_yaml(CONFIG)


def _read_yaml(path: Path) -> dict:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        msg = f"{path} is no YAML: {error}"
        raise ConfigError(msg) from error
