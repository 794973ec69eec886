"""Which fields and cells count, and why the others do not."""

import pandas as pd

from plateline.errors import ConfigError, PlatelineError
from plateline.identity import CELL, FIELD, parse_well

LISTED = ["Metadata_Well", "Metadata_Site", "reason"]
CONTROLS = ("negative", "positive", "reference")


def judge_fields(
    fields: pd.DataFrame,
    flags: pd.DataFrame,
    listed: pd.DataFrame | None = None,
    *,
    exclude_flags: list[str],
    max_bad_fields: float,
    max_disagreement: float = 1.0,
) -> tuple[pd.DataFrame, str]:
    """Fields with the reason for which each is excluded, and the reason for which the plate is given up.

    Parameters
    ----------
    fields : DataFrame
        One row per field of the plate: identity, `status` (`ok` or `excluded`), `reason`, from `ingest` or `segment`;
        from the latter `disagreement`, 0 to 1, NaN where nothing was compared.
    flags : DataFrame
        One row per field and channel: identity, `Metadata_Channel`, one boolean column per flag.
    listed : DataFrame, optional
        From `read_exclusions`. That reason comes before any flag's, and such fields do not count for `max_bad_fields`.
    exclude_flags : list of str
        Flags that exclude a field when any channel has them.
    max_bad_fields : float
        Share of excluded fields, 0 to 1, above which the plate is given up.
    max_disagreement : float
        Disagreement of an ensemble of segmenters, 0 to 1, above which a field is excluded; 1 excludes none.

    Returns
    -------
    fields : DataFrame
        FIELD columns and `reason`, empty text for a field that counts.
    failure : str
        Empty, or why the plate is given up.
    """
    reasons = fields[[*FIELD, "reason"]].copy()
    reasons["reason"] = fields["reason"].where(fields["status"] != "ok", "")
    by_hand = _listed_reasons(fields, listed)
    reasons["reason"] = reasons["reason"].where(reasons["reason"] != "", by_hand)
    flagged = _flag_reasons(flags, exclude_flags)
    reasons = reasons.merge(flagged, on=FIELD, how="left")
    reasons["reason"] = reasons["reason"].where(reasons["reason"] != "", reasons.pop("flagged").fillna(""))
    doubted = _doubt_reasons(fields, max_disagreement)
    reasons["reason"] = reasons["reason"].where(reasons["reason"] != "", doubted.to_numpy())
    if reasons.empty:
        return reasons, "the plate has no fields"
    judged = reasons.loc[(by_hand == "").to_numpy(), "reason"]
    bad = judged[judged != ""]
    if len(bad) <= max_bad_fields * len(judged):
        return reasons, ""
    share = f"{len(bad)} of {len(judged)} fields are bad, more than profile.max_bad_fields = {max_bad_fields:g}"
    return reasons, f"{share}; most often: {bad.value_counts().index[0]}"


def read_exclusions(raw: pd.DataFrame, fields: pd.DataFrame, *, plate: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Wells and fields that a person excludes, from a table as it was typed.

    Parameters
    ----------
    raw : DataFrame
        Text; columns `plate`, `well`, `reason`, optionally `site`, upper or lower case. Further ones are ignored.
    fields : DataFrame
        Fields of the plate, FIELD columns.
    plate : str
        Rows of other plates are left alone.

    Returns
    -------
    listed : DataFrame
        Columns `LISTED` of the rows that name a field of the plate; site -1 is the whole well.
    unknown : DataFrame
        The same of the rows that name none, `reason` says so.

    Raises
    ------
    ConfigError
        If a column is missing, a well is none, a site is no whole number, or a reason is missing.
    """
    table = raw.rename(columns={column: str(column).strip().lower() for column in raw})
    if missing := [column for column in ("plate", "well", "reason") if column not in table]:
        msg = f"profile.exclude_list: no column {', '.join(missing)}; expected plate, well, reason and optionally site"
        raise ConfigError(msg)
    table = table[table["plate"].str.strip() == plate]
    rows = [_exclusion(row, number + 2) for number, row in zip(table.index, table.to_dict("records"), strict=True)]
    listed = pd.DataFrame(rows, columns=LISTED).astype({"Metadata_Site": int})
    places = {
        *zip(fields["Metadata_Well"], fields["Metadata_Site"], strict=True),
        *((w, -1) for w in fields["Metadata_Well"]),
    }
    known = [place in places for place in zip(listed["Metadata_Well"], listed["Metadata_Site"], strict=True)]
    listed, unknown = listed[pd.Series(known, dtype=bool)], listed[~pd.Series(known, dtype=bool)]
    text = "profile.exclude_list names no field of this plate: " + unknown["reason"]
    return listed.reset_index(drop=True), unknown.assign(reason=text.astype(object)).reset_index(drop=True)


def _exclusion(row: dict[str, str], line: int) -> tuple[str, int, str]:
    """Well, site and reason of a line of the list."""
    where, site, reason = f"profile.exclude_list, line {line}", row.get("site", "").strip(), row["reason"].strip()
    try:
        well = parse_well(row["well"])
    except PlatelineError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error
    if site and not (site.isascii() and site.isdigit()):
        msg = f"{where}, well {well}: site: got {site!r}; expected a whole number, or nothing for the whole well"
        raise ConfigError(msg)
    if not reason:
        msg = f"{where}, well {well}: no reason; expected why it is excluded"
        raise ConfigError(msg)
    return well, int(site or -1), reason


def _listed_reasons(fields: pd.DataFrame, listed: pd.DataFrame | None) -> pd.Series:
    """Why each field is excluded by hand, `by hand: bubble`, empty text for one that is not; index of `fields`."""
    texts: dict[tuple[str, int], list[str]] = {}
    for well, site, reason in (listed if listed is not None else pd.DataFrame(columns=LISTED))[LISTED].to_numpy():
        texts.setdefault((well, site), []).append(reason)
    found = [
        ", ".join(dict.fromkeys(texts.get((well, -1), []) + texts.get((well, site), [])))
        for well, site in zip(fields["Metadata_Well"], fields["Metadata_Site"], strict=True)
    ]
    return pd.Series([f"by hand: {text}" if text else "" for text in found], index=fields.index, dtype=object)


def compare_exclusions(fields: pd.DataFrame, platemap: pd.DataFrame) -> pd.DataFrame:
    """How many fields of samples and of controls are excluded: `reason` and `count`, no row if none is.

    Parameters
    ----------
    fields : DataFrame
        From `judge_fields`.
    platemap : DataFrame
        `Metadata_Well`, `Metadata_ControlType`. Controls are negative, positive and reference wells.

    Notes
    -----
    Where samples lose more than controls, quality control may be taking effects for faults.
    """
    kinds = fields["Metadata_Well"].map(platemap.set_index("Metadata_Well")["Metadata_ControlType"])
    texts, excluded = [], fields["reason"] != ""
    for name, chosen in (("samples", kinds == "sample"), ("controls", kinds.isin(CONTROLS))):
        number, lost = int(chosen.sum()), int((chosen & excluded).sum())
        texts.append(f"{lost} of {number} of {name}" + (f" ({lost / number:.1%})" if number else ""))
    rows = [{"reason": "fields excluded: " + ", ".join(texts), "count": int(excluded.sum())}] if excluded.any() else []
    return pd.DataFrame(rows, columns=["reason", "count"])


def _flag_reasons(flags: pd.DataFrame, exclude_flags: list[str]) -> pd.DataFrame:
    """FIELD columns and `flagged`, like `qc: blurred in DNA`, of the fields that a flag excludes."""
    long = flags.melt([*FIELD, "Metadata_Channel"], exclude_flags, var_name="flag", value_name="raised")
    raised = long[long["raised"].astype(bool)]
    named = raised[FIELD].assign(flagged=raised["flag"] + " in " + raised["Metadata_Channel"])
    joined = named.groupby(FIELD)["flagged"].agg(lambda texts: "qc: " + ", ".join(texts)).reset_index()
    return joined.astype(flags[FIELD].dtypes)


def _doubt_reasons(fields: pd.DataFrame, most: float) -> pd.Series:
    """Why a field is excluded on whose nuclei the segmenters differ, empty text for one that is not; of each field."""
    apart = fields.get("disagreement", pd.Series(float("nan"), fields.index))
    text = f"segment: methods disagree, more than profile.max_disagreement = {most:g}"
    return pd.Series("", fields.index, dtype=object).mask(apart > most, text)


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
