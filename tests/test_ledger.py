"""Counts in and out: full schema always, nothing unaccounted for, and a verdict that names what failed."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plateline.errors import FailedPlates
from plateline.ledger import SCHEMA, as_entry, counted, noted, of_job, unbalanced, unlinked, verdict


def job(rule="segment_part", **wildcards):
    return SimpleNamespace(rule=rule, wildcards=wildcards)


PART = job(plate="P1", part="2")
BAD = pd.DataFrame(
    {"Metadata_Plate": "P1", "Metadata_Well": ["A01", "B02"], "Metadata_Site": [1, 2], "Metadata_Timepoint": 0}
)


def test_one_job():
    table = of_job(PART, [counted("fields", 9, 7), noted("exclusion", "fields", BAD.assign(reason="dark", extra=1))])
    assert table.dtypes.astype(str).to_dict() == SCHEMA
    assert table["kind"].tolist() == ["count", "exclusion", "exclusion"]
    assert set(table["rule"]) == {"segment_part"}
    assert set(table["stage"]) == {"segment"}
    assert set(table["part"]) == {2}
    assert set(table["Metadata_Plate"]) == {"P1"}
    assert table["count"].tolist() == [0, 1, 1]
    assert table["count_in"].tolist() == [9, 0, 0]
    assert table["Metadata_Site"].tolist() == [-1, 1, 2]
    assert table["Metadata_Timepoint"].tolist() == [-1, 0, 0]
    assert table["reason"].tolist() == ["", "dark", "dark"]


@pytest.mark.parametrize("entries", [[], [noted("exclusion", "fields", pd.DataFrame(columns=["reason"]))]])
def test_a_job_without_entries_has_the_full_schema(entries):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = of_job(PART, entries)
    assert table.empty
    assert table.dtypes.astype(str).to_dict() == SCHEMA


def test_no_pandas_warnings_with_empty_frames_between():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = of_job(
            PART, [counted("cells", 3, 3), noted("exclusion", "cells", BAD.iloc[:0].assign(reason="", count=0))]
        )
    assert len(table) == 1


def test_a_screen_job_has_no_plate_but_its_entries_may():
    entries = [counted("wells", 4, 3), noted("exclusion", "wells", BAD.iloc[:1].assign(reason="no controls", count=2))]
    table = of_job(job("correct_screen"), entries)
    assert table["Metadata_Plate"].tolist() == ["", "P1"]
    assert table["part"].tolist() == [0, 0]
    assert table["count"].tolist() == [0, 2]
    assert table["stage"].tolist() == ["correct", "correct"]


def naive_unbalanced(table):
    lost = {}
    for row in table.itertuples():
        key = (row.rule, "" if row.rule.endswith("_screen") else row.Metadata_Plate, row.part, row.unit)
        if row.kind == "count":
            lost.setdefault(key, [0, False])[1] = True
            lost[key][0] += row.count_in - row.count_out
        elif row.kind == "exclusion":
            lost.setdefault(key, [0, False])[0] -= row.count
    return {key for key, (n, has_counts) in lost.items() if has_counts and n}


entry = st.one_of(
    st.builds(counted, st.sampled_from(["fields", "cells"]), st.integers(0, 6), st.integers(0, 6)),
    st.builds(
        lambda kind, unit, n: noted(
            kind, unit, pd.DataFrame({"Metadata_Plate": ["P1"], "reason": ["x"], "count": [n]})
        ),
        st.sampled_from(["exclusion", "warning"]),
        st.sampled_from(["fields", "cells"]),
        st.integers(0, 6),
    ),
)
jobs = st.sampled_from(
    [job(plate="P1", part="1"), job(plate="P1", part="2"), job("qc_plate", plate="P2"), job("hits_screen")]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(jobs, st.lists(entry, max_size=4)), max_size=5))
def test_jobs_that_do_not_add_up_against_a_loop(parts):
    table = pd.concat([of_job(PART, []), *(of_job(own, entries) for own, entries in parts)], ignore_index=True)
    found = unbalanced(table)
    expected = naive_unbalanced(table)
    assert len(found) == len(expected)
    for rule, plate, part, unit in expected:
        start = f"{rule} of plate {plate or '(all)'} part {part}: "
        assert any(text.startswith(start) and text.endswith(f"{unit} unaccounted for") for text in found)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 9), max_size=6))
def test_what_comes_out_and_what_is_excluded_is_what_went_in(out, excluded):
    rows = pd.DataFrame({"reason": ["x"] * len(excluded), "count": np.array(excluded, dtype=int)})
    whole = out + sum(excluded)
    assert unbalanced(of_job(PART, [counted("cells", whole, out), noted("exclusion", "cells", rows)])) == []
    lost = unbalanced(of_job(PART, [counted("cells", whole + 3, out), noted("exclusion", "cells", rows)]))
    assert lost == ["segment_part of plate P1 part 2: +3 cells unaccounted for"]
    made = unbalanced(of_job(PART, [counted("cells", whole, out + 1), noted("exclusion", "cells", rows)]))
    assert made == ["segment_part of plate P1 part 2: -1 cells unaccounted for"]


def test_a_screen_jobs_exclusions_count_whatever_plate_they_name():
    both = pd.DataFrame({"Metadata_Plate": ["P1", "P2"], "reason": "few controls", "count": [2, 3]})
    table = of_job(job("correct_screen"), [counted("wells", 9, 4), noted("exclusion", "wells", both)])
    assert unbalanced(table) == []
    table = of_job(job("correct_screen"), [counted("wells", 9, 5), noted("exclusion", "wells", both)])
    assert unbalanced(table) == ["correct_screen of plate (all) part 0: -1 wells unaccounted for"]


counts = st.lists(st.integers(0, 2), min_size=2, max_size=2)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["P1", "P2"]), st.tuples(counts, counts, counts), max_size=2))
def test_what_a_job_takes_in_is_what_an_earlier_one_told_of_against_a_loop(plates):
    tables, expected = [of_job(PART, [])], []
    for plate, (ingested, segmented, profiled) in plates.items():
        for part, (fields, taken) in enumerate(zip(ingested, segmented, strict=True), start=1):
            tables.append(of_job(job("ingest_part", plate=plate, part=str(part)), [counted("fields", fields, 0)]))
            tables.append(of_job(job("segment_part", plate=plate, part=str(part)), [counted("fields", taken, taken)]))
        tables.append(of_job(job("measure_part", plate=plate, part="1"), [counted("cells", 9, profiled[0])]))
        tables.append(of_job(job("profile_plate", plate=plate), [counted("cells", profiled[1], 0)]))
        if sum(ingested) != sum(segmented):
            got = f"segment_part of plate {plate} took in {sum(segmented)} fields"
            expected.append(f"{got}; expected the {sum(ingested)} of ingest_part")
        if profiled[0] != profiled[1]:
            got = f"profile_plate of plate {plate} took in {profiled[1]} cells"
            expected.append(f"{got}; expected the {profiled[0]} of measure_part")
    assert sorted(unlinked(pd.concat(tables, ignore_index=True))) == sorted(expected)


def test_a_job_of_a_plate_that_was_not_ingested_takes_in_what_it_has():
    assert unlinked(of_job(job("profile_plate", plate="T1"), [counted("cells", 5, 5), counted("fields", 2, 2)])) == []


def test_fields_that_a_stage_never_saw_fail_the_verdict():
    table = ledger_of(
        of_job(job("ingest_part", plate="P1", part="1"), [counted("fields", 3, 3)]),
        of_job(job("qc_part", plate="P1", part="1"), [counted("fields", 2, 2)]),
    )
    message = "qc_part of plate P1 took in 2 fields; expected the 3 of ingest_part; the other plates are complete"
    with pytest.raises(FailedPlates, match=message):
        verdict(table)


def test_warnings_do_not_count_as_exclusions():
    table = of_job(PART, [counted("fields", 2, 2), noted("warning", "fields", BAD.assign(reason="no nuclei"))])
    assert unbalanced(table) == []


def ledger_of(*tables):
    return pd.concat(tables, ignore_index=True)


def test_a_good_run_names_its_plates_and_those_not_used():
    unused = pd.DataFrame({"Metadata_Plate": ["P9"], "reason": ["not used: no: dropped"]})
    table = ledger_of(
        of_job(PART, [counted("fields", 2, 2)]),
        of_job(job(plate="P0", part="1"), [counted("fields", 2, 2)]),
        of_job(job("ledger_screen"), [noted("exclusion", "plates", unused)]),
    )
    assert verdict(table) == {"plates": ["P0", "P1"], "not_used": ["P9"]}


def test_failed_plates_and_lost_counts_are_all_named():
    failed = pd.DataFrame({"reason": ["9 of 9 fields are bad"]})
    table = ledger_of(
        of_job(job("profile_plate", plate="P2"), [noted("failure", "plates", failed)]),
        of_job(PART, [counted("fields", 3, 2)]),
    )
    text = (
        r"plate P2 failed: 9 of 9 fields are bad; segment_part of plate P1 part 2: \+1 fields unaccounted for; "
        r"the other plates are complete, see results/report/index.html"
    )
    with pytest.raises(FailedPlates, match=text):
        verdict(table)


def test_an_empty_ledger_is_a_good_one():
    assert unbalanced(of_job(PART, [])) == []
    assert verdict(of_job(PART, [])) == {"plates": [], "not_used": []}


def test_an_entry_from_what_a_stage_told():
    pd.testing.assert_frame_equal(as_entry("count", "rows", 4, 3), counted("rows", 4, 3))
    rows = pd.DataFrame({"reason": ["x"], "count": [2]})
    pd.testing.assert_frame_equal(as_entry("warning", "rows", rows), noted("warning", "rows", rows))
