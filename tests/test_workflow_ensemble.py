"""An ensemble of segmenters through the workflow: what it says of each field, what it excludes, and what reruns."""

import re

import numpy as np
import pandas as pd
import pytest
import tifffile
from campaign import SIDE, TOY_CONFIG, make_campaign, planned, run, write_config, write_sheet
from changes import jobs_of, with_value

from plateline import ledger

pytestmark = pytest.mark.slow

ALONE = with_value(TOY_CONFIG, "measure.families", ["Intensity"])
CONFIG = with_value(ALONE, "segment.ensemble", ["adaptive"])
PAGE = "results/report/P1/index.html"


def dim_half(folder, well):
    """Redraw the nuclei of a well: the lower half is too dim for one threshold, not for a local one."""
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.full((SIDE, SIDE), 20.0)
    for a, b in ((a, b) for a in range(12, SIDE, 24) for b in range(12, SIDE, 24)):
        light[np.hypot(y - a, x - b) < 5] = 170 if a < SIDE / 2 else 65
    image = np.random.default_rng(5).poisson(light).clip(0, 255).astype(np.uint8)
    for plane, divisor in ((0, 1), (1, 2)):
        tifffile.imwrite(folder / "images/P1" / f"{well}_z{plane}_c1.tif", image // divisor)


def segmented(folder, name):
    """Tables of all parts of the plate as one, without keys, which the ensemble is part of."""
    paths = sorted((folder / "results/segment/P1").glob(f"part-?{name}.parquet"))
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True).drop(columns="Metadata_Key")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A plate with one odd well, segmented by one method beside another, up to its page."""
    folder = make_campaign(tmp_path_factory.mktemp("ensemble") / "campaign", {"P1": {}}, config=CONFIG)
    dim_half(folder, "C03")
    run(folder, PAGE)
    return folder


def test_each_field_has_the_disagreement_of_its_methods(done):
    fields = segmented(done, ".fields").set_index("Metadata_Well")
    # One method finds 8 nuclei, the other these and 8 more: 8 of 24 without a partner.
    assert fields["n_nuclei"].to_dict() == {well: 16 if well != "C03" else 8 for well in fields.index}
    assert fields.loc["C03", "disagreement"] == pytest.approx(1 / 3)
    assert (fields["disagreement"].drop("C03") == 0).all()
    assert "disagreement.svg" in (done / PAGE).read_text()
    assert "(well C03)" in (done / PAGE).read_text()


def test_what_reruns_after_a_change_of_it(done):
    of_part, of_profile = (jobs_of([rule], plates=("P1",), parts=1) for rule in ("segment_part", "profile_plate"))
    changes = [
        ("segment.adaptive.window_px", 31, of_part),
        ("segment.ensemble", [], of_part),
        ("segment.flow.steps", 9, set()),
        ("profile.max_disagreement", 0.5, of_profile),
    ]
    for key, value, expected in changes:
        write_config(done, with_value(CONFIG, key, value))
        assert planned(done, PAGE) == {job for job in expected if not re.search("_screen", job)}, key
    write_config(done, CONFIG)


def test_fields_are_excluded_by_it_and_counted(done):
    write_config(done, with_value(CONFIG, "profile.max_disagreement", 0.3))
    run(done, PAGE)
    told = pd.read_parquet(done / "results/profile/P1.ledger.parquet")
    lost = told[(told["kind"] == "exclusion") & (told["unit"] == "fields")]
    reason = "segment: methods disagree, more than profile.max_disagreement = 0.3"
    assert lost[["Metadata_Well", "reason"]].to_numpy().tolist() == [["C03", reason]]
    counts = told[told["kind"] == "count"].set_index("unit")
    assert counts.loc["fields", ["count_in", "count_out"]].tolist() == [9, 8]
    assert counts.loc["cells", ["count_in", "count_out"]].tolist() == [136, 128]
    assert ledger.unbalanced(told) == []
    assert reason in (done / PAGE).read_text()


def test_parts_and_workers_change_no_disagreement_and_an_ensemble_no_object(done):
    fields, objects = segmented(done, ".fields"), segmented(done, "")
    tables = [f"results/segment/P1/part-{part}.parquet" for part in (1, 2)]
    write_sheet(done, {"P1": {"parts": "2"}})
    run(done, *tables, "--cores", "1")
    pd.testing.assert_frame_equal(segmented(done, ".fields"), fields)
    write_config(done, ALONE)
    run(done, *tables)
    alone = segmented(done, ".fields")
    assert alone.pop("disagreement").isna().all()
    pd.testing.assert_frame_equal(alone, fields.drop(columns="disagreement"))
    pd.testing.assert_frame_equal(segmented(done, ""), objects)
