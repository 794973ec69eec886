"""What is known of the wells: classes (a well may have several), compounds, treatments as the mean of their wells."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import PlatelineError
from plateline.identity import PREFIX, WELL, features_of

NEEDED = [*WELL, "Metadata_ControlType", "Metadata_Treatment", "Metadata_Compound"]
# Label of negative controls.
NEGATIVE = "negative"
# Wells behind the mean of a treatment.
WELL_COUNT = "Metadata_Well_Count"
# Letters of an InChIKey that stand for the skeleton, without stereochemistry, isotopes and charge.
SKELETON = 14

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]


def text_of(wells: pd.DataFrame, column: str) -> Texts:
    """The column as text, empty where there is none."""
    if column not in wells:
        return np.full(len(wells), "", object)
    return np.array(["" if pd.isna(v) else str(v).strip() for v in wells[column]], object)


def check_profiles(profiles: pd.DataFrame) -> pd.DataFrame:
    """The wells that may take part, sorted, after refusing a table that is not corrected profiles.

    Raises
    ------
    PlatelineError
        If a column is missing or a feature is not finite.
    """
    missing = [c for c in NEEDED if c not in profiles]
    if missing:
        msg = f"corrected profiles lack {missing}; they have {list(profiles)[:9]}; rerun rule correct_screen"
        raise PlatelineError(msg)
    features = features_of(list(profiles))
    finite = np.isfinite(profiles[features].to_numpy(np.float64))
    if not finite.all():
        bad = [f for f, good in zip(features, finite.all(axis=0), strict=True) if not good]
        msg = f"corrected profiles are not finite in {bad[:5]}; expected numbers; rerun rule correct_screen"
        raise PlatelineError(msg)
    wells = profiles[profiles["Metadata_ControlType"] != "exclude"]
    return wells.sort_values(WELL, kind="stable", ignore_index=True)


def average_treatments(wells: pd.DataFrame, apart: list[str]) -> pd.DataFrame:
    """Mean profile of each treatment, one row for each batch or plate it must stay apart by.

    Parameters
    ----------
    wells : DataFrame
        From `check_profiles`.
    apart : list of str
        Metadata columns whose values are not averaged over.

    Returns
    -------
    DataFrame
        Columns of `wells`: features averaged, and of the metadata numbers averaged and the first of texts; beside them
        `Metadata_Well_Count`. Wells without a treatment are left out. Sorted by treatment.
    """
    keys = ["Metadata_Treatment", "Metadata_ControlType", *apart]
    known = wells[text_of(wells, "Metadata_Treatment") != ""]
    numbers = known.select_dtypes("number").columns.difference(keys)
    how = {column: "mean" if column in numbers else "first" for column in known if column not in keys}
    groups = known.groupby(keys, sort=True, dropna=False)
    averaged = groups.agg(how).reset_index()[list(known)]
    averaged.insert(0, WELL_COUNT, groups.size().to_numpy())
    return averaged.astype(dict.fromkeys(features_of(list(known)), np.float64))


def class_sets(wells: pd.DataFrame, *, negative_class: bool) -> list[tuple[str, ...]]:
    """Classes of each row, by mechanism or by control type; none for the rows to be predicted.

    Parameters
    ----------
    wells : DataFrame
        Rows with `Metadata_ControlType` and perhaps `Metadata_MoA`, a list joined by ``|``.
    negative_class : bool
        Whether negative controls are a class of their own: without it inactive compounds have to resemble some
        mechanism.

    Returns
    -------
    list of tuple of str
        Sorted names. Only control and reference wells have classes: their mechanisms where any has one, else
        ``positive`` and ``negative``.
    """
    kind, mechanism = text_of(wells, "Metadata_ControlType"), text_of(wells, "Metadata_MoA")
    mechanism[~np.isin(kind, ["negative", "positive", "reference"])] = ""
    if not (mechanism != "").any():
        mechanism = np.where(np.isin(kind, [NEGATIVE, "positive"]), kind, "").astype(object)
    elif negative_class:
        mechanism = np.where((mechanism == "") & (kind == NEGATIVE), NEGATIVE, mechanism).astype(object)
    return [tuple(sorted({part.strip() for part in text.split("|")} - {""})) for text in mechanism]


def membership(sets: list[tuple[str, ...]]) -> tuple[Bools, Texts]:
    """Rows by classes (N, K), and the names of the classes, sorted."""
    classes = np.array(sorted({name for names in sets for name in names}), object)
    return np.array([[c in names for c in classes] for names in sets], bool).reshape(len(sets), len(classes)), classes


def compound_groups(wells: pd.DataFrame) -> Texts:
    """Group of each row: compounds of one name, or of one InChIKey skeleton, are one.

    Parameters
    ----------
    wells : DataFrame
        With `Metadata_Compound` and perhaps `Metadata_InChIKey`.

    Returns
    -------
    ndarray of str objects, shape (N,)
        The first name of the group; empty text for a row without compound and key.
    """
    names, keys = text_of(wells, "Metadata_Compound"), text_of(wells, "Metadata_InChIKey")
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            node = leader[node]
        return node

    # Names come before skeletons in the alphabet of nodes, so that a group is called by a name.
    nodes = [(f"0{n}" if n else "", f"1{k[:SKELETON].upper()}" if k else "") for n, k in zip(names, keys, strict=True)]
    for name, skeleton in nodes:
        if name and skeleton:
            first, last = sorted((find(name), find(skeleton)))
            leader[last] = first
    return np.array([find(name or skeleton)[1:] if name or skeleton else "" for name, skeleton in nodes], object)


def metadata_of(wells: pd.DataFrame) -> list[str]:
    """The identity columns of a table."""
    return [column for column in wells if column.startswith(PREFIX)]
