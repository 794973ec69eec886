"""Which fields show best how a segmentation will do on a plate, before the whole plate is segmented.

Owns the choice of wells and the few numbers about the objects found in them. It reads and draws nothing.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline import flatfield, segment
from plateline.identity import FIELD

# Control types with a well of their own, and what the page calls them.
_CONTROLS = {"negative": "negative control", "positive": "positive control"}


def pick_fields(
    fields: pd.DataFrame, wells: pd.DataFrame, *, asked: list[str], n_fields: int, seed: int
) -> pd.DataFrame:
    """Fields to read: of the wells asked for, or of controls and the top dose; then of others, up to a number.

    Parameters
    ----------
    fields : DataFrame
        The plate's fields, with the columns of `FIELD`; only the first time point of each is taken.
    wells : DataFrame
        The plate map of the wells with images, as `plateline.platemap.whole_plate` returns it.
    asked : list of str
        Wells that a person wants to see; none takes a negative and a positive control and the highest dose of the
        samples.
    n_fields : int
        Number of fields, more where more are asked for, less where the plate has fewer wells.
    seed : int
        Draws among equal wells, the sites, and the others.

    Returns
    -------
    DataFrame
        One field per well: `FIELD`, ``why`` (empty for those that only fill up) and ``title`` (the treatment). Those
        with a reason come first.

    Notes
    -----
    Wells of control type ``exclude`` only fill up where there are no others.
    """
    rng = np.random.default_rng(seed)
    shuffled = wells.sort_values("Metadata_Well").sample(frac=1, random_state=rng).set_index("Metadata_Well")
    reasons = dict.fromkeys(asked, "asked for") or _reasons(shuffled)
    # Stable, so that the draw decides among the wells that count.
    others = shuffled.sort_values("Metadata_ControlType", key=lambda kinds: kinds == "exclude", kind="stable").index
    chosen = [*reasons, *(well for well in others if well not in reasons)][: max(n_fields, len(reasons))]
    first = fields[fields["Metadata_Timepoint"] == fields["Metadata_Timepoint"].min()].sort_values(FIELD)
    drawn = first.sample(frac=1, random_state=rng).drop_duplicates("Metadata_Well").set_index("Metadata_Well")
    picked = drawn.reindex(chosen).dropna(subset=["Metadata_Plate"]).reset_index()
    titles = shuffled["Metadata_Treatment"].reindex(picked["Metadata_Well"]).fillna("").to_numpy()
    picked = picked.astype({"Metadata_Site": int, "Metadata_Timepoint": int})[FIELD]
    return picked.assign(why=picked["Metadata_Well"].map(reasons).fillna(""), title=titles)


def _reasons(shuffled: pd.DataFrame) -> dict[str, str]:
    """A well of each kind of control and one of the highest dose: well to reason; the first of equals."""
    kinds = shuffled["Metadata_ControlType"]
    found = {kinds[kinds == kind].index[0]: name for kind, name in _CONTROLS.items() if (kinds == kind).any()}
    samples = shuffled[kinds == "sample"]
    doses = samples[["Metadata_log10_molar", "Metadata_Concentration"]].apply(lambda column: column.fillna(-np.inf))
    if len(samples):
        top = doses.apply(tuple, axis=1).to_numpy()
        dosed = np.isfinite(doses.to_numpy(float)).any()
        found[samples.index[max(range(len(top)), key=lambda n: top[n])]] = "highest dose" if dosed else "sample"
    return found


def even_out(raw: list[npt.NDArray], estimate: Callable, options: list[dict]) -> list[npt.NDArray[np.float32]]:
    """The fields under even illumination, as a method of `flatfield` estimates it from these very fields.

    Parameters
    ----------
    raw : list of (C, Y, X) arrays
        Raw counts, of one shape.
    estimate : callable
        (N, Y, X), **options -> illumination and dark level (Y, X).
    options : list of dict
        Its keywords for each channel.

    Returns
    -------
    list of (C, Y, X) float32
    """
    channels = np.stack(raw, axis=1)  # (C, N, Y, X)
    pairs = [estimate(fields, **given) for fields, given in zip(channels, options, strict=True)]
    illum, dark = (np.stack(kind) for kind in zip(*pairs, strict=True))
    return [flatfield.correct(image, illum, dark) for image in raw]


def add_extremes(picked: pd.DataFrame, images: list[npt.NDArray[np.float32]]) -> pd.DataFrame:
    """The fields to show: those with a reason, and the ones whose nuclei are dimmest and brightest.

    Parameters
    ----------
    picked : DataFrame
        From `pick_fields`.
    images : list of (C, Y, X) float32
        Pixels of the same fields, the nuclei channel first. Its span from the 1st to the 99.5th percentile counts.

    Returns
    -------
    DataFrame
        Rows of `picked` in their order; a field with two reasons names both. When wells were asked for there are no
        extremes, and of fewer than three fields each is shown.
    """
    if (picked["why"] == "asked for").any():
        return picked[picked["why"] != ""]
    if len(picked) < 3:
        return picked.assign(why=picked["why"].replace("", "one of the few wells"))
    spans = [float(np.subtract(*np.percentile(image[0], [99.5, 1]))) for image in images]
    why = list(picked["why"])
    for place, name in ((int(np.argmin(spans)), "dimmest nuclei"), (int(np.argmax(spans)), "brightest nuclei")):
        why[place] = "; ".join(filter(None, [why[place], f"{name} of {len(spans)} fields"]))
    shown = picked.assign(why=why)
    return shown[shown["why"] != ""]


def count_objects(labels: dict[str, npt.NDArray[np.int32]]) -> dict[str, float]:
    """Numbers about the objects of one field.

    Parameters
    ----------
    labels : dict of str to (Y, X) int32
        ``nuclei``, ``cells`` and ``cytoplasm``.

    Returns
    -------
    dict of str to float
        ``nuclei`` and ``cells`` (how many), ``border`` (nuclei that touch the edge of the field), ``nucleus_px`` and
        ``cell_px`` (median areas in pixels, NaN where there are none).
    """
    table = segment.object_table(labels)
    nuclei, cells = (table[table["compartment"] == name] for name in ("nuclei", "cells"))
    return {
        "nuclei": len(nuclei),
        "cells": len(cells),
        "border": int(nuclei["touches_border"].sum()),
        "nucleus_px": float(nuclei["area"].median()),
        "cell_px": float(cells["area"].median()),
    }
