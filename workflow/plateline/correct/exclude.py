"""Which wells and features are left out of the correction, and why."""

import numpy as np
import pandas as pd

from plateline.correct.context import PLATE, WITHIN, context_of, groups_within
from plateline.errors import PlatelineError
from plateline.identity import PREFIX, WELL, features_of

NEEDED = [*WELL, "Metadata_Status", "Metadata_ControlType"]
PIXEL_SIZE = "Metadata_PixelSize_um"


def check_profiles(profiles: pd.DataFrame) -> list[str]:
    """The features, after refusing a table that cannot be corrected."""
    missing = [c for c in NEEDED if c not in profiles]
    if missing:
        msg = f"profiles lack the columns {missing}; they have {list(profiles)[:10]}; rerun rule profile_plate"
        raise PlatelineError(msg)
    features = features_of(list(profiles))
    text = [c for c in features if not pd.api.types.is_numeric_dtype(profiles[c])]
    if text and len(profiles):
        got = profiles[text[0]].dtype
        msg = f"features {text[:5]} of the profiles have dtype {got}; expected numbers; prefix metadata with {PREFIX}"
        raise PlatelineError(msg)
    twice = profiles.loc[profiles.duplicated(WELL), WELL]
    if len(twice):
        plate, well = twice.iloc[0]
        msg = f"plate {plate} well {well} stands twice in the profiles; expected one row per well; rerun profile_plate"
        raise PlatelineError(msg)
    return features


def reasons_out(wells: pd.DataFrame, min_controls: int) -> pd.Series:
    """Why each well is left out; empty text for those that stay."""
    excluded = wells["Metadata_ControlType"] == "exclude"
    usable = (wells["Metadata_Status"] == "ok") & ~excluded
    negative = (usable & (wells["Metadata_ControlType"] == "negative")).to_numpy()
    reasons = pd.Series("", index=wells.index, dtype=object)
    reasons[~usable] = "well status " + wells["Metadata_Status"].astype(str)
    reasons[excluded] = "control type exclude"
    for rows in groups_within(context_of(wells), PLATE).values():
        found = int(negative[rows].sum())
        if found < min_controls:
            where = _where(wells.loc[rows[0]])
            short = rows[usable.to_numpy()[rows]]
            reasons.loc[short] = f"plate has {found} negative control wells{where}, {min_controls} needed"
    if PIXEL_SIZE in wells and wells.loc[usable, PIXEL_SIZE].nunique() > 1:
        # Shapes are in pixels: plates of another pixel size have no common scale.
        common = wells.loc[usable, PIXEL_SIZE].mode().iloc[0]
        other = usable & wells[PIXEL_SIZE].notna() & (wells[PIXEL_SIZE] != common)
        reasons[other] = "pixel size " + wells[PIXEL_SIZE].astype(str) + f" um, most wells have {common:g} um"
    return reasons


def _where(well: pd.Series) -> str:
    """Cell line and time point of a well as words, where it has them."""
    told = [f"{column.removeprefix(PREFIX)} {well[column]}" for column in WITHIN if column in well.dropna()]
    return f" of {', '.join(told)}" if told else ""


def missing(wells: pd.DataFrame, features: list[str]) -> dict[str, str]:
    """Features that a plate lacks or that are not finite somewhere, with the reason; all when there is no well."""
    if wells.empty:
        return dict.fromkeys(features, "no well left to correct")
    finite = pd.DataFrame(np.isfinite(wells[features].to_numpy(np.float64)), columns=features)
    on_plate = finite.groupby(wells[PLATE]).any()
    found = {}
    for feature in finite.columns[~finite.all()]:
        lacking = list(on_plate.index[~on_plate[feature]])
        plate, well = wells.loc[finite[feature].idxmin(), WELL]
        not_finite = f"not finite in {(~finite[feature]).sum()} wells, the first {plate} {well}"
        found[feature] = f"no value on plates {', '.join(map(str, lacking))}" if lacking else not_finite
    return found


def unscaled(corrected: pd.DataFrame, wells: pd.DataFrame) -> dict[str, str]:
    """Features without a scale on some plate, with the reason."""
    on_plate = pd.DataFrame(np.isfinite(corrected)).groupby(wells[PLATE]).all()
    without = {f: on_plate.index[~on_plate[f]] for f in corrected.columns[~on_plate.all()]}
    reason = "no spread among the negative controls of plates "
    return {feature: reason + ", ".join(map(str, plates)) for feature, plates in without.items()}


def constant(corrected: pd.DataFrame, wells: pd.DataFrame) -> dict[str, str]:
    """Features with one value in all wells, with the reason."""
    return dict.fromkeys(corrected.columns[corrected.min() == corrected.max()], "same value in all wells")
