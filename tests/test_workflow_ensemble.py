"""An ensemble of segmenters through the workflow: what it says of each field, whom it excludes, and what reruns."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile
from campaign import SIDE, TOY_CONFIG, make_campaign, planned, run, snakemake, write_config, write_sheet
from changes import jobs_of, with_value

from plateline import segment
from plateline.segment.classical import adaptive, otsu

pytestmark = pytest.mark.slow

CONFIG = with_value(TOY_CONFIG, "segment.ensemble", ["adaptive"])
PAGE = "results/report/P1/index.html"
OTSU = {"smooth_px": 1.0, "min_area_px": 40, "min_distance_px": 5}
ADAPTIVE = OTSU | {"window_px": 51}


def draw_dim_nuclei(folder, well):
    """Redraw DNA of a well: half of its nuclei are too dim for one threshold, not for a local one."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.full((SIDE, SIDE), 20.0)
    for number, (a, b) in enumerate((a, b) for a in range(12, SIDE, 24) for b in range(12, SIDE, 24)):
        light[np.hypot(y - a, x - b) < 5] = 170 if number % 4 < 2 else 50
    image = rng.poisson(light).clip(0, 255).astype(np.uint8)
    for plane, divisor in ((0, 1), (1, 2)):
        tifffile.imwrite(folder / "images/P1" / f"{well}_z{plane}_c1.tif", image // divisor)
    return image


def read_parts(folder, name):
    paths = sorted((folder / "results/segment/P1").glob(f"part-?.{name}parquet"))
    frames = [pd.read_parquet(path) for path in paths if "ledger" not in path.name]
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A plate through an ensemble in one part, by one worker, to its page; the dim well's DNA."""
    folder = make_campaign(tmp_path_factory.mktemp("ensemble") / "campaign", {"P1": {}}, config=CONFIG)
    dim = draw_dim_nuclei(folder, "C03")
    run(folder, PAGE, "--cores", "1")
    return folder, dim


def test_each_field_has_the_disagreement_of_its_methods(done):
    folder, dim = done
    fields = read_parts(folder, "fields.").set_index("Metadata_Well")
    # The illumination of the toy is flat: a field is what was drawn, up to its scale.
    found = segment.compare_nuclei(
        dim[None].astype(np.float32), otsu(dim[None].astype(np.float32), **OTSU)["nuclei"], {"adaptive": bound}, where="C03"
    )
    assert found > 0.2
    assert fields.loc["C03", "disagreement"] == pytest.approx(found, abs=0.1)
    assert (fields["disagreement"].drop("C03") < 0.05).all()
    assert fields["disagreement"].between(0, 1).all()


def bound(image):
    return adaptive(image, **ADAPTIVE)


def test_it_stands_on_the_page_of_the_plate(done):
    folder, _ = done
    assert "disagreement.svg" in (folder / PAGE).read_text()
    assert (folder / PAGE).with_name("disagreement.svg").is_file()


def test_what_reruns_after_a_change_of_it(done):
    folder, _ = done
    of_part = {job for job in jobs_of(["segment_part"], plates=("P1",), parts=1)}
    of_profile = {job for job in jobs_of(["profile_plate"], plates=("P1",), parts=1)}
    try:
        for key, value, expected in (
            ("segment.adaptive.window_px", 31, of_part),
            ("segment.ensemble", [], of_part),
            ("segment.flow.steps", 9, set()),
            ("profile.max_disagreement", 0.5, of_profile),
        ):
            write_config(folder, with_value(CONFIG, key, value))
            assert planned(folder, PAGE) == {job for job in expected if not re.search("_screen|verdict", job)}, key
    finally:
        write_config(folder, CONFIG)


def test_parts_workers_and_the_ensemble_itself_change_no_number(done, tmp_path):
    folder, _ = done
    fields, objects = read_parts(folder, "fields."), read_parts(folder, "")
    write_sheet(folder, {"P1": {"parts": "3"}})
    run(folder, PAGE)
    pd.testing.assert_frame_equal(read_parts(folder, "fields."), fields)
    # By hand: a file to segment with makes a new key, and no other label.
    write_config(folder, TOY_CONFIG)
    run(folder, *(f"results/segment/P1/part-{part}.parquet" for part in (1, 2, 3)))
    alone = read_parts(folder, "fields.")
    assert alone["disagreement"].isna().all()
    keys = ["Metadata_Key", "disagreement"]
    pd.testing.assert_frame_equal(alone.drop(columns=keys), fields.drop(columns=keys))
    pd.testing.assert_frame_equal(read_parts(folder, "").drop(columns=keys[:1]), objects.drop(columns=keys[:1]))


def test_fields_are_excluded_by_it_and_counted(done):
    folder, _ = done
    write_config(folder, with_value(CONFIG, "profile.max_disagreement", 0.15))
    run(folder, PAGE, "results/ledger.parquet")
    ledger = pd.read_parquet(folder / "results/ledger.parquet")
    of_profile = ledger[ledger["rule"] == "profile_plate"]
    lost = of_profile[(of_profile["kind"] == "exclusion") & (of_profile["unit"] == "fields")]
    assert lost["Metadata_Well"].tolist() == ["C03"]
    assert lost["reason"].tolist() == ["segment: methods disagree, more than profile.max_disagreement = 0.15"]
    counts = of_profile[of_profile["kind"] == "count"].set_index("unit")
    assert counts.loc["fields", ["count_in", "count_out"]].tolist() == [9, 8]
    cells = of_profile[(of_profile["kind"] == "exclusion") & (of_profile["unit"] == "cells")]
    assert counts.loc["cells", "count_in"] - counts.loc["cells", "count_out"] == cells["count"].sum()
    assert "methods disagree" in (folder / PAGE).read_text()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("segment.ensemble", ["otsu"], r"segment\.ensemble: got 'otsu', which is segment\.method"),
        ("segment.ensemble", ["adaptiv"], r"segment: unknown method 'adaptiv'; known are flow"),
        ("profile.max_disagreement", 0.5, r"profile\.max_disagreement: got 0\.5, but nothing is compared"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_graph(done, key, value, message):
    folder, _ = done
    write_config(folder, with_value(TOY_CONFIG, key, value))
    refused = snakemake(folder, "--dry-run")
    write_config(folder, CONFIG)
    assert refused.returncode != 0
    assert re.search(message, refused.stdout)
