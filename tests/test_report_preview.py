"""The page of a preview: every picture it names, the words of its making, and no text taken for code."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image as pictures

from plateline.report import preview as report
from plateline.report.preview import preview_page

PAGES = Path(__file__).parents[1] / "workflow" / "report"
TEMPLATES = {path.name: path.read_text() for path in PAGES.glob("*.[hc]*")}
WORDS = {
    "plate": "P1",
    "method": "otsu",
    "origin": "the source folder images/P1",
    "flatfield": "none, as configured",
    "pixel_size_um": 0.65,
    "approve": True,
    "refused": {},
    "unread": {},
    "seconds": "4",
}


def shot(well, methods=("otsu", "other"), size=60):
    image = np.zeros((2, size, size), np.float32)
    labels = np.zeros((size, size), np.int32)
    labels[20:40, 20:40] = 1
    image[0, 20:40, 20:40] = 100.0  # of one channel: both together would be as white as an outline
    place = {"Metadata_Well": well, "Metadata_Site": 1, "why": "negative control; dimmest of 3 fields", "title": "DMSO"}
    return place | {"image": image, "labels": {name: {"nuclei": labels, "cells": labels} for name in methods}}


def row(well, method, nuclei=1, seconds=0.5):
    return {
        "well": well,
        "method": method,
        "seconds": seconds,
        "nuclei": nuclei,
        "cells": nuclei,
        "border": 0,
        "nucleus_px": 400.0,
        "cell_px": 400.0,
    }


def page(shots=None, found=None, size_px=400, **words):
    shots = [shot("A01"), shot("B02")] if shots is None else shots
    found = [row(s["Metadata_Well"], method) for method in ("otsu", "other") for s in shots] if found is None else found
    made = preview_page(
        shots,
        found,
        channels=["DNA", "ER"],
        size_px=size_px,
        words=WORDS | words,
        record={"approves": "abc"},
        templates=TEMPLATES,
    )
    return made["index.html"].decode(), made


def test_every_picture_stands_on_the_page_and_every_file_is_named_once():
    text, files = page()
    named = re.findall(r'<img src="([^"]+)"', text)
    assert sorted(named) == sorted(name for name in files if name.endswith(".png"))
    assert len(named) == 2 * 3
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)


def test_outlines_lie_just_inside_the_nucleus_and_only_where_there_are_labels(tmp_path):
    _, files = page(shots=[shot("A01", ["otsu"])], found=[row("A01", "otsu")])
    seen = {}
    for name, data in files.items():
        if name.endswith(".png"):
            (tmp_path / name).write_bytes(data)
            seen[name] = pictures.imread(tmp_path / name)[..., :3]
    bare, outlined = seen["field-1-a01-0-without-outlines.png"], seen["field-1-a01-1-otsu.png"]
    changed = (outlined == 1).all(axis=2)
    assert np.allclose(outlined[~changed], 0.7 * bare[~changed], atol=1 / 255)
    expected = np.zeros((120, 120), bool)
    expected[40:80, 40:80] = True
    expected[41:79, 41:79] = False
    assert (changed == expected).all()


def test_methods_are_summed_over_fields_and_the_configured_one_is_marked():
    found = [
        row("A01", "otsu", 3, 0.1),
        row("B02", "otsu", 4, 0.3),
        row("A01", "other", 5, 2.0),
        row("B02", "other", 6, 4.0),
    ]
    text, _ = page(found=found)
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", line) for line in re.findall(r"<tr>.*</tr>", text)]
    assert cells[1][:2] == ["otsu (configured)", "7"]
    assert cells[1][-1] == "0.200"
    assert cells[2][:2] == ["other", "11"]
    assert cells[2][-1] == "3.00"
    assert "</b>3 nuclei</div>" in text
    assert "</b>6 nuclei</div>" in text


def test_the_page_says_how_it_was_made():
    text, _ = page(unread={"C01 site 1 time 0": "truncated"}, flatfield="a quick estimate by basic from 12 fields")
    for said in (
        "the source folder images/P1",
        "a quick estimate by basic from 12 fields",
        "0.650 µm",
        "Field C01 site 1 time 0 could not be read: truncated",
        "negative control, dimmest of 3 fields; site 1",
        "plateline preview P1 --approve",
    ):
        assert said in text
    assert "not known" in page(pixel_size_um=float("nan"))[0]


def test_a_method_that_did_not_run_has_its_reason_and_the_configured_one_an_alarm():
    text, _ = page(refused={"cellpose": "pip install cellpose"})
    assert "<b>cellpose</b> did not run: pip install cellpose" in text
    assert 'class="alarm"' not in text
    text, _ = page(refused={"otsu": "no such option"})
    assert "The configured method otsu did not run.</b> no such option" in text


def test_many_methods_stand_in_lines_of_four():
    methods = [f"m{n}" for n in range(6)]
    text, _ = page(shots=[shot("A01", methods)], found=[row("A01", name) for name in methods])
    assert text.count("repeat(4, minmax(0, 1fr))") == 2


def test_two_methods_of_like_name_have_pictures_of_their_own():
    names = ["lab.a:b", "lab.a/b"]
    _, files = page(shots=[shot("A01", names)], found=[row("A01", name) for name in names])
    assert len([name for name in files if name.endswith(".png")]) == 3


@pytest.mark.parametrize("place", ["title", "why", "Metadata_Well"])
def test_text_from_plate_maps_is_escaped(place):
    bad = shot("A01") | {place: "<script>alert(1)</script>"}
    text, _ = page(shots=[bad], found=[row(bad["Metadata_Well"], "otsu")])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def naive_fullest(found, side):
    """Corner of the fullest square, half a side apart, by counting every pixel."""
    best, corner = -1, None
    for y in sorted({*range(0, found.shape[0] - side, side // 2), found.shape[0] - side}):
        for x in sorted({*range(0, found.shape[1] - side, side // 2), found.shape[1] - side}):
            n = sum(int(found[i, j]) for i in range(y, y + side) for j in range(x, x + side))
            if n > best:
                best, corner = n, (y, x)
    return corner


@pytest.mark.parametrize("seed", range(4))
def test_the_square_shown_is_the_fullest(seed):
    rng = np.random.default_rng(seed)
    labels = {name: {"nuclei": rng.integers(-8, 3, (37, 50)).clip(0).astype(np.int32)} for name in ("one", "two")}
    square = report._fullest({"image": np.zeros((1, 37, 50)), "labels": labels}, 12)
    found = sum((of["nuclei"] > 0).astype(int) for of in labels.values())
    assert (square[0].start, square[1].start) == naive_fullest(found, 12)
    assert [side.stop - side.start for side in square] == [12, 12]


def test_without_nuclei_the_middle_is_shown_and_a_small_field_whole():
    nothing = {"one": {"nuclei": np.zeros((30, 41), np.int32)}}
    assert report._fullest({"image": np.zeros((1, 30, 41)), "labels": nothing}, 10) == (slice(10, 20), slice(15, 25))
    assert report._fullest({"image": np.zeros((1, 30, 41)), "labels": nothing}, 100) == (slice(0, 30), slice(0, 41))
    full = {"one": {"nuclei": np.ones((30, 41), np.int32)}}
    assert report._fullest({"image": np.zeros((1, 30, 41)), "labels": full}, 100) == (slice(0, 30), slice(0, 41))


def test_the_side_is_said_and_the_record_is_kept():
    _, files = page(size_px=20)
    assert json.loads(files["preview.json"]) == {"approves": "abc"}
    assert "at most 20 pixels" in files["index.html"].decode()
