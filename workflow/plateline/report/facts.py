"""The few numbers at the top of a page, and the lines about the run at its end."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from plateline.report.canvas import readable
from plateline.report.sections import CELLS
from plateline.report.tables import count, interval, number, text


def plate_facts(wells: pd.DataFrame, assay: pd.DataFrame) -> list[dict[str, str]]:
    """The few numbers at the top: wells, fields, cells and the Z' of the first readout."""
    ok = int((wells["Metadata_Status"] == "ok").sum())
    # A table of another program may not tell its fields and cells: then they are not known, not none.
    fields, expected = (wells[name].sum(min_count=1) for name in ("Metadata_Site_Count", "Metadata_Sites_Expected"))
    facts = [
        _fact(f"{ok:,}", "wells measured", f"of {len(wells):,}"),
        _fact(count(fields), "valid fields", f"of {count(expected)}"),
        _cells_fact(wells),
    ]
    return facts + _zprime_fact(assay)


def screen_facts(read: dict[str, pd.DataFrame]) -> list[dict[str, str]]:
    """The few numbers at the top of the screen's page."""
    plates, wells, treatments = read["plates"], read["wells"], read["treatments"]
    ok = int((wells["Metadata_Status"] == "ok").sum())
    done = int((plates["status"] == "ok").sum())
    tested = int(treatments["q"].notna().sum())
    facts = [
        _fact(f"{done:,}", "plate" if done == 1 else "plates", f"of {len(plates):,}"),
        _fact(f"{ok:,}", "wells measured", f"of {len(wells):,}"),
        _cells_fact(wells),
    ]
    n_hits = int(treatments["hit"].eq(True).sum())
    hits = [_fact(f"{n_hits:,}", "hit" if n_hits == 1 else "hits", f"of {tested:,} treatments tested")]
    return facts + _zprime_fact(read["assay"]) + (hits if len(treatments) else [])


def flat(record: dict, path: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested dicts as lines, names joined by a dot."""
    for key, value in record.items():
        name = f"{path}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{name}.")
        else:
            yield name, text(value) if not isinstance(value, list) else ", ".join(map(str, value))


def _fact(value: str, name: str, note: str) -> dict[str, str]:
    return {"value": value, "name": name, "note": note}


def _cells_fact(wells: pd.DataFrame) -> dict[str, str]:
    median = _median(wells[CELLS])
    return _fact(
        count(wells[CELLS].sum(min_count=1)), "cells", "" if np.isnan(median) else f"{count(median)} a well (median)"
    )


def _zprime_fact(assay: pd.DataFrame) -> list[dict[str, str]]:
    """Z' of the first readout and positive group; over several plates the median with the lowest."""
    if not len(assay):
        return []
    main = assay[(assay["readout"] == assay["readout"].iloc[0]) & (assay["positive"] == assay["positive"].iloc[0])]
    name = f"Z′ of {readable(main['readout'].iloc[0], 24)}"
    if len(main) == 1:
        row = main.iloc[0]
        note = interval(row["zprime_low"], row["zprime_high"]) or "not estimable"
        return [_fact(number(row["zprime"]), name, note)]
    return [
        _fact(
            number(_median(main["zprime"])),
            name,
            f"median of {len(main)} plates; lowest {number(main['zprime'].min())}",
        )
    ]


def _median(values: pd.Series) -> float:
    return float(values.median()) if values.notna().any() else np.nan
