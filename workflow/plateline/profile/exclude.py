"""Which fields and cells count, and why the others do not."""

import pandas as pd

from plateline.identity import CELL, FIELD


def judge_fields(
    fields: pd.DataFrame, flags: pd.DataFrame, *, exclude_flags: list[str], max_bad_fields: float
) -> tuple[pd.DataFrame, str]:
    """Fields with the reason for which each is excluded, and the reason for which the plate is given up.

    Parameters
    ----------
    fields : DataFrame
        One row per field of the plate: identity, `status` (`ok` or `excluded`), `reason`, from `ingest` or `segment`.
    flags : DataFrame
        One row per field and channel: identity, `Metadata_Channel`, one boolean column per flag.
    exclude_flags : list of str
        Flags that exclude a field when any channel has them.
    max_bad_fields : float
        Share of excluded fields, 0 to 1, above which the plate is given up.

    Returns
    -------
    fields : DataFrame
        FIELD columns and `reason`, empty text for a field that counts.
    failure : str
        Empty, or why the plate is given up.
    """
    reasons = fields[[*FIELD, "reason"]].copy()
    reasons["reason"] = fields["reason"].where(fields["status"] != "ok", "")
    flagged = _flag_reasons(flags, exclude_flags)
    reasons = reasons.merge(flagged, on=FIELD, how="left")
    reasons["reason"] = reasons["reason"].where(reasons["reason"] != "", reasons.pop("flagged").fillna(""))
    if reasons.empty:
        return reasons, "the plate has no fields"
    bad = reasons.loc[reasons["reason"] != "", "reason"]
    if len(bad) <= max_bad_fields * len(reasons):
        return reasons, ""
    share = f"{len(bad)} of {len(reasons)} fields are bad, more than profile.max_bad_fields = {max_bad_fields:g}"
    return reasons, f"{share}; most often: {bad.value_counts().index[0]}"


def _flag_reasons(flags: pd.DataFrame, exclude_flags: list[str]) -> pd.DataFrame:
    """FIELD columns and `flagged`, like `qc: blurred in DNA`, of the fields that a flag excludes."""
    long = flags.melt([*FIELD, "Metadata_Channel"], exclude_flags, var_name="flag", value_name="raised")
    raised = long[long["raised"].astype(bool)]
    named = raised[FIELD].assign(flagged=raised["flag"] + " in " + raised["Metadata_Channel"])
    joined = named.groupby(FIELD)["flagged"].agg(lambda texts: "qc: " + ", ".join(texts)).reset_index()
    return joined.astype(flags[FIELD].dtypes)


def judge_cells(cells: pd.DataFrame, nuclei: pd.DataFrame, fields: pd.DataFrame, *, exclude_border: bool) -> pd.Series:
    """Reason for which each cell is excluded, empty text for a cell that counts.

    Parameters
    ----------
    cells : DataFrame
        One row per cell, with CELL columns.
    nuclei : DataFrame
        One row per nucleus: CELL columns and `touches_border`.
    fields : DataFrame
        From `judge_fields`.
    exclude_border : bool
        Whether a cell whose nucleus touches the border of its field is excluded.

    Returns
    -------
    Series of str
        Index of `cells`.
    """
    judged = cells[CELL].merge(fields.rename(columns={"reason": "field"}), on=FIELD, how="left")
    judged = judged.merge(nuclei[[*CELL, "touches_border"]], on=CELL, how="left")
    reason = judged["field"].fillna("its field is not in the index")
    reason = reason.where(reason == "", "its field is excluded: " + reason)
    if exclude_border:
        border = (reason == "") & (judged["touches_border"] == True)  # noqa: E712, a missing nucleus touches nothing
        reason = reason.mask(border, "its nucleus touches the border")
    return reason.set_axis(cells.index)


def count_reasons(cells: pd.DataFrame, reasons: pd.Series) -> pd.DataFrame:
    """FIELD columns, `reason` and `count` of the excluded cells, one row per field and reason."""
    excluded = cells.loc[reasons != "", FIELD].assign(reason=reasons[reasons != ""])
    return excluded.groupby([*FIELD, "reason"], as_index=False).size().rename(columns={"size": "count"})
