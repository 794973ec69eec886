"""The tables of hits: every treatment with its tests, effect sizes and flags; the doses at which it acts and kills.

Owns which test decides, the families of tests and what a hit is. One Benjamini-Hochberg family per question.
"""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from plateline.hits import distance as distances_of
from plateline.hits.dose import dose_response
from plateline.hits.effects import feature_effects, ssmd
from plateline.hits.flags import COLUMNS as FLAGS
from plateline.hits.flags import add_toxic_dose, flag_treatments
from plateline.hits.null import control_test, false_positives
from plateline.hits.permute import BoolArray, FloatArray, groups_of
from plateline.identity import READOUT, WELL, features_of
from plateline.precision import average_precision, mean_average_precision

BY_CONTROLS, BY_LABELS = "control wells, cross-fitted by plate", "labels exchanged within plates"
# Readouts beside the declared ones, whose doses are compared: what a compound does, and what it kills.
PHENOTYPE, COUNT = "profile_distance", "cells_per_area"
PIXEL_TOLERANCE = 1e-3
NAMES = ["VendorID", "SMILES", "InChIKey", "MoA", "CellLine"]


def find_hits(
    profiles: pd.DataFrame, wells: pd.DataFrame, *, section: dict
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One row per treatment with everything that is known of it, its strongest features, and the false positives.

    Parameters
    ----------
    profiles : DataFrame
        Corrected profiles, one row per well, as for `distances`.
    wells : DataFrame
        Profile tables of all plates, for flags.
    section : dict
        `n_permutations`, `max_fdr`, `seed`, `ridge`, `toxic_cells`, `flag_z`, `unlabelled_channels`.

    Returns
    -------
    treatments : DataFrame
        The columns of `treatments`; `p` is that of the control null where there is one (`test` says which), beside
        `p_permutation`; `null_distance`, `n_null`; `ssmd` of the distance; `map_controls` and `map_others` with p and
        q; the flags; names of the compound.
    features : DataFrame
        From `feature_effects`.
    rates : DataFrame
        From `false_positives`.
    """
    tested = distances_of.try_treatments(profiles, n_permutations=section["n_permutations"], seed=section["seed"])
    away = distances_of.distances(profiles)
    values, features, usable = _finite(profiles, away["reason"] == "")
    negative = usable & (profiles["Metadata_ControlType"] == "negative").to_numpy()
    names = profiles["Metadata_Treatment"].reset_index(drop=True)
    names = names.where(usable & names.isin(tested["Metadata_Treatment"]) & ~negative)
    plates = profiles["Metadata_Plate"].to_numpy()
    options = {"ridge": section["ridge"], "seed": section["seed"]}
    null = control_test(values, plates, negative, names, n_draws=section["n_permutations"], **options)
    table = distances_of.family(_decide(tested, null), section["max_fdr"])
    precision = _precision(values, plates, negative, names, section)
    own = {name: ssmd(away["distance"].to_numpy()[rows], away["distance"].to_numpy()[negative])
           for name, rows in groups_of(names).items()}  # fmt: skip
    table = table.join(precision, on="Metadata_Treatment").assign(
        ssmd=table["Metadata_Treatment"].map(own).astype(float)
    )
    limits = {name: section[name] for name in ("toxic_cells", "flag_z", "unlabelled_channels")}
    table = table.join(flag_treatments(wells, **limits), on="Metadata_Treatment")
    for flag in ("cytotoxic", "autofluorescent", "quencher"):
        table[flag] = table[flag].eq(True)
    table = add_toxic_dose(table).astype(FLAGS)
    table = table.join(_compound_names(profiles), on="Metadata_Treatment")
    found = false_positives(values, profiles, negative, **options)
    return table, feature_effects(values, features, plates, negative, names), found


def _finite(profiles: pd.DataFrame, counts: pd.Series) -> tuple[FloatArray, list[str], BoolArray]:
    """Values of the features that all usable wells have (N, F), their names, and the wells that are usable."""
    names = features_of(list(profiles.columns))
    values, usable = profiles[names].to_numpy(dtype=np.float64), counts.to_numpy()
    whole = np.isfinite(values[usable]).all(axis=0) if usable.any() else np.zeros(len(names), dtype=bool)
    kept = values[:, whole]
    return np.where(np.isfinite(kept), kept, 0.0), [n for n, k in zip(names, whole, strict=True) if k], usable


def _decide(tested: pd.DataFrame, null: pd.DataFrame) -> pd.DataFrame:
    """Treatments with the p of the control null where there is one, else that of exchanged labels."""
    table = tested.join(null, on="Metadata_Treatment")
    by_null = table["null_p"].notna()
    table["p_permutation"] = table["p"]
    table["p"] = table["null_p"].where(by_null, table["p"])
    table["p_floor"] = table.pop("null_floor").where(by_null, table["p_floor"])
    table["test"] = np.where(by_null, BY_CONTROLS, np.where(table["p"].notna(), BY_LABELS, ""))
    table["n_null"] = table["n_null"].fillna(0).astype(int)
    return table.drop(columns="null_p")


def _precision(
    values: FloatArray, plates: np.ndarray, negative: BoolArray, names: pd.Series, section: dict
) -> pd.DataFrame:
    """Mean average precision of every treatment against its plates' controls and against others, with p and q."""
    labels = pd.factorize(names, sort=True)[0]
    draws = {"n_null": section["n_permutations"], "seed": section["seed"]}
    plate = pd.factorize(plates)[0]
    against = {"map_controls": {"rivals": negative, "blocks": plate}, "map_others": {}}
    parts = []
    for word, question in against.items():
        found = mean_average_precision(average_precision(values, labels, **question), names, **draws)
        found["q"] = false_discovery_control(found["p"], method="bh") if len(found) else found["p"]
        parts.append(found[["map", "p", "q"]].set_axis([word, f"{word}_p", f"{word}_q"], axis=1))
    return pd.concat(parts, axis=1)


def _compound_names(profiles: pd.DataFrame) -> pd.DataFrame:
    """What the plate map calls the compound of each treatment elsewhere: the first that is said."""
    columns = [f"Metadata_{name}" for name in NAMES if f"Metadata_{name}" in profiles]
    texts = profiles[columns].fillna("").astype(str).groupby(profiles["Metadata_Treatment"])
    return texts.agg(lambda values: next((text for text in values if text), ""))


def one_pixel_size(wells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Wells of the pixel size that most have, or whose size is not known, and the others with `reason`.

    Notes
    -----
    Shapes are in pixels, so wells of another size cannot be compared. Sizes within a thousandth are one.
    """
    size = wells.get("Metadata_PixelSize_um", pd.Series(np.nan, index=wells.index)).astype(float)
    if not size.notna().any():
        return wells, wells.iloc[:0].assign(reason="")
    common = size.mode().iloc[0]
    other = size.notna() & ((size - common).abs() > PIXEL_TOLERANCE * common)
    reasons = [f"pixel size {own:g} um, most wells have {common:g} um: not pooled" for own in size[other]]
    return wells[~other], wells[other].assign(reason=reasons)


def uneven_features(wells: pd.DataFrame) -> pd.DataFrame:
    """`reason` and `count` of the features that some plates have and others lack, named; no row where there are none.

    Parameters
    ----------
    wells : DataFrame
        Profile tables of all plates, one below the other: a feature is NaN where a plate lacks its column.

    Notes
    -----
    Only features of all plates can be compared: a test takes those that every usable well has.
    """
    ok = wells[wells["Metadata_Status"] == "ok"]
    known = ok[features_of(list(wells.columns))].notna().groupby(ok["Metadata_Plate"]).any()
    some = known.any() & ~known.all()
    names = list(known.columns[some])
    if not names:
        return pd.DataFrame({"reason": pd.Series(dtype=object), "count": pd.Series(dtype=int)})
    lacking = list(known.index[~known[names].all(axis=1)])
    said = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    reason = f"{len(names)} of {known.shape[1]} features are not on all plates and do not count: {said}; "
    return pd.DataFrame({"reason": [reason + f"lacking on {', '.join(lacking[:5])}"], "count": [len(names)]})


def dose_curves(profiles: pd.DataFrame, wells: pd.DataFrame, readouts: list[str], *, confidence: float) -> pd.DataFrame:
    """Curves of the declared readouts, of the profile's distance and of the cells per area.

    Parameters
    ----------
    profiles : DataFrame
        Corrected profiles.
    wells : DataFrame
        Profile tables of all plates.
    readouts : list of str
        Declared ones.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        As `dose_response`; readout `profile_distance` is the distance from the negatives, `cells_per_area` the cells
        per valid field over the median of the plate's negatives.
    """
    away = distances_of.distances(profiles)[[*WELL, "distance"]].rename(columns={"distance": READOUT + PHENOTYPE})
    cells = wells.get("Metadata_Cells_Per_Field", pd.Series(np.nan, index=wells.index)).astype(float)
    ok = (wells["Metadata_ControlType"] == "negative") & (wells["Metadata_Status"] == "ok")
    centre = cells.where(ok).groupby(wells["Metadata_Plate"]).transform("median")
    named = wells.assign(**{READOUT + COUNT: cells / centre.where(centre > 0)}).merge(away, how="left", on=WELL)
    further = [PHENOTYPE, COUNT] if cells.notna().any() else [PHENOTYPE]
    return dose_response(named, [*readouts, *further], confidence=confidence)


def hit_list(treatments: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The hits as a list to order compounds from: strongest first, with names, doses, flags and both EC50s.

    Parameters
    ----------
    treatments : DataFrame
        From `find_hits`.
    curves : DataFrame
        From `dose_curves`.
    """
    hits = treatments[treatments["hit"]].sort_values(["q", "null_distance", "distance"], ascending=[True, False, False])
    for readout, word in ((PHENOTYPE, "phenotype"), (COUNT, "count")):
        rows = curves[curves["readout"] == readout].set_index("Metadata_Compound")
        for column in ("qualifier", "EC50", "unit"):
            name = f"{word}_EC50" + ("" if column == "EC50" else f"_{column}")
            hits = hits.assign(**{name: hits["Metadata_Compound"].map(rows[column])})
    names = [f"Metadata_{name}" for name in ("Compound", *NAMES) if f"Metadata_{name}" in hits]
    first = ["Metadata_Treatment", *names, "Metadata_Concentration", "Metadata_ConcentrationUnit"]
    rest = [name for name in hits if name not in first and not name.startswith("null_")]
    return hits[first + rest].rename(columns=lambda name: name.removeprefix("Metadata_")).reset_index(drop=True)
