"""The tables of the pages: what is in each, and in which order."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from plateline.identity import READOUT
from plateline.report.canvas import readable, written_unit
from plateline.report.tables import (
    Table,
    count,
    interval,
    listed,
    notes_of,
    number,
    share,
    span,
    table,
    text,
    used,
    yes,
)

CELLS = "Metadata_Object_Count"
STAGES = [
    "ingest",
    "platemap",
    "flatfield",
    "qc",
    "segment",
    "track",
    "measure",
    "embed",
    "profile",
    "assay",
    "correct",
    "hits",
    "classify",
    "suggest",
    "report",
    "ledger",
]

QUALITY_FLAGS = ("blank", "blurred", "saturated", "debris", "uneven", "duplicate")


def assay_table(assay: pd.DataFrame) -> Table:
    """One row per readout and positive group: Z', robust Z' and SSMD with intervals, numbers of wells, the reason."""
    frame = assay.copy()
    for name in ("zprime", "robust_zprime", "ssmd"):
        frame[f"{name}_span"] = [
            interval(*pair) for pair in zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
        ]
    columns = {
        "plate": ("Metadata_Plate", text),
        "readout": ("readout", text),
        "positive control": ("positive", text),
        "n neg.": ("n_negative", count),
        "n pos.": ("n_positive", count),
        "Z′": ("zprime", number),
        "interval": ("zprime_span", span),
        "robust Z′": ("robust_zprime", number),
        "interval ": ("robust_zprime_span", span),
        "SSMD": ("ssmd", number),
        "interval  ": ("ssmd_span", span),
        "signal window": ("signal_window", number),
        "CV neg.": ("cv_negative", share),
        "CV pos.": ("cv_positive", share),
    }
    return replace(table(frame, used(columns, frame)), notes=notes_of(frame, "readout", "positive"))


def position_table(positions: pd.DataFrame) -> Table:
    """One row per readout and position effect that could be estimated; below, why others could not."""
    frame = positions.copy()
    frame["span"] = [interval(*pair) for pair in zip(frame["low"], frame["high"], strict=True)]
    columns = {
        "readout": ("readout", text),
        "effect of": ("effect", text),
        "wells of": ("treatment", text),
        "wells": ("n_wells", count),
        "effect size": ("effect_size", number),
        "difference": ("difference", number),
        "interval": ("span", span),
        "relative": ("relative", number),
        "p": ("p", share),
        "smallest p": ("p_floor", share),
        "q": ("q", share),
        "detail": ("detail", text),
    }
    shown = frame[frame["reason"] == ""]
    return replace(table(shown, used(columns, shown)), notes=notes_of(frame, "effect"))


def count_table(ledger: pd.DataFrame) -> Table:
    """Units in and out of every stage, parts and plates added up, in the order of the stages."""
    counts = ledger[ledger["kind"] == "count"]
    sums = counts.groupby(["stage", "rule", "unit"], as_index=False, sort=False)[["count_in", "count_out"]].sum()
    sums = _by_stage(sums).assign(lost=lambda t: (t["count_in"] - t["count_out"]).clip(lower=0))
    return table(
        sums,
        {
            "stage": ("stage", text),
            "rule": ("rule", text),
            "unit": ("unit", text),
            "in": ("count_in", count),
            "out": ("count_out", count),
            "left out": ("lost", count),
        },
    )


def reason_table(ledger: pd.DataFrame, kinds: Iterable[str], *, most: int = 40) -> Table:
    """Exclusions, warnings or failures: one row per reason with how many units and which wells."""
    chosen = ledger[ledger["kind"].isin(list(kinds))]
    keys = ["kind", "stage", "unit", "reason"]
    groups = chosen.groupby(keys, as_index=False, sort=False, dropna=False)
    sums = groups.agg(count=("count", "sum"), places=("place", listed)) if len(chosen) else chosen.assign(places="")
    sums = _by_stage(sums.sort_values("count", ascending=False, kind="stable"))
    columns = {
        "stage": ("stage", text),
        "what": ("kind", text),
        "reason": ("reason", text),
        "count": ("count", count),
        "unit": ("unit", text),
        "wells": ("places", text),
    }
    return table(sums, columns, most=most, rest="results/ledger.parquet")


def places_of(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger with a column ``place``: plate and well as far as a row names them; one plate alone is not named."""
    plates = ledger["Metadata_Plate"]
    several = plates[plates != ""].nunique() > 1
    place = plates + " " + ledger["Metadata_Well"] if several else ledger["Metadata_Well"]
    return ledger.assign(place=place.astype(object).str.strip())


def _by_stage(frame: pd.DataFrame) -> pd.DataFrame:
    place = {stage: i for i, stage in enumerate(STAGES)}
    return frame.sort_values("stage", key=lambda stages: stages.map(place).fillna(len(place)), kind="stable")


def well_table(wells: pd.DataFrame, readouts: list[str]) -> Table:
    """Every well of a plate with what is in it, its state and its readouts."""
    columns = {
        "well": ("Metadata_Well", text),
        "compound": ("Metadata_Compound", text),
        "dose": ("Metadata_Concentration", number),
        "unit": ("Metadata_ConcentrationUnit", written_unit),
        "type": ("Metadata_ControlType", text),
        "status": ("Metadata_Status", text),
        "reason": ("Metadata_Reason", text),
        "fields": ("Metadata_Site_Count", count),
        "cells": (CELLS, count),
    }
    shown = wells.sort_values("Metadata_Well", key=lambda names: names.str.rjust(4), kind="stable")
    return table(shown, used(columns | {readable(r): (READOUT + r, number) for r in readouts}, shown))


def status_table(wells: pd.DataFrame) -> Table:
    """Wells that are not ``ok``: how many, why, which."""
    bad = wells[wells["Metadata_Status"] != "ok"]
    groups = bad.groupby(["Metadata_Status", "Metadata_Reason"], sort=False)["Metadata_Well"]
    rows = [{"status": s, "reason": r, "wells": len(w), "which": listed(w)} for (s, r), w in groups]
    columns = {
        "status": ("status", text),
        "wells": ("wells", count),
        "reason": ("reason", text),
        "which": ("which", text),
    }
    return table(pd.DataFrame(rows, columns=["status", "reason", "wells", "which"]), columns)


def quality_table(fields: pd.DataFrame) -> Table:
    """One row per channel: fields, how many carry which flag, and the medians of the measures."""
    rows = []
    for channel, group in fields.groupby("Metadata_Channel", sort=False):
        flags = group["flags"].str.split("|").explode()
        tally = {flag: int((flags == flag).sum()) for flag in QUALITY_FLAGS}
        medians = group[["focus_slope", "snr", "background", "foreground"]].median().to_dict()
        rows.append({"channel": channel, "fields": len(group), **tally, **medians})
    counts = {name: (name, count) for name in ("fields", *QUALITY_FLAGS)}
    measures = {
        "focus slope": "focus_slope",
        "signal to noise": "snr",
        "background": "background",
        "foreground": "foreground",
    }
    columns = {"channel": ("channel", text), **counts, **{title: (name, number) for title, name in measures.items()}}
    names = ["channel", *counts, *measures.values()]
    return table(pd.DataFrame(rows, columns=names), columns)


def dose_table(dose: pd.DataFrame, answers: list[str]) -> Table:
    """One row per compound and readout, in the order given, the EC50 as words."""
    columns = {
        "compound": ("Metadata_Compound", text),
        "readout": ("readout", text),
        "EC50 (interval)": ("answer", span),
        "pEC50": ("pEC50", number),
        "hill": ("hill", number),
        "bottom": ("bottom", number),
        "top": ("top", number),
        "R²": ("r2", number),
        "Spearman": ("spearman", number),
        "curve": ("curve_class", text),
        "doses": ("n_doses", count),
        "wells": ("n_wells", count),
    }
    shown = dose.assign(answer=answers)
    drawn = table(shown, used(columns, shown), most=60, rest="results/hits/dose_response.parquet")
    return replace(drawn, notes=notes_of(shown.head(60), "Metadata_Compound", "readout"))


def treatment_table(treatments: pd.DataFrame, most: int) -> Table:
    """Hits first, then by distance."""
    columns = {
        "treatment": ("Metadata_Treatment", text),
        "type": ("Metadata_ControlType", text),
        "wells": ("n_wells", count),
        "plates": ("n_plates", count),
        "distance": ("distance", number),
        "effect size": ("effect_size", number),
        "robust z": ("robust_z", number),
        "p": ("p", share),
        "smallest p": ("p_floor", share),
        "q": ("q", share),
        "hit": ("hit", yes),
        "mAP, controls": ("map_controls", number),
        "mAP, others": ("map_others", number),
        "flags": ("flags", text),
    }
    treatments = treatments.assign(flags=[", ".join(filter(None, words)) for words in _flags(treatments)])
    ranked = treatments.sort_values(["hit", "distance"], ascending=False, kind="stable")
    drawn = table(ranked, used(columns, ranked), most=most, rest="results/hits/hits.parquet")
    return replace(drawn, notes=notes_of(ranked.head(most), "Metadata_Treatment"))


def _flags(treatments: pd.DataFrame) -> Iterable[tuple[str, ...]]:
    """What else each treatment does, in words."""
    words = {"cytotoxic": "cytotoxic", "autofluorescent": "autofluorescent", "quencher": "quencher"}
    columns = [[word if raised else "" for raised in treatments[name]] for name, word in words.items()]
    below = treatments["toxic_from"].notna() & treatments["active_below_toxic"]
    columns.append(["active below its toxic dose" if both else "" for both in below])
    return zip(*columns, strict=True)


def rate_table(rates: pd.DataFrame) -> Table:
    """How many control wells would be called, of plates and batches that the fit had not seen."""
    frame = rates.copy()
    frame["span"] = [interval(*pair) for pair in zip(frame["low"], frame["high"], strict=True)]
    columns = {
        "held out": ("held_out", text),
        "blocks": ("n_blocks", count),
        "control wells": ("n_wells", count),
        "called at 5 %": ("rate", share),
        "interval": ("span", span),
        "note": ("reason", text),
    }
    return table(frame, used(columns, frame))


def prediction_table(predictions: pd.DataFrame, most: int) -> Table:
    """The surest first."""
    columns = {
        "treatment": ("Metadata_Treatment", text),
        "resembles": ("call", text),
        "least unlike": ("mechanism", text),
        "confidence": ("confidence", share),
        "set": ("set", text),
        "novelty p": ("novelty", share),
        "wells": ("n_wells", count),
    }
    ranked = predictions.sort_values("confidence", ascending=False, kind="stable")
    return table(ranked, columns, most=most, rest="results/classify/predictions.parquet")


def score_table(evaluation: dict) -> Table:
    """The classifier beside what chance and the cell count alone would reach."""
    baselines = evaluation.get("baselines") or {}
    rows = [{"who": "classifier", **evaluation}] + [
        {"who": name.replace("_", " "), **scores} for name, scores in baselines.items() if isinstance(scores, dict)
    ]
    frame = pd.DataFrame(rows)
    bounds = (
        frame.get(name, pd.Series(np.nan, frame.index)).fillna(np.nan) for name in ("accuracy_low", "accuracy_high")
    )
    frame["span"] = [interval(*pair) for pair in zip(*bounds, strict=True)]
    columns = {
        "": ("who", text),
        "accuracy": ("accuracy", number),
        "interval": ("span", span),
        "balanced accuracy": ("balanced_accuracy", number),
        "log loss (nats)": ("log_loss", number),
    }
    return table(frame if evaluation.get("accuracy") is not None else frame.iloc[:0], columns)


def doubt_table(evaluation: dict) -> Table:
    """How far confidence, sets and novelty can be trusted: what was got, its interval, and what to compare it with."""
    aims = {
        "brier": ("Brier score of the probabilities", "brier_constant", "with one confidence for all answers"),
        "log_loss": ("log loss (nats)", "log_loss_constant", "with one confidence for all answers"),
        "calibration_error": ("calibration error, bins of equal numbers", "", "0"),
        "risk_coverage_area": ("area under risk and coverage", "", "0; the share of wrong answers if unordered"),
        "set_coverage": ("sets that hold a true class", "coverage", "asked for"),
        "set_size": ("classes in a set, mean", "", "1"),
        "novelty_auroc": ("unseen class told from seen ones, AUROC", "", "0.5 says nothing"),
    }
    rows = []
    for name, (title, beside, words) in aims.items():
        if evaluation.get(name) is not None:
            bounds = [evaluation.get(f"{name}_{end}", np.nan) for end in ("low", "high")]
            said = f"{number(evaluation.get(beside, np.nan))} {words}" if beside else words
            rows.append({"what": title, "got": evaluation[name], "span": interval(*bounds), "beside": said})
    columns = {
        "of held-out answers": ("what", text),
        "got": ("got", number),
        "interval": ("span", span),
        "to compare with": ("beside", text),
    }
    return table(pd.DataFrame(rows, columns=["what", "got", "span", "beside"]), columns)


def resemblance_table(resemblance: pd.DataFrame, most: int) -> Table:
    """Treatments in the order of their tree, with cluster, nearest other and place on the map."""
    columns = {
        "treatment": ("Metadata_Treatment", text),
        "known mechanism": ("Metadata_MoA", text),
        "cluster": ("cluster", count),
        "nearest other": ("nearest", text),
        "cosine": ("cosine", number),
        "first axis": ("map_x", number),
        "second axis": ("map_y", number),
    }
    shown = resemblance.sort_values("order", kind="stable")
    return table(shown, used(columns, shown), most=most, rest="results/classify/resemblance.parquet")
