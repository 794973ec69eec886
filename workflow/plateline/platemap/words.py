"""The words of plate maps: columns, control types and units of the house, and what others call them.

Knows the names of the Broad's and JUMP's maps and concentrations with their unit in the header. It guesses no other.
"""

import re

from plateline.identity import PREFIX

CONTROL_TYPES = ["negative", "untreated", "positive", "reference", "blank", "sample", "exclude"]
# JUMP's words: https://github.com/jump-cellpainting/JUMP-Target; its diverse positives are references, not one control.
JUMP = {
    "negcon": "negative",
    "poscon": "positive",
    "poscon_cp": "positive",
    "poscon_orf": "positive",
    "poscon_crispr": "positive",
    "poscon_diverse": "reference",
    "trt": "sample",
    "empty": "untreated",
}
# Control type -> JUMP's pert_type and control_type, for tools that select on them.
TO_JUMP = {
    "negative": ("control", "negcon"),
    "positive": ("control", "poscon"),
    "reference": ("control", "poscon_diverse"),
    "untreated": ("empty", "empty"),
    "blank": ("empty", ""),
    "sample": ("trt", ""),
    "exclude": ("", ""),
}
COLUMNS = [
    "Metadata_Plate",
    "Metadata_Well",
    "Metadata_Row",
    "Metadata_Column",
    "Metadata_Compound",
    "Metadata_Concentration",
    "Metadata_ConcentrationUnit",
    "Metadata_log10_molar",
    "Metadata_Treatment",
    "Metadata_ControlType",
    "Metadata_pert_type",
    "Metadata_control_type",
]
# Columns of the Broad's maps, read where the map has no column with the house's own name.
BROAD = {"well_position": "Well", "broad_sample": "Compound", "mmoles_per_liter": "Concentration"}
LOG10_MOLAR = {"M": 0, "mM": -3, "uM": -6, "nM": -9, "pM": -12}

# People write um and NM; a bare m is left alone, since it may be meant for milli.
_LOOSE = {"um": "uM", "nm": "nM", "pm": "pM", "mm": "mM"}
_LOOSE |= {"micromolar": "uM", "nanomolar": "nM", "picomolar": "pM", "millimolar": "mM", "molar": "M"}
_MOLAR = r"(?:[pPnNuUµμm][mM]|M|(?i:(?:micro|nano|pico|milli)?molar))"
_MASS = r"(?i:[pnuµμm]?g(?:/|_per_|/)(?:m|u|µ|μ)?l)"
_HEADER = re.compile(rf"(?i:conc(?:entration)?|dose)[ _.\-]*[(\[]?\s*({_MOLAR}|{_MASS})\s*[)\]]?")
_DOSE = re.compile(rf"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*({_MOLAR}|{_MASS})")


def house_names(theirs: list[str], columns: dict[str, str]) -> tuple[list[str], str]:
    """Names of the house with ``Metadata_`` for the columns of a map, and the unit in the concentration's header."""
    names = [columns.get(name, name).strip().removeprefix(PREFIX) for name in theirs]
    for i, name in enumerate(theirs):
        ours = BROAD.get(names[i].lower(), "")
        if name in columns:
            continue
        if ours and ours not in names:
            names[i] = ours
        elif unit_of_header(name):
            names[i] = "Concentration"
    units = [unit_of_header(name) for name, ours in zip(theirs, names, strict=True) if ours == "Concentration"]
    return [PREFIX + name for name in names], (units or [""])[0]


def unit_of_header(name: str) -> str:
    """Unit in the name of a column of concentrations, in one spelling; empty where it has none."""
    plain = name.strip().removeprefix(PREFIX)
    if plain.lower() == "mmoles_per_liter":
        return "mM"
    match = _HEADER.fullmatch(plain)
    return one_spelling(match[1].replace("_per_", "/")) if match else ""


def one_spelling(unit: str) -> str:
    """A unit with u for every micro, and molar ones in the case of chemists; other text as it is."""
    unit = re.sub("[µμ]", "u", unit.strip())
    return _LOOSE.get(unit.lower(), unit)


def split_dose(text: str) -> tuple[str, str]:
    """Number and unit of a concentration such as ``10 uM``; the text and no unit where it is anything else."""
    match = _DOSE.fullmatch(text)
    return (match[1], one_spelling(match[2])) if match else (text, "")
