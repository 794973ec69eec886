"""The two pages: one plate, and the screen. Owns what stands on them and in which order the figures are named."""

import json
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from plateline.identity import READOUT
from plateline.report import facts, sections
from plateline.report.canvas import readable
from plateline.report.controls import intervals
from plateline.report.figures import answers, dose_figures, doubt_figure, order_curves, plate_cards, plate_figures
from plateline.report.gallery import cell_pictures, list_pictures
from plateline.report.ranking import ranking
from plateline.report.tables import text
from plateline.report.training import learning_curve, training_table

# Plates whose pictures stand on the page of the screen; the others have theirs on their own pages.
_MOST_STRIPS = 3
FLAGS = ("hit", "cytotoxic", "autofluorescent", "quencher", "active_below_toxic")
# What the pages read of each table, as text and as numbers: a table without a column is read as one without values.
READS = {
    "wells": (
        [
            "Metadata_Plate",
            "Metadata_Well",
            "Metadata_Status",
            "Metadata_Reason",
            "Metadata_Compound",
            "Metadata_ConcentrationUnit",
            "Metadata_Treatment",
            "Metadata_ControlType",
        ],
        [
            "Metadata_Object_Count",
            "Metadata_Concentration",
            "Metadata_log10_molar",
            "Metadata_Site_Count",
            "Metadata_Sites_Expected",
        ],
    ),
    "assay": (
        ["Metadata_Plate", "readout", "positive", "reason"],
        [
            "n_negative",
            "n_positive",
            "zprime",
            "zprime_low",
            "zprime_high",
            "robust_zprime",
            "robust_zprime_low",
            "robust_zprime_high",
            "ssmd",
            "ssmd_low",
            "ssmd_high",
            "signal_window",
            "cv_negative",
            "cv_positive",
            "confidence",
        ],
    ),
    "positions": (
        ["Metadata_Plate", "readout", "effect", "treatment", "detail", "reason"],
        ["n_wells", "effect_size", "difference", "low", "high", "relative", "p", "p_floor", "q", "confidence"],
    ),
    "fields": (["Metadata_Channel", "flags"], ["focus_slope", "saturation", "background", "foreground", "snr"]),
    "segmented": (["Metadata_Well"], ["disagreement"]),
    "ledger": (
        ["Metadata_Plate", "Metadata_Well", "stage", "rule", "kind", "unit", "reason"],
        ["count_in", "count_out", "count"],
    ),
    "plates": (["Metadata_Plate", "Metadata_Batch", "status", "reason"], []),
    "dose": (
        ["Metadata_Compound", "readout", "unit", "qualifier", "curve_class", "reason"],
        [
            "pEC50",
            "EC50",
            "low",
            "high",
            "bottom",
            "top",
            "hill",
            "fitted_pEC50",
            "n_wells",
            "n_doses",
            "spearman",
            "r2",
            "confidence",
        ],
    ),
    "pictures": (["Metadata_Plate", "well", "title", "file"], []),
    "treatments": (
        ["Metadata_Treatment", "Metadata_ControlType", "family", "test", "reason"],
        [
            "n_wells",
            "n_plates",
            "distance",
            "effect_size",
            "robust_z",
            "p",
            "p_floor",
            "q",
            "map_controls",
            "map_others",
            "toxic_from",
        ],
    ),
    "rates": (["held_out", "reason"], ["n_blocks", "n_wells", "rate", "low", "high"]),
    "predictions": (
        ["Metadata_Treatment", "Metadata_Compound", "mechanism", "set", "call"],
        ["confidence", "novelty", "n_wells"],
    ),
    "resemblance": (
        ["Metadata_Treatment", "Metadata_MoA", "nearest"],
        ["cosine", "cluster", "order", "map_x", "map_y", "map_x_share", "map_y_share"],
    ),
    "curve": ([], ["step", "loss", "held_out"]),
    "scores": (["image", "when"], ["threshold", "tp", "fp", "fn"]),
}


def plate_page(
    tables: dict[str, pd.DataFrame],
    *,
    plate: str,
    readouts: list[str],
    channels: list[str],
    gallery: list[dict],
    gallery_px: int,
    templates: dict[str, str],
) -> dict[str, bytes]:
    """The page of one plate and its pictures.

    Parameters
    ----------
    tables : dict of str to DataFrame
        This plate's ``wells`` (profile table), ``assay``, ``positions`` (position effects), ``fields`` (quality of each
        field and channel, with flags), ``segmented`` (a row per field, as `segment` leaves it), ``ledger``; each may be
        empty, as after a failure.
    plate : str
        Name of the plate.
    readouts : list of str
        Declared readouts, the main one first; columns ``Metadata_Readout_{readout}`` of the wells.
    channels : list of str
        Names in the order of C in the gallery's images.
    gallery : list of dict
        ``well``, ``title``, ``image`` (C, Y, X) float32 in shares of the camera's full scale, ``nuclei`` and ``cells``
        (Y, X) integer labels; may be empty.
    gallery_px : int
        Side of the square shown of each image.
    templates : dict of str to str
        Text of the files of ``workflow/report`` by their names; ``plate.html`` is filled in.

    Returns
    -------
    dict of str to bytes
        File name to content: ``index.html`` and its pictures, to be saved in one folder, and ``pictures.json``, which
        lists the outlined ones for the page of the screen.

    Raises
    ------
    LabelError
        If a picture of the gallery does not fit its labels or the channels.
    """
    names = ("wells", "assay", "positions", "fields", "segmented", "ledger")
    read = {name: _complete(tables[name], name, readouts) for name in names}
    wells, ledger = read["wells"], sections.places_of(read["ledger"])
    files, figures = plate_figures(wells, readouts)
    if len(read["assay"]):
        files["assay.svg"] = intervals(*_assay_rows(read["assay"]))
    drawn, doubt = doubt_figure(wells, read["segmented"])
    files |= drawn
    pictures, shown = cell_pictures(gallery, channels, size_px=gallery_px)
    page = {
        "plate": plate,
        "facts": facts.plate_facts(wells, read["assay"]),
        "failures": ledger.loc[ledger["kind"] == "failure", "reason"].tolist(),
        "figures": figures,
        "assay": sections.assay_table(read["assay"]),
        "positions": sections.position_table(read["positions"]),
        "level": _level(read["assay"]),
        "gallery": shown,
        "quality": sections.quality_table(read["fields"]),
        "doubt": doubt,
        "wells": sections.well_table(wells, readouts),
        "status": sections.status_table(wells),
        **_lost(ledger),
    }
    files["pictures.json"] = json.dumps(list_pictures(shown, plate), indent=1).encode()
    return {"index.html": render("plate.html", templates, {**page, "files": list(files)}), **files, **pictures}


def screen_page(
    tables: dict[str, pd.DataFrame],
    *,
    readouts: list[str],
    evaluation: dict,
    run: dict,
    config_text: str,
    top_treatments: int,
    templates: dict[str, str],
) -> dict[str, bytes]:
    """The page of the whole screen and its pictures.

    Parameters
    ----------
    tables : dict of str to DataFrame
        ``plates`` (a row per plate used: ``Metadata_Plate``, ``Metadata_Batch``, ``status`` ``ok`` or ``failed``,
        ``reason``), ``wells`` (profile tables of all plates), ``pictures`` (from the plates' ``pictures.json``),
        ``assay``, ``dose``, ``treatments``, ``rates`` (control wells called), ``predictions``, ``resemblance``,
        ``curve`` and ``scores`` (of a training of the segmenter, shown where there was one) and ``ledger``; each may be
        empty.
    readouts : list of str
        Declared readouts, the main one first.
    evaluation : dict
        Of `plateline.classify.classify_treatments`; may be empty.
    run : dict
        Versions and digests, text or nested dicts of text.
    config_text : str
        The config as used.
    top_treatments : int
        Rows shown of the tables of treatments.
    templates : dict of str to str
        Text of the files of ``workflow/report`` by their names; ``screen.html`` is filled in.

    Returns
    -------
    dict of str to bytes
        File name to content: ``index.html`` and its pictures; a plate's own page is expected at ``{plate}/index.html``.
    """
    screen = ("plates", "wells", "pictures", "assay", "dose", "treatments", "rates")
    names = (*screen, "predictions", "resemblance", "curve", "scores", "ledger")
    read = {name: _complete(tables[name], name, readouts) for name in names}
    ledger = sections.places_of(read["ledger"])
    dose = order_curves(read["dose"], readouts)
    files, plates = plate_cards(read["plates"], read["wells"], readouts)
    if len(read["assay"]):
        files["assay.svg"] = intervals(*_assay_rows(read["assay"]))
    curves, panels = dose_figures(read["wells"], dose, readouts)
    if np.isfinite(read["treatments"]["distance"]).any():
        files["treatments.svg"] = ranking(read["treatments"])
    if len(read["curve"]):
        files["training.svg"] = learning_curve(read["curve"])
    page = {
        "facts": facts.screen_facts(read),
        "plates": plates,
        "main": readable(readouts[0]) if readouts else "",
        "assay": sections.assay_table(read["assay"]),
        "level": _level(read["assay"]),
        "pictures": _strips(read["pictures"]),
        "curves": panels,
        "dose_level": _level(dose),
        "dose": sections.dose_table(dose, answers(dose)),
        "undrawn": [readable(r) for r in readouts[len(panels) :]] if panels else [],
        "treatments": sections.treatment_table(read["treatments"], top_treatments),
        "rates": sections.rate_table(read["rates"]),
        "tests": [test for test in read["treatments"]["test"].unique() if test],
        "families": [family for family in read["treatments"]["family"].unique() if family],
        "predictions": sections.prediction_table(read["predictions"], top_treatments),
        "resemblance": sections.resemblance_table(read["resemblance"], top_treatments),
        "scores": sections.score_table(evaluation),
        "doubt": sections.doubt_table(evaluation),
        "evaluation": evaluation,
        "training": training_table(read["scores"]),
        "failures": read["plates"][read["plates"]["status"] != "ok"].to_dict("records"),
        "run": list(facts.flat(run)),
        "config_text": config_text,
        **_lost(ledger),
    }
    return {"index.html": render("screen.html", templates, {**page, "files": list(files)}), **files, **curves}


def _complete(frame: pd.DataFrame, name: str, readouts: list[str]) -> pd.DataFrame:
    """The table with every column the pages read: texts without gaps, numbers as float64."""
    texts, numbers = READS[name]
    if name == "wells":
        numbers = [*numbers, *(READOUT + readout for readout in readouts)]
    if name == "assay" and len(frame):
        frame = frame.sort_values("readout", key=lambda names: names.map(readouts.index), kind="stable")
    blank = pd.Series(index=frame.index, dtype=object)
    filled = {column: frame.get(column, blank).astype(object).map(text).astype(object) for column in texts}
    filled |= {column: pd.to_numeric(frame.get(column, blank)).astype(np.float64) for column in numbers}
    for flag in FLAGS if name == "treatments" else ():
        filled[flag] = frame.get(flag, blank).eq(True)
    return pd.DataFrame(filled, index=frame.index).reset_index(drop=True)


def _strips(pictures: pd.DataFrame) -> list[dict[str, Any]]:
    """Pictures of the first plates, plate by plate."""
    strips = [{"plate": plate, "shots": rows.to_dict("records")} for plate, rows in pictures.groupby("Metadata_Plate")]
    return strips[:_MOST_STRIPS]


def _level(estimates: pd.DataFrame) -> str:
    """``95 % `` where the table says how sure its intervals are; else nothing."""
    levels = estimates["confidence"].dropna().unique()
    return f"{100 * levels[0]:g} % " if len(levels) == 1 else ""


def _assay_rows(assay: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows and labels of the figure: plate by plate within a readout, the plate named where there are several."""
    order = {readout: i for i, readout in enumerate(assay["readout"].unique())}
    rows = assay.sort_values("readout", key=lambda names: names.map(order), kind="stable")
    several = rows["Metadata_Plate"].nunique() > 1
    parts = zip(rows["Metadata_Plate"], rows["readout"], rows["positive"], strict=True)
    return rows, [" · ".join([plate] * several + [readable(readout), positive]) for plate, readout, positive in parts]


def _lost(ledger: pd.DataFrame) -> dict[str, Any]:
    return {
        "counts": sections.count_table(ledger),
        "exclusions": sections.reason_table(ledger, ["exclusion", "failure"]),
        "warnings": sections.reason_table(ledger, ["warning"]),
    }


def render(name: str, templates: dict[str, str], page: dict[str, Any]) -> bytes:
    """A template filled in, every text escaped; a name that the page lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(page).encode()
