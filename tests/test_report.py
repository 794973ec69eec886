"""The pages: what stands on them, that they never break, and that nothing from a plate map becomes markup."""

import io
import itertools
import json
import re
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image as mpl_image

from plateline.errors import LabelError
from plateline.hits import dose_response, four_parameter
from plateline.identity import SHAPES, well_name
from plateline.report import plate_page, screen_page
from plateline.report.canvas import file_stem, plain
from plateline.report.curves import answer
from plateline.report.facts import flat
from plateline.report.figures import order_curves
from plateline.report.gallery import channel_colours, contrast, cut_centre, outline
from plateline.report.heatmaps import colour_limits, grid_of, thumbnail
from plateline.report.sections import count_table, places_of, reason_table
from plateline.report.tables import count, interval, listed, number, share
from plateline.report.training import learning_curve, training_table

ROOT = Path(__file__).parents[1]
TEMPLATES = {path.name: path.read_text() for path in (ROOT / "workflow" / "report").iterdir()}
READOUTS = ["log2_ratio", "percent_on"]
HOSTILE = "<script>alert('x')</script> \"&$ \x00\x1b[31m $\\frac{1}$ {{ 7*7 }} 化合物"


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def make_wells(shape=96, *, plate="P1", compounds=("alpha", "beta"), readouts=READOUTS, n_plates=1):
    """Wells with the first column negative, the last positive, doses rising along the columns, a known sigmoid."""
    rows, columns = SHAPES[shape]
    rng = np.random.default_rng(0)
    table = []
    for p, r, c in itertools.product(range(n_plates), range(rows), range(columns)):
        kind = "negative" if c == 0 else "positive" if c == columns - 1 else "sample"
        dose = 2.0 ** (c - 1) if kind == "sample" else np.nan
        compound = {"negative": "DMSO", "positive": "killer"}.get(kind, compounds[r * len(compounds) // rows])
        response = {"negative": 0.0, "positive": 1.0}.get(kind)
        response = four_parameter(np.log10(dose) - 9, 0, 1, 7.8, 2) if response is None else response
        values = {f"Metadata_Readout_{name}": float(response + rng.normal(0, 0.03)) for name in readouts}
        table.append(
            {
                "Metadata_Plate": plate if n_plates == 1 else f"{plate}-{p + 1}",
                "Metadata_Well": well_name(r, c),
                "Metadata_Status": "ok",
                "Metadata_Reason": "",
                "Metadata_Compound": compound,
                "Metadata_Concentration": dose,
                "Metadata_ConcentrationUnit": "nM" if kind == "sample" else None,
                "Metadata_log10_molar": np.log10(dose) - 9,
                "Metadata_Treatment": f"{compound}@{dose:g} nM" if kind == "sample" else compound,
                "Metadata_ControlType": kind,
                "Metadata_Object_Count": 100 + r,
                "Metadata_Site_Count": 1,
                "Metadata_Sites_Expected": 1,
                **values,
            }
        )
    return pd.DataFrame(table)


def make_assay(readouts=READOUTS, plates=("P1",)):
    rows = [
        {"Metadata_Plate": plate, "readout": readout, "positive": "all positive", "n_negative": 8, "n_positive": 8}
        | {"zprime": 0.8 - i, "zprime_low": 0.7 - i, "zprime_high": 0.9 - i, "cv_negative": np.nan, "confidence": 0.95}
        | {"robust_zprime": 0.81, "robust_zprime_low": 0.6, "robust_zprime_high": 0.95, "ssmd": 12.0}
        | {"ssmd_low": 9.0, "ssmd_high": 20.0, "reason": ""}
        for i, readout in enumerate(readouts)
        for plate in plates
    ]
    return pd.DataFrame(rows)


def make_positions(readouts=READOUTS):
    row = {"Metadata_Plate": "P1", "effect": "edge", "treatment": "negative DMSO", "n_wells": 16, "effect_size": -0.62}
    row |= {"difference": -0.1, "low": -0.2, "high": -0.05, "p": 0.01, "p_floor": 0.0005, "q": 0.04, "reason": ""}
    refused = {"effect": "B-score", "reason": "not estimable: treatment is aligned with column"}
    return pd.DataFrame([made | {"readout": readout} for readout in readouts for made in (row, refused)])


def make_ledger(plate="P1"):
    shared = {"Metadata_Plate": plate, "Metadata_Site": -1, "Metadata_Timepoint": -1}
    counts = [("segment", 0, 48, 47), ("segment", 1, 48, 48), ("ingest", 0, 96, 96)]
    rows = [
        {
            "stage": s,
            "rule": f"{s}_part",
            "part": part,
            "kind": "count",
            "unit": "fields",
            "count_in": i,
            "count_out": o,
        }
        for s, part, i, o in counts
    ]
    rows += [
        {
            "stage": "ingest",
            "rule": "ingest_part",
            "kind": "exclusion",
            "unit": "fields",
            "Metadata_Well": "C07",
            "count": 1,
        }
        | {"reason": "truncated <TIFF>"},
        {"stage": "qc", "rule": "qc_plate", "kind": "warning", "unit": "fields", "Metadata_Well": "A01", "count": 1}
        | {"reason": "blurred"},
    ]
    filled = {"Metadata_Well": "", "reason": "", "part": 0, "count": 0, "count_in": 0, "count_out": 0}
    return pd.DataFrame([shared | filled | row for row in rows])


def make_fields():
    flags = itertools.cycle(["", "", "blurred", "blurred|saturated"])
    rows = [
        {"Metadata_Channel": c, "flags": next(flags), "focus_slope": -2.5} for c in ("DNA", "GFP") for _ in range(8)
    ]
    return pd.DataFrame(rows)


def make_gallery(n_channels=2, n_wells=3, size=64):
    rng = np.random.default_rng(1)
    labels = np.zeros((size, size), np.int32)
    labels[20:40, 20:40] = 1
    return [
        {"well": f"A{i + 1:02d}", "title": f"dose {i}", "image": rng.random((n_channels, size, size), np.float32)}
        | {"nuclei": labels, "cells": labels}
        for i in range(n_wells)
    ]


def plate_of(
    wells,
    *,
    gallery=(),
    channels=("DNA", "GFP"),
    readouts=READOUTS,
    assay=None,
    ledger=None,
    plate="P1",
    segmented=None,
):
    tables = {
        "wells": wells,
        "assay": make_assay() if assay is None else assay,
        "positions": make_positions() if assay is None else pd.DataFrame(),
        "fields": make_fields(),
        "segmented": pd.DataFrame() if segmented is None else segmented,
        "ledger": make_ledger() if ledger is None else ledger,
    }
    return plate_page(
        tables,
        plate=plate,
        readouts=list(readouts),
        channels=list(channels),
        gallery=list(gallery),
        gallery_px=48,
        templates=TEMPLATES,
    )


def screen_of(wells, *, readouts=READOUTS, evaluation=None, run=None, config="a: 1", top=20, **tables):
    plates = wells["Metadata_Plate"].unique() if len(wells) else ["P1"]
    names = ("treatments", "rates", "predictions", "resemblance", "dose", "pictures", "curve", "scores")
    empty = {name: pd.DataFrame() for name in names}
    made = {
        "plates": pd.DataFrame({"Metadata_Plate": plates, "Metadata_Batch": "1", "status": "ok", "reason": ""}),
        "wells": wells,
        "assay": make_assay(plates=plates),
        "ledger": make_ledger(),
    }
    return screen_page(
        empty | made | tables,
        readouts=list(readouts),
        evaluation=evaluation or {},
        run=run or {},
        config_text=config,
        top_treatments=top,
        templates=TEMPLATES,
    )


class Reader(HTMLParser):
    """Tags that were opened, what they point to, and the text between them."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.words = [], [], []

    def handle_starttag(self, tag, attrs):  # noqa: D102
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):  # noqa: D102
        self.words.append(data)


def read(page):
    reader = Reader()
    reader.feed(page["index.html"].decode())
    return reader, " ".join(" ".join(reader.words).split())


def check_whole(page):
    """Every picture exists, is well-formed, and nothing is fetched from elsewhere."""
    reader, _ = read(page)
    files = {link for link in reader.links if not link.startswith("#") and not link.endswith("index.html")}
    assert files == set(page) - {"index.html", "pictures.json"}
    assert not re.search(r"https?:|//|javascript:", " ".join(reader.links))
    for name, data in page.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(data)
        if name.endswith(".png"):
            assert mpl_image.imread(io.BytesIO(data)).ndim == 3
    assert "script" not in reader.tags


def test_plate_page_says_what_it_knows():
    page = plate_of(make_wells(), gallery=make_gallery())
    check_whole(page)
    _, text = read(page)
    for piece in (
        "P1",
        "96 wells measured",
        "0.700 to 0.900",
        "all positive",
        "95 % bootstrap",
        "truncated <TIFF>",
        "C07",
        "negative DMSO",
        "−0.200 to −0.0500",
        "B-score: not estimable: treatment is aligned with column",
    ):
        assert piece in text
    assert {"layout.svg", "controls.svg", "assay.svg", "heatmap-1-log2-ratio.svg", "cells-1-a01-dna.png"} <= set(page)


# --- training of the segmenter


def make_scores(when, tp, n_images=3):
    """Counts of held-out images with ten nuclei each, the same at every overlap but for one lost a step."""
    rows = [
        {"when": when, "image": f"i{image}", "threshold": threshold, "tp": tp - step, "fp": 1, "fn": 10 - tp + step}
        for image in range(n_images)
        for step, threshold in enumerate((0.5, 0.7, 0.9))
    ]
    return pd.DataFrame(rows)


CURVE = pd.DataFrame({"step": [100, 200, 300], "loss": [0.9, 0.5, 0.3], "held_out": [0.8, 0.6, 0.7]})


def test_the_page_of_a_screen_shows_what_its_training_was_worth():
    scores = pd.concat([make_scores("before", 5), make_scores("after", 8)])
    pages = screen_of(make_wells(), curve=CURVE, scores=scores)
    html = pages["index.html"].decode()
    assert "Training of the segmenter" in html
    assert "training.svg" in pages
    assert "began" not in html
    table = training_table(scores)
    before, after = (dict(zip([name for name, _ in table.head], row, strict=True)) for row in table.rows)
    assert (before["network"], after["network"]) == ("before", "after")
    assert (after["AP at 0.5"], after["held-out images"]) == (number(8 / 11), "3")
    assert after["mean AP, 0.5 to 0.9"] == number((8 + 7 + 6) / 33)
    assert [after[name] for name in ("found", "invented", "missed")] == ["24", "3", "6"]


def test_a_training_from_nothing_has_no_score_before():
    html = screen_of(make_wells(), curve=CURVE, scores=make_scores("after", 8))["index.html"].decode()
    assert "so there is no score before it" in " ".join(html.split())


def test_a_screen_without_training_says_nothing_of_it():
    pages = screen_of(make_wells())
    assert "training.svg" not in pages
    assert "Training of the segmenter" not in pages["index.html"].decode()
    assert training_table(pd.DataFrame(columns=["when", "image", "threshold", "tp", "fp", "fn"])).rows == []


def test_a_curve_without_held_out_losses_is_drawn():
    assert b"<svg" in learning_curve(CURVE.assign(held_out=np.nan))


def test_screen_page_says_what_it_knows():
    wells = make_wells()
    dose = dose_response(wells, READOUTS, confidence=0.95)
    treatments = pd.DataFrame(
        {"Metadata_Treatment": ["alpha@1 nM", "killer"], "Metadata_ControlType": ["sample", "positive"], "n_wells": 4}
        | {
            "n_plates": 1,
            "distance": [3.0, 9.0],
            "p": 0.01,
            "p_floor": 0.001,
            "q": [0.02, np.nan],
            "hit": [True, False],
        }
        | {"family": "all samples", "reason": ["", "no q"]}
    )
    predictions = pd.DataFrame({"Metadata_Treatment": ["alpha@1 nM"], "mechanism": "PI3K inhibitor", "confidence": 0.9})
    predictions["call"] = "unknown"
    resemblance = pd.DataFrame({"Metadata_Treatment": ["alpha@1 nM"], "nearest": "beta@3 nM", "cluster": 7, "map_x": 2})
    evaluation = {"status": "ok", "reason": "", "n": 16, "n_groups": 8, "hold_out": "row", "classes": {"negative": 8}}
    evaluation |= {"accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 1.0, "interval": "groups resampled"}
    evaluation |= {
        "balanced_accuracy": 0.9,
        "log_loss": 0.2,
        "coverage": 0.9,
        "correction": "Harmony: transductive",
        "brier": 0.123,
        "brier_constant": 0.456,
        "novelty_auroc": 0.789,
        "baselines": {"cell_count": {"accuracy": 0.5}},
    }
    page = screen_of(
        wells,
        dose=dose,
        treatments=treatments,
        predictions=predictions,
        resemblance=resemblance,
        evaluation=evaluation,
        run={"versions": {"plateline": "0.1.0"}},
        config="segment:\n  method: otsu",
    )
    check_whole(page)
    _, text = read(page)
    for piece in (
        "alpha",
        "nM (",
        "complete",
        "1 hit of 1 treatments tested",
        "PI3K inhibitor",
        "cell count",
        "0.800 to 1.00",
        "unknown",
        "beta@3 nM",
        "0.123",
        "0.456 with one confidence for all answers",
        "0.789",
        "Profiles were corrected by Harmony: transductive",
    ):
        assert piece in text
    for piece in ("versions.plateline 0.1.0", "method: otsu", "killer: no q", "P1", "96 fields"[:2]):
        assert piece in text
    assert "P1/index.html" in read(page)[0].links


@pytest.mark.parametrize("shape", [6, 24, 384, 1536])
def test_every_plate_shape_is_drawn(shape):
    wells = make_wells(shape, compounds=tuple(f"c{i}" for i in range(min(SHAPES[shape][0], 20))))
    check_whole(plate_of(wells))


@pytest.mark.parametrize("n_channels", [1, 2, 4, 6])
def test_every_number_of_channels_is_shown(n_channels):
    channels = [f"ch {i}/../" for i in range(n_channels)]
    page = plate_of(make_wells(24), gallery=make_gallery(n_channels, 4), channels=channels)
    check_whole(page)
    assert sum(name.startswith("cells-") for name in page) == 4 * (n_channels + 1)
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in page)


def test_empty_tables_give_pages_that_say_so():
    empty = pd.DataFrame()
    none = {"assay": empty, "ledger": empty}
    page = plate_of(empty, **none)
    check_whole(page)
    assert "No well of this plate was measured" in read(page)[1]
    page = screen_of(empty, plates=empty, **none)
    check_whole(page)
    text = read(page)[1]
    for piece in ("No plate was run", "Not estimable", "No compound was tested", "No treatment could be compared"):
        assert piece in text


def test_failed_plate_says_why():
    failure = {"kind": "failure", "stage": "profile", "rule": "profile_plate", "unit": "plates", "count": 1}
    ledger = pd.DataFrame([failure | {"Metadata_Plate": "P2", "reason": "61 of 96 fields are bad; at most 0.5"}])
    text = read(plate_of(pd.DataFrame(), ledger=ledger, plate="P2"))[1]
    assert "given up. 61 of 96 fields are bad" in text
    plates = pd.DataFrame(
        {"Metadata_Plate": ["P1", "P2"], "status": ["ok", "failed"], "reason": ["", "61 of 96 fields"]}
    )
    page = screen_of(make_wells(), plates=plates, ledger=ledger)
    check_whole(page)
    assert "Plate P2 was given up. 61 of 96 fields" in read(page)[1]
    assert "1 plate of 2" in read(page)[1]


def test_no_controls_and_no_doses():
    wells = make_wells().assign(
        Metadata_ControlType="sample", Metadata_Concentration=np.nan, Metadata_log10_molar=np.nan
    )
    check_whole(plate_of(wells, assay=pd.DataFrame()))
    dose = dose_response(wells, READOUTS, confidence=0.95)
    page = screen_of(wells, dose=dose, assay=pd.DataFrame())
    check_whole(page)
    assert "not estimable" in read(page)[1]


def test_missing_and_failed_wells():
    wells = make_wells().iloc[5:].copy()
    wells.loc[wells.index[:3], ["Metadata_Status", "Metadata_Reason"]] = ["few cells", "3 cells; at least 20"]
    wells.loc[wells.index[:3], "Metadata_Readout_log2_ratio"] = np.nan
    page = plate_of(wells)
    check_whole(page)
    assert b"no well, 5" in page["heatmap-1-log2-ratio.svg"]
    assert b"not ok, 3" in page["heatmap-1-log2-ratio.svg"]
    assert "3 cells; at least 20" in read(page)[1]


def test_all_values_missing_or_equal():
    wells = make_wells(24)
    check_whole(plate_of(wells.assign(Metadata_Readout_log2_ratio=np.nan, Metadata_Readout_percent_on=1.0)))


def test_hostile_text_stays_text():
    wells = make_wells(compounds=(HOSTILE, "beta")).assign(Metadata_Plate=HOSTILE)
    ledger = make_ledger().assign(reason=HOSTILE)
    gallery = [shot | {"title": HOSTILE, "well": "A01"} for shot in make_gallery()]
    plate = plate_of(wells, gallery=gallery, channels=[HOSTILE, HOSTILE + "2"], ledger=ledger, plate=HOSTILE)
    dose = dose_response(wells, READOUTS, confidence=0.95)
    screen = screen_of(wells, dose=dose, ledger=ledger, config=HOSTILE, run={HOSTILE: HOSTILE})
    for page in (plate, screen):
        check_whole(page)
        assert "49" not in read(page)[1].split()
    assert "alert" in read(screen)[1]


def test_twenty_readouts():
    readouts = [f"readout_{i}" for i in range(20)]
    wells = make_wells(24, readouts=readouts)
    start = time.process_time()
    page = plate_of(wells, readouts=readouts, assay=make_assay(readouts))
    assert time.process_time() - start < 15
    check_whole(page)
    assert sum(name.startswith("heatmap-") for name in page) == 21


def test_many_compounds_are_capped_with_a_sentence():
    compounds = tuple(f"compound {i}" for i in range(16))
    wells = pd.concat([make_wells(384, compounds=compounds), make_wells(384, plate="P2", compounds=("alpha", "beta"))])
    fit = {
        "readout": "log2_ratio",
        "unit": "nM",
        "qualifier": "=",
        "EC50": 16.0,
        "low": 14.0,
        "high": 18.0,
        "pEC50": 7.8,
    }
    fit |= {"bottom": 0.0, "top": 1.0, "hill": 2.0, "fitted_pEC50": 7.8, "curve_class": "complete", "n_wells": 22}
    dose = pd.DataFrame([fit | {"Metadata_Compound": f"compound {i}"} for i in range(70)])
    page = screen_of(wells, dose=dose)
    check_whole(page)
    assert "24 of 70 curves are shown" in read(page)[1]
    assert "60 of 70 rows shown; all stand in results/hits/dose_response.parquet" in read(page)[1]


def test_many_plates():
    wells = make_wells(24, n_plates=30)
    page = screen_of(wells)
    check_whole(page)
    assert sum(name.startswith("plate-") for name in page) == 30


def test_same_input_same_bytes():
    wells, gallery = make_wells(24), make_gallery()
    assert plate_of(wells, gallery=gallery) == plate_of(wells, gallery=gallery)


def test_picture_that_does_not_fit_is_refused():
    shot = make_gallery(2, 1)[0]
    with pytest.raises(LabelError, match="well A01 has shape"):
        plate_of(make_wells(24), gallery=[shot], channels=["DNA"])
    with pytest.raises(LabelError, match="nuclei of well A01 have shape"):
        plate_of(make_wells(24), gallery=[shot | {"nuclei": np.zeros((3, 3), np.int32)}])


def test_answer_in_words():
    fit = {"curve_class": "complete", "unit": "uM", "EC50": 3.7, "low": 3.0, "high": 4.5, "qualifier": "="}
    assert answer(fit) == "3.70 µM (3.00 to 4.50)"
    assert answer(fit | {"low": 0.0}) == "3.70 µM (open to 4.50)"
    assert answer(fit | {"qualifier": ">", "curve_class": "partial", "EC50": 80.0}) == "> 80.0 µM"
    assert answer(fit | {"qualifier": ">", "curve_class": "inactive", "EC50": 80.0}) == "inactive, > 80.0 µM"
    assert answer(fit | {"EC50": np.nan, "curve_class": "not estimable"}) == "not estimable"
    assert answer(fit | {"EC50": np.nan, "curve_class": "partial"}) == "no bound on either side"


def test_curves_are_ordered_by_class_then_potency():
    dose = pd.DataFrame(
        {"Metadata_Compound": list("abcd"), "readout": ["y", "x", "x", "x"], "pEC50": [9, 6, 8, 9.5]}
        | {"curve_class": ["complete", "complete", "complete", "inactive"]}
    )
    assert order_curves(dose, ["x", "y"])["Metadata_Compound"].tolist() == ["c", "b", "d", "a"]


def test_grid_matches_a_loop():
    rng = np.random.default_rng(3)
    wells = [well_name(r, c) for r, c in itertools.product(range(32), range(48)) if rng.random() < 0.5]
    values = rng.random(len(wells))
    grid = grid_of(wells, values, 1536)
    for r, c in itertools.product(range(32), range(48)):
        place = well_name(r, c)
        assert np.array_equal(grid[r, c], values[wells.index(place)] if place in wells else np.nan, equal_nan=True)


def test_colour_limits():
    assert colour_limits([]) == (0.0, 1.0)
    assert colour_limits([np.nan, np.inf]) == (0.0, 1.0)
    assert colour_limits([2.0, 2.0]) == (1.5, 2.5)
    assert colour_limits(np.arange(101)) == (1.0, 99.0)


def test_thumbnail_is_grey_where_nothing_is():
    wells = make_wells().iloc[1:]
    picture = thumbnail(wells, "Metadata_Readout_log2_ratio", limits=(0, 1))
    assert picture.shape == (192, 288, 3)
    assert np.array_equal(picture[12, 12], [237, 237, 237])
    assert not np.array_equal(picture[12, 36], [237, 237, 237])


@given(st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf]))
def test_numbers_can_be_read_back(value):
    text = number(value).replace("−", "-").replace(",", "")
    if np.isnan(value):
        assert text == "–"
    elif np.isinf(value):
        assert text == ("∞" if value > 0 else "-∞")
    else:
        assert float(text) == pytest.approx(value, rel=5.1e-3)


def test_words_for_numbers():
    assert (number(0.0), number(1234.5), number(0.0123), number(None)) == ("0", "1,234", "0.0123", "–")
    assert (count(17963), count(np.nan), share(0.00055), share(0.5)) == ("17,963", "–", "0.00055", "0.50")
    assert (interval(0.1, 0.2), interval(np.nan, 1), interval(-np.inf, 1)) == ("0.100 to 0.200", "", "−∞ to 1.00")
    assert listed(pd.Series(["c", "a", "b", ""]), most=2) == "a, b and 1 more"
    assert list(flat({"a": {"b": 1, "c": [1, 2]}, "d": None})) == [("a.b", "1"), ("a.c", "1, 2"), ("d", "")]


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_any_text_can_stand_in_a_figure(text):
    shown = plain(text)
    assert len(shown) <= 40
    assert not re.search(r"[\x00-\x1f\x7f]", shown)
    assert re.fullmatch(r"[a-z0-9-]*", file_stem(text))


def test_ledger_counts_add_up_over_parts():
    rows = count_table(make_ledger()).rows
    assert rows == [
        ["ingest", "ingest_part", "fields", "96", "96", "0"],
        ["segment", "segment_part", "fields", "96", "95", "1"],
    ]


def test_reasons_are_grouped_and_capped():
    ledger = pd.concat([make_ledger(), make_ledger("P2")], ignore_index=True)
    rows = reason_table(places_of(ledger), ["exclusion"]).rows
    assert rows == [["ingest", "exclusion", "truncated <TIFF>", "2", "fields", "P1 C07, P2 C07"]]
    many = pd.concat([make_ledger().assign(reason=str(i)) for i in range(50)], ignore_index=True)
    table = reason_table(places_of(many), ["warning"])
    assert len(table.rows) == 40
    assert table.rest == "40 of 50 rows shown; all stand in results/ledger.parquet."


def test_one_contrast_for_all_pictures():
    dim, bright = np.zeros((1, 8, 8), np.float32), np.ones((1, 9, 9), np.float32)
    assert np.allclose(contrast([dim, bright]), [[0, 1]])
    assert contrast([np.full((1, 4, 4), np.nan)]).tolist() == [[0, 1]]
    assert (np.diff(contrast([dim])) > 0).all()


def test_outlines_follow_the_labels():
    labels = np.zeros((10, 10), np.int32)
    labels[3:7, 3:7] = 5
    drawn = outline(np.zeros((10, 10, 3)), labels, np.zeros_like(labels))
    expected = np.zeros((20, 20), bool)
    expected[6:14, 6:14] = True
    expected[7:13, 7:13] = False
    assert np.array_equal(drawn.any(axis=2), expected)


def test_cut_is_from_the_middle():
    picture = np.arange(100).reshape(1, 10, 10)
    assert np.array_equal(cut_centre(picture, 4), picture[:, 3:7, 3:7])
    assert np.array_equal(cut_centre(picture, 40), picture)


def test_channel_colours_differ():
    assert channel_colours(["any"]) == ["#ffffff"]
    assert channel_colours(["FKHR", "DNA"])[1] == channel_colours(["Hoechst", "GFP"])[0]
    assert len(set(channel_colours(["DNA", "ER", "RNA", "AGP", "Mito"]))) == 5


def test_pictures_of_a_plate_stand_on_the_page_of_the_screen():
    files = plate_of(make_wells(24), gallery=make_gallery(), plate="P 1")
    listed = json.loads(files["pictures.json"])
    assert all(shot["file"] in files and "outlines" in shot["file"] for shot in listed)
    page = screen_of(make_wells(24), pictures=pd.DataFrame(listed))["index.html"].decode()
    assert all(f'src="P%201/{shot["file"]}"' in page for shot in listed)


# --- an ensemble of segmenters


def test_where_an_ensemble_disagrees_stands_on_the_page_of_its_plate():
    wells = make_wells(24)
    names = wells["Metadata_Well"].repeat(2).reset_index(drop=True)
    segmented = pd.DataFrame({"Metadata_Well": names, "disagreement": 0.125})
    segmented.loc[7, "disagreement"], segmented.loc[11, "disagreement"] = np.nan, 0.875
    page = plate_of(wells, segmented=segmented)
    check_whole(page)
    _, text = read(page)
    assert "disagreement.svg" in page
    assert "Of 47 fields the median is 0.125" in text
    assert f"the most has 0.875 (well {names[11]})" in text
    assert "0.50" in page["disagreement.svg"].decode()  # mean of the two fields of that well


@pytest.mark.parametrize("segmented", [None, pd.DataFrame({"Metadata_Well": ["A01"], "disagreement": [np.nan]})])
def test_a_page_says_nothing_of_an_ensemble_that_was_not_asked_for(segmented):
    page = plate_of(make_wells(24), segmented=segmented)
    assert "disagree" not in read(page)[1]
    assert "disagreement.svg" not in page


# --- plates without images


def test_a_plate_without_images_has_a_page_without_pictures():
    wells = make_wells()
    for column in ("Metadata_Object_Count", "Metadata_Site_Count", "Metadata_Sites_Expected"):
        wells[column] = np.nan
    pages = plate_page(
        {
            "wells": wells,
            "assay": make_assay(),
            "positions": make_positions(),
            "fields": pd.DataFrame(),
            "segmented": pd.DataFrame(),
            "ledger": make_ledger(),
        },
        plate="P1",
        readouts=list(READOUTS),
        channels=[],
        gallery=[],
        gallery_px=48,
        templates=TEMPLATES,
    )
    page = pages["index.html"].decode()
    assert "There are no pictures of this plate" in page
    assert "No field was measured" in page
    assert not any("cells-in-the-well" in name for name in pages)
    assert json.loads(pages["pictures.json"]) == []


def test_flags_tests_and_false_positives_stand_on_the_page_of_the_screen():
    treatments = pd.DataFrame(
        {
            "Metadata_Treatment": ["bad@1 uM", "good@1 uM"],
            "Metadata_ControlType": "sample",
            "distance": [5.0, 4.0],
            "p": [0.01, 0.02],
            "q": [0.01, 0.02],
            "hit": True,
            "test": "control wells, cross-fitted by plate",
            "family": "sample treatments against negative controls, 2 tests",
            "map_controls": [0.987, 0.5],
            "cytotoxic": [True, False],
            "autofluorescent": [False, True],
            "toxic_from": [1.0, np.nan],
            "active_below_toxic": [True, True],
        }
    )
    rates = pd.DataFrame(
        {
            "held_out": ["plate", "batch"],
            "n_blocks": [12, 2],
            "n_wells": 72,
            "rate": [0.04, 0.31],
            "low": [0.01, 0.2],
            "high": [0.08, 0.4],
            "reason": ["", "calls do not transfer across batches"],
        }
    )
    page = screen_of(make_wells(), treatments=treatments, rates=rates)["index.html"].decode()
    assert "cytotoxic, active below its toxic dose" in page
    assert "autofluorescent" in page
    assert "control wells, cross-fitted by plate" in page
    assert "calls do not transfer across batches" in page
    assert "0.31" in page
    assert "0.987" in page
