"""How far wells and treatments lie from the negative controls, and which of them by more than chance.

Owns the distance of a well, the row of a treatment, and the one Benjamini-Hochberg family of the run. The well is the
observation and the plate the block; cells and fields never enter. It refuses a p value where there is nothing to
permute, and says why in the column `reason`.
"""

import zlib

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import false_discovery_control

from plateline.errors import PlatelineError
from plateline.hits.permute import ROUNDING, BoolArray, FloatArray, effect_size, groups_of, permutation_test
from plateline.identity import WELL, features_of

NEEDED = [*WELL, "Metadata_Treatment", "Metadata_ControlType"]
PLATEMAP = ["Metadata_Compound", "Metadata_Concentration", "Metadata_ConcentrationUnit"]
# Leave-one-out needs two other wells for a standard deviation.
MIN_NEGATIVES = 3
# Median absolute deviation to standard deviation of a normal distribution.
MAD_TO_SD = 1.4826

WELL_COLUMNS = {"distance": float, "robust_z": float, "rank": float, "n_negative": int, "reason": object}
TREATMENT_COLUMNS = {
    "Metadata_Treatment": object,
    "Metadata_Compound": object,
    "Metadata_Concentration": float,
    "Metadata_ConcentrationUnit": object,
    "Metadata_ControlType": object,
    "n_wells": int,
    "n_plates": int,
    "n_negative": int,
    "distance": float,
    "effect_size": float,
    "robust_z": float,
    "rank": float,
    "p": float,
    "p_floor": float,
    "q": float,
    "family": object,
    "hit": bool,
    "reason": object,
}


def check_wells(wells: pd.DataFrame, columns: list[str]) -> None:
    """Refuse a table that lacks a column or holds a well twice, since a repeated well would count as a replicate.

    Raises
    ------
    PlatelineError
        If a column is missing, or plate and well together are not unique.
    """
    if missing := [column for column in columns if column not in wells.columns]:
        msg = (
            f"hits: the table of wells lacks {', '.join(missing)}; got {len(wells.columns)} columns, "
            f"expected {', '.join(columns)}; check profile.readouts in the config and rerun rule profile_plate"
        )
        raise PlatelineError(msg)
    twice = wells.loc[wells.duplicated(WELL), WELL]
    if len(twice):
        plate, well = twice.iloc[0]
        msg = (
            f"hits: plate {plate} well {well} stands more than once in the table of wells ({len(twice)} rows too "
            "many); expected one row per well; rerun rule profile_plate"
        )
        raise PlatelineError(msg)


def distances(profiles: pd.DataFrame) -> pd.DataFrame:
    """Distance of every well from the negative controls of its plate.

    Parameters
    ----------
    profiles : pandas.DataFrame
        Corrected profiles, one row per well: `NEEDED`, ``Metadata_Status`` (absent: all ``ok``) and features (float).

    Returns
    -------
    pandas.DataFrame
        The rows of `profiles` in their order and index: identity and plate-map columns, then ``distance`` (root mean
        square over features of z; about 1 for a well that does nothing), ``robust_z`` (distance against the median
        and MAD of the negatives' distances on the plate), ``rank`` (1 is the farthest well of the table; ties share
        the smaller rank), ``n_negative`` (negative wells of the plate that counted) and ``reason`` (empty, or why
        there is no distance). Numbers are float64, NaN where not estimable.

    Raises
    ------
    PlatelineError
        If a column is missing or a well stands twice.

    Notes
    -----
    z is taken against mean and standard deviation of the plate's negative wells; a negative well is measured by the
    others (leave-one-out), since a fit that has seen a well makes it look near. Wells that failed, that the plate map
    excludes or that have no finite feature neither get a distance nor enter a fit. A feature that is constant or NaN
    among the plate's negatives is left out on that plate; a NaN in one other well is left out of that well alone.
    An empty table gives an empty table with all columns.
    """
    check_wells(profiles, NEEDED)
    values, reason = _features(profiles), _unusable(profiles)
    wells = profiles[[c for c in [*NEEDED, *PLATEMAP] if c in profiles.columns]].copy()
    distance, robust_z = np.full((2, len(wells)), np.nan)
    n_negative = np.zeros(len(wells), dtype=int)
    negative = (wells["Metadata_ControlType"] == "negative").to_numpy() & (reason == "")
    for rows in groups_of(profiles["Metadata_Plate"]).values():
        n_negative[rows] = negative[rows].sum()
        usable = rows[reason[rows] == ""]
        if negative[rows].sum() < MIN_NEGATIVES:
            reason[usable] = f"{negative[rows].sum()} negative control wells on the plate; expected {MIN_NEGATIVES}"
            continue
        distance[usable] = _plate_distances(values[usable], negative[usable])
        robust_z[usable] = _robust_z(distance[usable], negative[usable])
    reason[(reason == "") & np.isnan(distance)] = "no feature varies among the negative controls of the plate"
    rank = pd.Series(-distance).rank(method="min").to_numpy()
    columns = zip(WELL_COLUMNS, (distance, robust_z, rank, n_negative, reason), strict=True)
    return wells.assign(**dict(columns)).astype(WELL_COLUMNS)


def treatments(profiles: pd.DataFrame, *, n_permutations: int, max_fdr: float, seed: int) -> pd.DataFrame:
    """One row per treatment: how far it is from the negative controls, and whether by more than chance.

    Parameters
    ----------
    profiles : pandas.DataFrame
        Corrected profiles as for `distances`.
    n_permutations : int
        All relabellings are enumerated when there are no more than this; otherwise this many are drawn.
    max_fdr : float
        Largest q of a hit, 0 to 1.
    seed : int
        Seeds the draws; each treatment has its own stream, so that other treatments do not change its p.

    Returns
    -------
    pandas.DataFrame
        The columns `TREATMENT_COLUMNS`, sorted by treatment. ``n_wells``, ``n_plates`` and ``n_negative`` count what
        entered; ``distance`` and ``robust_z`` are medians over the wells; ``effect_size`` as in `effect_size`;
        ``rank`` 1 is the farthest; ``p`` and ``p_floor`` (the smallest p that could have come out) as in
        `permutation_test`; ``q`` within ``family``; ``hit`` is q <= `max_fdr`; ``reason`` says what is missing.

    Raises
    ------
    PlatelineError
        If a column is missing or a well stands twice.

    Notes
    -----
    Below two wells there is no p, only robust z and rank. The family is every treatment with sample wells and a p:
    positive and reference controls are known beforehand and would buy room for false hits, so they get a p and no q.
    With one plate p speaks of wells, not of independent runs: read it beside ``n_plates``. Wells of type negative,
    blank or exclude are no treatment. An empty table gives an empty table with all columns.

    References
    ----------
    Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x
    """
    return family(try_treatments(profiles, n_permutations=n_permutations, seed=seed), max_fdr)


def try_treatments(profiles: pd.DataFrame, *, n_permutations: int, seed: int) -> pd.DataFrame:
    """Treatments as in `treatments`, before q: `family` adds q, family and hit."""
    wells, values = distances(profiles), _features(profiles)
    treated = ~wells["Metadata_ControlType"].isin(["negative", "blank", "exclude"]) & (
        wells["Metadata_Treatment"].fillna("") != ""
    )
    groups = groups_of(wells["Metadata_Treatment"].where(treated))
    rows = [
        _treatment(name, rows, wells, values, n_permutations=n_permutations, seed=seed) for name, rows in groups.items()
    ]
    table = pd.DataFrame(rows, columns=list(TREATMENT_COLUMNS))
    table["rank"] = (-table["distance"].astype(float)).rank(method="min")
    return table


def _features(profiles: pd.DataFrame) -> FloatArray:
    """Features as (N, F) float64, infinities as NaN."""
    values = profiles[features_of(list(profiles.columns))].to_numpy(dtype=np.float64, copy=True)
    values[~np.isfinite(values)] = np.nan
    return values


def _unusable(profiles: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Why each well cannot count, empty where it can."""
    reason = np.full(len(profiles), "", dtype=object)
    reason[np.isnan(_features(profiles)).all(axis=1)] = "no finite feature"
    if "Metadata_Status" in profiles.columns:
        status = profiles["Metadata_Status"].fillna("unknown").to_numpy()
        failed = status != "ok"
        reason[failed] = [f"status: {text}" for text in status[failed]]
    reason[(profiles["Metadata_ControlType"] == "exclude").to_numpy()] = "excluded by the plate map"
    return reason


def _plate_distances(values: FloatArray, negative: BoolArray) -> FloatArray:
    """Root mean square of z of the wells of one plate (N, F) against its negatives, these leave-one-out."""
    controls = values[negative]
    n, mean = len(controls), controls.mean(axis=0)
    shift, total = controls - mean, ((controls - mean) ** 2).sum(axis=0)
    total[~(total > (ROUNDING * np.abs(mean)) ** 2)] = np.nan
    # The same as mean and variance of the n - 1 others, without refitting n times.
    variance = (total - n / (n - 1) * shift**2) / (n - 2)
    variance[~(variance > ROUNDING * total)] = np.nan
    z = (values - mean) / np.sqrt(total / (n - 1))
    z[negative] = n / (n - 1) * shift / np.sqrt(variance)
    known = np.isfinite(z).sum(axis=1)
    return np.sqrt(np.divide(np.nansum(z**2, axis=1), known, out=np.full(len(z), np.nan), where=known > 0))


def _robust_z(distance: FloatArray, negative: BoolArray) -> FloatArray:
    """Distances (N,) against median and MAD of the negatives' distances; a negative against the other negatives."""
    known = np.flatnonzero(negative & np.isfinite(distance))
    others = np.broadcast_to(distance[known], (len(distance), len(known))).copy()
    # A masked array leaves each negative out of its own row and answers an empty row without a warning.
    masked = np.ma.masked_array(others, mask=np.arange(len(distance))[:, None] == known)
    centre = np.ma.median(masked, axis=1)
    spread = MAD_TO_SD * np.ma.median(np.ma.abs(masked - centre[:, None]), axis=1).filled(np.nan)
    return np.divide(distance - centre.filled(np.nan), spread, out=np.full(len(distance), np.nan), where=spread > 0)


def _treatment(
    name: str, rows: npt.NDArray[np.intp], wells: pd.DataFrame, values: FloatArray, *, n_permutations: int, seed: int
) -> dict[str, object]:
    """Row of one treatment, q and hit still open."""
    of_treatment, usable = wells.iloc[rows], rows[(wells["reason"].to_numpy()[rows] == "")]
    plates = wells["Metadata_Plate"].iloc[usable].unique()
    near = wells["Metadata_Plate"].isin(plates) & (wells["reason"] == "")
    controls = np.flatnonzero(near & (wells["Metadata_ControlType"] == "negative"))
    test = np.concatenate([usable, controls])
    groups = (values[test], wells["Metadata_Plate"].to_numpy()[test], np.arange(len(test)) < len(usable))
    row = {column: of_treatment[column].iloc[0] for column in PLATEMAP if column in wells.columns}
    row |= {"Metadata_Treatment": name, "n_wells": len(usable), "n_plates": len(plates), "n_negative": len(controls)}
    row["Metadata_ControlType"] = "|".join(sorted(of_treatment["Metadata_ControlType"].unique()))
    row |= {column: wells[column].iloc[usable].median() for column in ("distance", "robust_z")}
    row |= {"effect_size": effect_size(*groups) if len(usable) else np.nan, "p": np.nan, "p_floor": np.nan}
    if len(usable) >= 2:
        own = [seed, zlib.crc32(str(name).encode())]
        row["p"], row["p_floor"] = permutation_test(*groups, n_permutations=n_permutations, seed=own)
    row["reason"] = _why_no_p(of_treatment, len(usable), row["p"])
    return row


def _why_no_p(wells: pd.DataFrame, n_usable: int, p: float) -> str:
    """Why a treatment has no p, empty when it has."""
    if n_usable == 0:
        return "no usable well: " + "; ".join(sorted(set(wells["reason"])))
    if n_usable == 1:
        return "one replicate well: robust z and rank, no p"
    return "no feature varies among the wells of the test" if np.isnan(p) else ""


def family(table: pd.DataFrame, max_fdr: float) -> pd.DataFrame:
    """Table of tested treatments with q, family, hit and the reasons that only the family knows."""
    sample = table["Metadata_ControlType"].fillna("").str.split("|").map(lambda types: "sample" in types).astype(bool)
    tested, p = table["p"].notna(), table["p"].astype(float)
    asked = sample & tested
    table["q"] = np.nan
    if asked.any():
        table.loc[asked, "q"] = false_discovery_control(p[asked], method="bh")
    table["family"] = np.where(asked, f"sample treatments against negative controls, {asked.sum()} tests", "")
    table["hit"] = table["q"] <= max_fdr
    floor = table["p_floor"].astype(float)
    table.loc[asked & (floor > max_fdr), "reason"] = f"the smallest attainable p is above max_fdr {max_fdr:g}"
    table.loc[tested & ~sample, "reason"] = "not a sample: outside the family, no q"
    return table.astype(TREATMENT_COLUMNS)
