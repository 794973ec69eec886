"""Where the wells of a plate stand and what is in them: which of them a test of positions may use.

Owns the choice of the one treatment whose wells are compared, and whether treatment is aligned with row or column. A
difference between positions that hold different treatments may be the treatments'; such plates answer
`not estimable`.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import PlatelineError
from plateline.identity import READOUT, row_number, split_well

NEEDED = ["Metadata_Plate", "Metadata_Well", "Metadata_Status", "Metadata_ControlType", "Metadata_Compound"]
# Fewer wells tell no pattern: a rank test of 8 wells in two halves has 35 different answers.
MIN_POSITIONS = 8
# Share of pairs of wells of one treatment that stand in one line, beyond chance. Scattered wells give 0 +- 0.05, dose
# series along a line 1, controls filling 4 of the 24 columns of a 384-well plate 0.2.
ALIGNED = 0.15
LINES = ("row", "column")
# What makes wells of one compound differ, beside its dose.
_ALSO = ("Metadata_CellLine", "Metadata_Donor", "Metadata_TimePoint_h")
_NO_TREATMENT = {"exclude", "blank"}


def check_plate(wells: pd.DataFrame, readouts: list[str]) -> None:
    """Refuse a table that is not one plate's or lacks a column.

    Raises
    ------
    PlatelineError
        If the table holds several plates or lacks a column of `NEEDED` or of the readouts.
    """
    missing = [c for c in [*NEEDED, *(READOUT + r for r in readouts)] if c not in wells]
    if missing:
        had = [c.removeprefix(READOUT) for c in wells if c.startswith(READOUT)]
        msg = f"plate statistics need the columns {missing}; the table has the readouts {had}; rerun rule profile_plate"
        raise PlatelineError(msg)
    plates = sorted(set(wells["Metadata_Plate"]))
    if len(plates) > 1:
        msg = f"plate statistics take one plate; got {len(plates)}: {plates[:5]}; split the table by Metadata_Plate"
        raise PlatelineError(msg)


def places(wells: pd.DataFrame) -> pd.DataFrame:
    """Usable wells with `row` and `column` counted from 0 and what is in them as `treatment`, in reading order.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table.

    Returns
    -------
    DataFrame
        Columns `row`, `column` (int64), `kind` (control type), `treatment` (text: control type, treatment and, where
        the table has them, cell line, donor and time; empty where the plate map does not say what is in the well),
        `compound` (text), `dose` (float64, NaN for controls) and the readouts, indexed by well. Only wells with status
        ``ok`` that are not excluded or blank.
    """
    usable = wells[(wells["Metadata_Status"] == "ok") & ~wells["Metadata_ControlType"].isin(_NO_TREATMENT)]
    name = usable.get("Metadata_Treatment", usable["Metadata_Compound"]).fillna("").astype(str)
    kind = usable["Metadata_ControlType"].astype(str)
    also = ["|" + usable[column].fillna("").astype(str) for column in _ALSO if column in usable]
    known = (name != "") | kind.isin({"negative", "untreated"})
    treatment = (kind + " " + name).str.strip() + sum(also, start=pd.Series("", usable.index))
    split = [split_well(well) for well in usable["Metadata_Well"]]
    table = pd.DataFrame(
        {
            "row": np.array([row_number(letters) for letters, _ in split], np.int64),
            "column": np.array([int(digits) - 1 for _, digits in split], np.int64),
            "kind": kind.to_numpy(object),
            "treatment": treatment.where(known, "").to_numpy(object),
            "compound": usable["Metadata_Compound"].fillna("").to_numpy(object),
            "dose": usable.get("Metadata_Concentration", pd.Series(np.nan, usable.index)).to_numpy(np.float64),
            **{c: usable[c].to_numpy(np.float64) for c in usable if c.startswith(READOUT)},
        },
        index=pd.Index(usable["Metadata_Well"], dtype=object),
    )
    return table.sort_values(["row", "column"], kind="stable")


def alignment(levels: npt.ArrayLike, lines: npt.ArrayLike, all_lines: npt.ArrayLike) -> float:
    """How much oftener than by chance two wells of one level stand in the same line.

    Parameters
    ----------
    levels : array_like, shape (N,)
        What is in each well.
    lines : array_like of int, shape (N,)
        Row, or column, of each well.
    all_lines : array_like of int, shape (M,)
        The same of every well of the plate, which tells the chance.

    Returns
    -------
    float
        (observed - chance) / (1 - chance): about 0 for scattered wells, 1 where every level keeps to one line, below 0
        where wells of a level avoid each other's lines. NaN without two wells of one level, or on a plate of one line.
    """
    observed = _share_of_pairs(pd.Series(np.asarray(lines)).groupby(np.asarray(levels)))
    chance = _share_of_pairs(pd.Series(np.asarray(all_lines)).groupby(np.zeros(np.size(all_lines))))
    return float((observed - chance) / (1 - chance)) if chance < 1 else np.nan


def _share_of_pairs(groups: pd.api.typing.SeriesGroupBy) -> float:
    """Share of the pairs of wells within a group that have the same line; NaN without pairs."""
    together = groups.value_counts()
    sizes = groups.size()
    pairs = (sizes * (sizes - 1)).sum()
    return float((together * (together - 1)).sum() / pairs) if pairs else np.nan


def aligned_with(chosen: pd.DataFrame, table: pd.DataFrame, by: str = "treatment") -> str:
    """``row``, ``column`` or nothing: the line that wells of one level of `by` keep to, the stronger if both."""
    found = {line: alignment(chosen[by], chosen[line], table[line]) for line in LINES}
    strong = {line: value for line, value in found.items() if value > ALIGNED}
    return max(strong, key=lambda line: strong[line]) if strong else ""


def one_treatment(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Wells of the one treatment that a test of positions uses, and why it may not.

    Parameters
    ----------
    table : DataFrame
        From `places`, NaN wells of the readout left out.

    Returns
    -------
    chosen : DataFrame
        The wells of the largest treatment whose wells are scattered; of the largest at all where none is. Ties go to
        the negative controls, then by name.
    reason : str
        Empty, or ``not estimable:`` and why: too few wells, or aligned with row or column.
    """
    named = table[table["treatment"] != ""]
    if named.empty:
        return named, f"not estimable: 0 wells of any one treatment, at least {MIN_POSITIONS} needed"
    sizes = named.groupby("treatment").size().reset_index(name="n")
    sizes["late"] = ~sizes["treatment"].str.startswith("negative")
    ranked = sizes.sort_values(["n", "late", "treatment"], ascending=[False, True, True])["treatment"]
    groups = [named[named["treatment"] == name] for name in ranked]
    enough = [group for group in groups if len(group) >= MIN_POSITIONS]
    if not enough:
        largest = groups[0]
        n = f"{len(largest)} well{'s' * (len(largest) != 1)} of the largest treatment, {name_of(largest)}"
        return largest, f"not estimable: {n}, at least {MIN_POSITIONS} needed"
    lines = [aligned_with(group, table) for group in enough]
    scattered = next((group for group, line in zip(enough, lines, strict=True) if not line), None)
    if scattered is not None:
        return scattered, ""
    of_line = f"{name_of(enough[0])} stands in {enough[0][lines[0]].nunique()} {lines[0]}s"
    return enough[0], f"not estimable: treatment is aligned with {lines[0]}: {of_line}"


def name_of(chosen: pd.DataFrame) -> str:
    """Name of the treatment the wells hold."""
    return str(chosen["treatment"].iloc[0]) if len(chosen) else ""
