"""What else a treatment does than the phenotype: kills cells, glows, quenches; and whether it acts below that dose.

Owns the flags. A flag is a threshold on wells against the negatives of their plate, not a test, and says so by its
numbers standing beside it.
"""

import re

import numpy as np
import pandas as pd

from plateline.identity import PREFIX

BACKGROUND = PREFIX + "Background_"
AREA = "Nuclei_AreaShape_Area"
# Channels of nuclei, as they are called.
_DNA = re.compile(r"Nuclei_Intensity_MeanIntensity_\w*(?:DNA|DAPI|Hoechst|H33342|Draq5|nuc)\w*", re.IGNORECASE)
MAD_TO_SD = 1.4826
# A shift of background must matter beside being seen: a fifth of the negatives' level.
LEAST_SHIFT = 0.2
COLUMNS = {
    "cells_ratio": float,
    "nuclear_area_z": float,
    "nuclear_intensity_z": float,
    "cytotoxic": bool,
    "background_ratio": float,
    "background_channel": object,
    "autofluorescent": bool,
    "quencher": bool,
    "toxic_from": float,
    "active_below_toxic": bool,
}


def flag_treatments(
    wells: pd.DataFrame, *, toxic_cells: float, flag_z: float, unlabelled_channels: list[str]
) -> pd.DataFrame:
    """Flags of every treatment, from wells as they were measured, not corrected.

    Parameters
    ----------
    wells : DataFrame
        Profile tables of all plates.
    toxic_cells : float
        Share of the negatives' cells per area below which a treatment is cytotoxic.
    flag_z : float
        Robust standard deviations of the plate's negatives that a flag on intensity or shape needs.
    unlabelled_channels : list of str
        Channels in which nothing is stained: light in cells there is the compound's.

    Returns
    -------
    DataFrame
        Index treatment. `cells_ratio` is the median over wells of cells per area over that of the plate's negatives;
        `nuclear_area_z`, `nuclear_intensity_z` likewise robust z; `cytotoxic` where cells are few, or nuclei are both
        small and bright; `background_ratio` of the channel whose background (or unlabelled light) is shifted most, and
        `autofluorescent` or `quencher` by its direction. NaN and no flag where nothing was measured.

    Notes
    -----
    Counts are per valid field, so an excluded field does not read as toxicity. Condensed nuclei: small and bright.
    """
    wells = wells[wells["Metadata_ControlType"].isin(["sample", "positive", "reference", "negative", "untreated"])]
    wells = wells.reset_index(drop=True)
    table = pd.DataFrame(index=wells.index)
    count = "Metadata_Cells_Per_Field"
    cells = wells[count] if count in wells and wells[count].notna().any() else wells["Metadata_Object_Count"]
    table["cells_ratio"], _ = _against(cells, wells)
    _, table["nuclear_area_z"] = _against(wells.get(AREA), wells)
    bright = [name for name in wells if _DNA.fullmatch(name)]
    _, table["nuclear_intensity_z"] = _against(wells[bright[0]] if bright else None, wells)
    lit = [name for name in wells if name.startswith(BACKGROUND)]
    lit += [name for name in wells for channel in unlabelled_channels if name == _in_cells(channel)]
    shifts = {name: _against(wells[name], wells) for name in lit}
    table = table.assign(**{f"ratio {name}": ratio for name, (ratio, _) in shifts.items()})
    table = table.assign(**{f"z {name}": z for name, (_, z) in shifts.items()})
    medians = table.groupby(wells["Metadata_Treatment"]).median()
    return _flag(medians, lit, toxic_cells, flag_z)


def _in_cells(channel: str) -> str:
    return f"Cells_Intensity_MeanIntensity_{channel}"


def _against(values: pd.Series | None, wells: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Each well over the median of its plate's negatives, and in their robust standard deviations."""
    if values is None:
        blank = pd.Series(np.nan, index=wells.index)
        return blank, blank
    values = values.astype(float).where(np.isfinite(values.astype(float)))
    usable = (wells["Metadata_ControlType"] == "negative") & (wells["Metadata_Status"] == "ok")
    groups = values.where(usable).groupby(wells["Metadata_Plate"])
    centre = groups.transform("median")
    spread = (values - centre).abs().where(usable).groupby(wells["Metadata_Plate"]).transform("median") * MAD_TO_SD
    return values / centre.where(centre != 0), (values - centre) / spread.where(spread > 0)


def _flag(medians: pd.DataFrame, lit: list[str], toxic_cells: float, flag_z: float) -> pd.DataFrame:
    """Flags from the medians over the wells of each treatment."""
    found = medians[["cells_ratio", "nuclear_area_z", "nuclear_intensity_z"]].copy()
    condensed = (found["nuclear_area_z"] < -flag_z) & (found["nuclear_intensity_z"] > flag_z)
    found["cytotoxic"] = (found["cells_ratio"] < toxic_cells) | condensed
    ratio = medians[[f"ratio {name}" for name in lit]].set_axis(lit, axis=1)
    z = medians[[f"z {name}" for name in lit]].set_axis(lit, axis=1)
    seen = ratio.where((z.abs() > flag_z) & ((ratio - 1).abs() > LEAST_SHIFT))
    farthest = (ratio - 1).abs().fillna(-1).idxmax(axis=1) if lit else pd.Series("", index=found.index)
    picked = [ratio.at[name, channel] if channel else np.nan for name, channel in farthest.items()]
    found["background_ratio"] = pd.Series(picked, index=found.index, dtype=float)
    names = farthest.str.removeprefix(BACKGROUND).str.removeprefix(_in_cells(""))
    found["background_channel"] = names.where(found["background_ratio"].notna(), "").astype(object)
    found["autofluorescent"] = (seen > 1).any(axis=1)
    found["quencher"] = (seen < 1).any(axis=1)
    return found


def add_toxic_dose(treatments: pd.DataFrame) -> pd.DataFrame:
    """Treatments with the lowest cytotoxic dose of their compound, and whether a hit stands below it.

    Parameters
    ----------
    treatments : DataFrame
        `Metadata_Compound`, `Metadata_Concentration`, `Metadata_ConcentrationUnit`, `hit`,
        `cytotoxic`, `cells_ratio`.

    Returns
    -------
    DataFrame
        With `toxic_from` (in the treatment's unit; NaN where no dose is cytotoxic) and `active_below_toxic`: some hit
        of the compound is at a dose that is not cytotoxic and below all that are; no where cells were not counted.
    """
    compound = [treatments["Metadata_Compound"], treatments["Metadata_ConcentrationUnit"].fillna("")]
    dose = treatments["Metadata_Concentration"].astype(float)
    toxic_from = dose.where(treatments["cytotoxic"]).groupby(compound, dropna=False).transform("min")
    harmless = ~treatments["cytotoxic"] & treatments["cells_ratio"].notna()
    below = treatments["hit"] & harmless & ~(dose >= toxic_from)
    active = below.groupby(compound, dropna=False).transform("any")
    return treatments.assign(toxic_from=toxic_from, active_below_toxic=active.astype(bool))
