"""The `plateline` command: what surrounds a campaign. Running it stays `snakemake`.

Owns the words on the command line and what is printed; a room of this folder does the work of each command. All but
`new` are called in the campaign folder.
"""

import argparse
import sys
from pathlib import Path

from plateline.cli.campaign import COPIED, SNAKEFILE, new
from plateline.cli.lock import unlock
from plateline.errors import PlatelineError

__all__ = ["COPIED", "SNAKEFILE", "main", "new"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when it went well, 1 with the reason on standard error when not."""
    given = _parser().parse_args(arguments)
    try:
        print(given.run(given))
    except (PlatelineError, OSError) as error:
        print(f"plateline: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="plateline", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="command")
    command = commands.add_parser("new", help="make a campaign folder with config, plate sheet and Snakefile")
    command.add_argument("folder", type=Path)
    command.set_defaults(run=_new)
    _add_preview(
        commands.add_parser("preview", help="segment a few wells of a plate with several methods, and show it")
    )
    command = commands.add_parser("orphans", help="delete files and Zarr arrays under results/ that no target names")
    command.set_defaults(run=_orphans)
    _add_dry_run(command)
    command = commands.add_parser("clean", help="delete all that was made of a plate")
    command.add_argument("plate")
    command.set_defaults(run=_clean)
    _add_dry_run(command)
    command = commands.add_parser("unlock", help="take off the lock that a killed run has left")
    command.set_defaults(run=lambda given: unlock(dry_run=given.dry_run))
    _add_dry_run(command)
    return parser


def _add_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("-n", "--dry-run", action="store_true", help="only say what would be done")


def _add_preview(command: argparse.ArgumentParser) -> None:
    command.add_argument("plate")
    command.add_argument("--wells", nargs="+", default=[], help="these wells; default: controls, top dose, extremes")
    command.add_argument(
        "--methods", nargs="+", default=[], help="these methods; default: the configured and all shipped ones"
    )
    command.add_argument("--seed", type=int, default=0, help="another number draws other wells")
    command.add_argument("--approve", action="store_true", help="approve the segmentation that the last preview showed")
    command.set_defaults(run=_preview)


def _new(given: argparse.Namespace) -> str:
    new(given.folder)
    return (
        f"{given.folder} is ready: edit config/plates.tsv and config/config.yaml there, then run: snakemake --cores all"
    )


# What follows imports what reads and draws, which the other commands need not wait for.


def _orphans(given: argparse.Namespace) -> str:
    from plateline.cli import leftovers

    return leftovers.delete_orphans(dry_run=given.dry_run)


def _clean(given: argparse.Namespace) -> str:
    from plateline.cli import leftovers

    return leftovers.clean(given.plate, dry_run=given.dry_run)


def _preview(given: argparse.Namespace) -> str:
    from plateline.cli import preview

    if given.approve:
        return preview.approve(given.plate)
    return preview.preview(given.plate, wells=given.wells, names=given.methods, seed=given.seed)
