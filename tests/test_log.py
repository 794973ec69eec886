"""The log of a job: its file, its one summary line, and its last words when it fails."""

import logging
import re
import sys
from types import SimpleNamespace

import pytest

from plateline import log, run
from plateline.errors import EditedDuringRun


@pytest.fixture
def job(tmp_path, monkeypatch):
    """What Snakemake puts into a script, in a folder of its own; the logging of the tests comes back afterwards."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield SimpleNamespace(rule="segment_part", wildcards=["P1", 2], log=[str(tmp_path / "job.log")])
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = handlers, level


def lines(job):
    with open(job.log[0]) as file:  # noqa: PTH123
        return file.read().splitlines()


def test_the_last_line_says_counts_and_seconds(job, capsys):
    with log.job(job) as counts:
        logging.getLogger("plateline.compute").info("well A01 done")
        logging.getLogger("matplotlib.font_manager").info("chatter")
        logging.getLogger("plateline.compute").warning("slow")
        counts.update({"fields": 1200, "cells": 3})
    written = lines(job)
    assert len(written) == 3
    assert re.fullmatch(r"\S+ \S+ INFO segment_part P1 2: 1,200 fields, 3 cells; \d+\.\d s", written[-1])
    shown = capsys.readouterr().err
    assert "well A01 done" not in shown
    assert "slow" in shown
    assert "1,200 fields, 3 cells" in shown


def test_a_failing_job_names_the_error_and_raises_it(job):
    with pytest.raises(ValueError, match="broken"), log.job(job) as counts:
        counts["fields"] = 1
        msg = "broken"
        raise ValueError(msg)
    assert re.search("ERROR segment_part P1 2: ValueError: broken$", lines(job)[-1])
    assert len(lines(job)) == 1


def test_a_log_begins_anew(job):
    for _ in range(2):
        with log.job(job) as counts:
            counts["cells"] = 1
    assert len(lines(job)) == 1


def test_a_config_edited_during_the_run_stops_the_job_before_it_opens_anything(job, tmp_path, monkeypatch):
    monkeypatch.setattr(run.digests, "PACKAGE", tmp_path / "package")
    (tmp_path / "config.yaml").write_text("a: 1")
    run.begin_run(["config.yaml"], {})
    (tmp_path / "config.yaml").write_text("a: 2")
    opened = []
    text = r"edited while the run was on: config.yaml; start snakemake again"
    with pytest.raises(EditedDuringRun, match=text), log.job(job):
        opened.append(1)
    assert not opened
    assert "EditedDuringRun" in lines(job)[-1]
    assert sys.exc_info() == (None, None, None)


def test_progress_has_a_bar(caplog):
    with caplog.at_level("INFO"):
        log.progress(5, 20, "loss 0.5")
    assert caplog.messages == ["[#####               ] 5 of 20: loss 0.5"]
