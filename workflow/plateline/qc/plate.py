"""What is wrong with a field beside the rest of its plate, from its metrics alone."""

import numpy as np
import pandas as pd

FLAGS = ["blank", "blurred", "saturated", "debris", "uneven", "duplicate"]
# Median and MAD of fewer fields say little about what a sharp field of this plate looks like.
MIN_FIELDS = 8
_MAD_TO_SD = 1.4826
# What must be seen beside the robust z, so that a very even plate has no outliers of no account: a fall of the focus
# score by 1 is about 1 px of blur, debris has 4 times the usual score, and the background rises
# by a fifth of the plate's usual range.
_LEAST_BLUR = 1.0
_LEAST_DEBRIS = np.log(4)
_LEAST_GRADIENT = 0.2
# A channel with more light around its objects, in a plate where a quarter of the fields has fewer round ones, is no
# nuclear stain. DNA of BBBC013 and dsb2018 has 0.05 to 0.24 of the one and 0.74 to 0.90 of the other; the stains of
# whole cells of BBBC013 and of CellProfiler's example have 0.20 and 0.34, 0.35 and 0.17.
_MOST_HALO, _LEAST_ROUND = 0.15, 0.6
DRIFTING = ["background", "focus_score", "snr"]
DRIFT = ["Metadata_Plate", "Metadata_Channel", "measure", "n_fields", "correlation", "first", "last", "drifts"]


def flag_fields(
    metrics: pd.DataFrame,
    *,
    blurred_z: float,
    saturated_fraction: float,
    blank_contrast: float,
    debris_z: float,
    uneven_z: float,
) -> pd.DataFrame:
    """Rows of `measure_field` with what is wrong with them.

    Parameters
    ----------
    metrics : pd.DataFrame
        Any number of fields and plates: identity, `Metadata_Channel`, `METRICS` and `fingerprint`.
    blurred_z : float
        A field is blurred if its `focus_score` lies more than this many robust standard deviations (MAD * 1.4826), and
        more than about 1 px of blur, below the median of its plate and channel.
    saturated_fraction : float
        A field is saturated if a larger share of its pixels is.
    blank_contrast : float
        A field is blank if its `contrast` is not above this: it shows no more than noise.
    debris_z : float
        A field has debris if the log of its `debris_score` lies more than this many robust standard deviations, and a
        factor of 4, above the median of its plate and channel.
    uneven_z : float
        A field is uneven if its `background_gradient` lies more than this many robust standard deviations, and a fifth
        of the median `range`, above the median of its plate and channel.

    Returns
    -------
    pd.DataFrame
        Same rows, order and index; bool columns `FLAGS` and the text `flags`, their names joined by ``|``. Every image
        of a plate that has the same pixels as another of that plate is a `duplicate`, whichever came first.

    Notes
    -----
    Blank fields have no other flag than `saturated`, and do not enter the medians. Nothing is blurred, uneven or debris
    in a plate and channel with fewer than `MIN_FIELDS` fields or a MAD of 0, and a plate out of focus as a whole has no
    blurred fields. NaN: a field of unknown contrast is blank, one of unknown saturation is not saturated, one of
    unknown focus is not blurred.
    """
    blank = ~(metrics["contrast"] > blank_contrast)
    seen = metrics[["focus_score", "debris_score", "background_gradient", "range"]].mask(blank)
    groups = [metrics["Metadata_Plate"], metrics["Metadata_Channel"]]
    light = np.log(seen["debris_score"].where(seen["debris_score"] > 0))
    gradient = seen["background_gradient"] / seen["range"].groupby(groups).transform("median")
    copied = metrics.duplicated(["Metadata_Plate", "fingerprint"], keep=False)
    flagged = metrics.assign(
        blank=blank,
        blurred=_stands_out(-seen["focus_score"], groups, blurred_z, _LEAST_BLUR),
        saturated=metrics["saturation"] > saturated_fraction,
        debris=_stands_out(light, groups, debris_z, _LEAST_DEBRIS),
        uneven=_stands_out(gradient, groups, uneven_z, _LEAST_GRADIENT),
        duplicate=copied & ~blank & metrics["contrast"].notna(),
    )
    rows = flagged[FLAGS].to_numpy(dtype=bool)
    texts = ["|".join(flag for flag, is_set in zip(FLAGS, row, strict=True) if is_set) for row in rows]
    return flagged.assign(flags=pd.Series(texts, index=flagged.index, dtype=object))


def find_drift(metrics: pd.DataFrame, *, blank_contrast: float, drift_correlation: float) -> pd.DataFrame:
    """How background, focus and signal to noise change in the order in which the fields were imaged.

    Parameters
    ----------
    metrics : pd.DataFrame
        As for `flag_fields`, with `acquired`: when, as text that sorts by time. The order is that of the rows in a
        plate and channel where not every field has a time.
    blank_contrast : float
        Fields whose `contrast` is not above this do not count.
    drift_correlation : float
        A measure drifts if its rank correlation with the order is at least this, up or down.

    Returns
    -------
    pd.DataFrame
        One row per plate, channel and measure, columns `DRIFT`: the number of fields, Spearman's correlation with the
        order, the medians of the first and the last quarter of the fields, and whether the measure drifts. NaN, and no
        drift, where fewer than `MIN_FIELDS` fields count or the measure is constant.

    Notes
    -----
    Fields are no replicates, and a treatment may follow the same order: this is a description, without a p value.
    """
    seen = metrics[metrics["contrast"] > blank_contrast]
    rows = [
        (plate, channel, measure, *_trend(in_order[measure].dropna()))
        for (plate, channel), fields in seen.groupby(["Metadata_Plate", "Metadata_Channel"], sort=True)
        for in_order in [fields.sort_values("acquired", kind="stable") if (fields["acquired"] != "").all() else fields]
        for measure in DRIFTING
    ]
    table = pd.DataFrame(rows, columns=DRIFT[:-1]).astype(dict.fromkeys(DRIFT[4:-1], float) | {"n_fields": int})
    return table.assign(drifts=table["correlation"].abs() >= drift_correlation)


def drift_reasons(drift: pd.DataFrame) -> pd.DataFrame:
    """Plate, `reason` and `count` (fields) of each measure that drifts, from `find_drift`."""
    found = drift[drift["drifts"]]
    if found.empty:
        return pd.DataFrame(columns=["Metadata_Plate", "reason", "count"])
    change = found["first"].map("{:.3g}".format) + " to " + found["last"].map("{:.3g}".format)
    correlation = found["correlation"].map("{:+.2f}".format)
    reason = (
        "drift of "
        + found["measure"]
        + " in "
        + found["Metadata_Channel"]
        + " over the order of imaging: from "
        + change
        + ", rank correlation "
        + correlation
    )
    return found[["Metadata_Plate"]].assign(reason=reason.astype(object), count=found["n_fields"])


def role_reasons(metrics: pd.DataFrame, roles: dict[str, str], *, blank_contrast: float) -> pd.DataFrame:
    """Plate, `reason` and `count` (fields) of each channel that does not look like the role it was given.

    Parameters
    ----------
    metrics : pd.DataFrame
        As for `flag_fields`.
    roles : dict of str to str
        Role -> channel; of `DNA` a nuclear stain is expected. A role without channel is not looked at.
    blank_contrast : float
        Fields whose `contrast` is not above this do not count.

    Returns
    -------
    pd.DataFrame
        A channel does not look nuclear if its objects have a `halo` (median of the fields) and are not round (lower
        quartile of `roundness`). A plate without the channel is named too, one with blank fields only is not.
    """
    rows, channel = [], roles.get("DNA")
    for plate, fields in metrics.groupby("Metadata_Plate", sort=True) if channel else ():
        own = fields[fields["Metadata_Channel"] == channel]
        seen = own[own["contrast"] > blank_contrast]
        halo, round_ = seen["halo"].median(), seen["roundness"].quantile(0.25)
        if own.empty:
            rows.append((plate, f"qc.plate.roles.DNA names channel {channel!r}, which the plate does not have", 0))
        elif halo > _MOST_HALO and round_ < _LEAST_ROUND:
            numbers = f"light around its objects {halo:.0%} of that in them, round objects {round_:.0%}"
            reason = f"channel {channel}, declared as DNA, does not look nuclear or is out of focus: {numbers}"
            rows.append((plate, reason, len(seen)))
    return pd.DataFrame(rows, columns=["Metadata_Plate", "reason", "count"])


def _stands_out(values: pd.Series, groups: list[pd.Series], most_z: float, least: float) -> pd.Series:
    """Whether a value lies above its group's median by more than `most_z` robust standard deviations and by `least`."""
    deviation = values - values.groupby(groups).transform("median")
    spread = _MAD_TO_SD * deviation.abs().groupby(groups).transform("median")
    # A spread of 0 becomes NaN, above which nothing lies.
    spread = spread.mask((spread == 0) | (values.groupby(groups).transform("count") < MIN_FIELDS))
    return (deviation > most_z * spread) & (deviation > least)


def _trend(values: pd.Series) -> tuple[int, float, float, float]:
    """Number of values, rank correlation with their order, medians of the first and the last quarter."""
    if len(values) < MIN_FIELDS or values.nunique() < 2:
        return len(values), np.nan, np.nan, np.nan
    order, quarter = np.arange(len(values)), len(values) // 4
    correlation = np.corrcoef(values.rank(), order)[0, 1]
    return len(values), correlation, values.iloc[:quarter].median(), values.iloc[-quarter:].median()
