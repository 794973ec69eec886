"""What spreadsheets do to names: dates, powers of ten, error words, leading zeros that are gone.

Such values are refused by well and column, never repaired: 2-Sep may have been SEPT2 or SEP-02, and only its
owner knows.
"""

import re

import pandas as pd

from plateline.errors import PlatemapError
from plateline.identity import PREFIX

# Columns that hold names; in the others a date or a number may well be meant.
NAMES = [
    PREFIX + name
    for name in ("Compound", "VendorID", "SourceWell", "CellLine", "Donor", "MoA", "Gene", "InChIKey", "SMILES")
]
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_CLOCK = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
_DATE = re.compile(
    rf"\d{{1,2}}[-./ ]{_MONTH}(?:[-./ ]\d{{2,4}})?|{_MONTH}[-./ ]\d{{1,4}}|\d{{4}}-\d{{2}}-\d{{2}}{_CLOCK}"
    rf"|\d{{1,2}}/\d{{1,2}}/\d{{2,4}}{_CLOCK}|\d{{1,2}}\.\d{{1,2}}\.(?:19|20)\d{{2}}{_CLOCK}"
)
_POWER = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]?\d+")
_ERROR = re.compile(r"#(?:NAME\?|REF!|N/A|VALUE!|DIV/0!|NUM!|NULL!|SPILL!|CALC!)|#{3,}", re.IGNORECASE)


def damage(text: str) -> str:
    """What a spreadsheet seems to have done to a name, and what to do; empty where nothing shows."""
    if _DATE.fullmatch(text):
        return "it looks like a date that a spreadsheet made of a name; format the column as text and enter it again"
    if _POWER.fullmatch(text):
        return "it looks like a name that a spreadsheet takes for a number; write it so that it cannot be read as one"
    if _ERROR.fullmatch(text):
        return "it is an error of a spreadsheet's formula; correct the formula, or export the values"
    return ""


def refuse_damage(frame: pd.DataFrame, plate: str) -> None:
    """Refuse a map whose names were changed by a spreadsheet.

    Parameters
    ----------
    frame : pd.DataFrame
        Text columns with their ``Metadata_`` names; `Metadata_Well` canonical.
    plate : str
        For the message.

    Raises
    ------
    PlatemapError
        Naming well, column, what it got and what to do: for a date or a power of ten in a column of names, an error
        word in any column, and a number that is shorter than the zero-padded ones of its column.
    """
    for column in frame:
        texts = frame[column].astype(str)
        _refuse(frame, texts.map(damage if column in NAMES else _error_only), column, plate)
        if column in NAMES:
            _refuse(frame, _lost_zeros(texts), column, plate)


def _error_only(text: str) -> str:
    return damage(text) if _ERROR.fullmatch(text) else ""


def _lost_zeros(texts: pd.Series) -> pd.Series:
    """Why a number may lack its leading zeros: others of the column have them and are longer; else empty."""
    digits = texts.str.fullmatch(r"[0-9]+")
    padded = texts[digits & texts.str.startswith("0") & (texts.str.len() > 1)]
    reasons = pd.Series("", index=texts.index, dtype=object)
    if padded.str.len().nunique() == 1:
        short = digits & ~texts.str.startswith("0") & (texts.str.len() < len(padded.iloc[0]))
        reasons[short] = (
            f"others have {len(padded.iloc[0])} digits, as {padded.iloc[0]!r}: a spreadsheet may have taken its "
            "leading zeros; format the column as text and enter it again"
        )
    return reasons


def _refuse(frame: pd.DataFrame, reasons: pd.Series, column: str, plate: str) -> None:
    bad = reasons != ""
    if bad.any():
        row = frame.loc[bad.idxmax()]
        msg = (
            f"plate map of {plate}, well {row['Metadata_Well']}, column {column.removeprefix(PREFIX)}: got "
            f"{row[column]!r}; {reasons[bad.idxmax()]} ({bad.sum()} such wells)"
        )
        raise PlatemapError(msg)
