"""The `plateline` command: what surrounds a campaign. Running it stays `snakemake`."""

import argparse
import csv
import shutil
import sys
from pathlib import Path

from plateline.errors import ConfigError, PlatelineError

CLONE = Path(__file__).resolve().parents[2]
COPIED = ("config/config.yaml", "config/README.md", "slurm/config.yaml", "profiles/default/config.yaml")

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


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when it went well, 1 with the reason on standard error when not."""
    parser = argparse.ArgumentParser(prog="plateline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("new", help="make a campaign folder with config, plate sheet and Snakefile")
    command.add_argument("folder", type=Path)
    command.set_defaults(run=lambda given: new(given.folder))
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except PlatelineError as error:
        print(f"plateline: {error}", file=sys.stderr)
        return 1
    print(
        f"{given.folder} is ready: edit config/plates.tsv and config/config.yaml there, then run: snakemake --cores all"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
