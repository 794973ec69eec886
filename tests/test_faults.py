"""Disturbed runs of a tiny plate: whatever was killed, full, damaged or deleted, the tables end as if nothing was."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from campaign import WELLS, make_campaign, plateline, python, run, snakemake

pytestmark = pytest.mark.slow

PART_RULES = ("ingest_part", "qc_part", "segment_part", "measure_part")
STAGES = ("ingest", "platemap", "flatfield", "qc", "segment", "measure", "profile")
# Python reads a file of this name first, in every process of a campaign. A job then notes what it does to files in
# `results`, which wells it commits, stops at a moment that `kills` names, and waits where it meets a file `hold`.
WATCH = r"""
import os, re, signal, sys, time
from pathlib import Path

RULE = next((m[1] for word in sys.orig_argv if (m := re.search(r"/.snakemake/scripts/.*[.](\w+)[.]py$", word))), "")
KILLS, HELD, BUSY = Path("kills", RULE), Path("hold"), False
MOMENTS = KILLS.read_text().split() if RULE and KILLS.is_file() else []
LAST = int(MOMENTS[0]) if MOMENTS else 0
if MOMENTS:
    KILLS.write_text(" ".join(MOMENTS[1:]))
count = 0


def note(name, *words):
    with open(name, "a") as file:
        print(RULE, *words, file=file)


def watch(event, arguments):
    global count, BUSY
    changes = event in {"os.rename", "os.mkdir", "os.remove", "os.rmdir"}
    changes |= event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
    if BUSY or not changes or "results" not in str(arguments[0]).split("/"):
        return
    BUSY = True  # what follows touches files, too
    count += 1
    while HELD.is_file() and HELD.read_text() == RULE:
        Path("held").touch()
        time.sleep(0.05)
    if count == LAST:
        note("killed", count)
        os.kill(os.getpid(), signal.SIGKILL)
    note("moments")
    if event == "os.rename" and re.fullmatch("[A-Z][0-9]+", name := os.path.basename(arguments[1])):
        note("commits", name)
    BUSY = False


if RULE:
    sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A plate, finished without disturbance."""
    folder = make_campaign(tmp_path_factory.mktemp("undisturbed") / "campaign", {"P1": {}})
    shutil.copytree(folder / "clone" / "profiles", folder / "profiles")  # as plateline new does
    (folder / "clone" / "workflow" / "sitecustomize.py").write_text(WATCH)
    run(folder, "--cores", "1", "results/profile/P1.parquet")
    return folder


def again(undisturbed, folder, *, finished=True):
    """A copy of the undisturbed campaign, or one that has not begun."""
    ignored = shutil.ignore_patterns("moments", "commits", *([] if finished else ["results", ".snakemake", "logs"]))
    shutil.copytree(undisturbed, folder, symlinks=True, ignore=ignored)
    (folder / "Snakefile").write_text((undisturbed / "Snakefile").read_text().replace(str(undisturbed), str(folder)))
    return folder


@pytest.fixture
def finished(undisturbed, tmp_path):
    return again(undisturbed, tmp_path / "campaign")


def made(folder):
    """Digest of every table, array and pixel file by its path; hidden files, too."""
    found = [path for stage in (*STAGES, "images") for path in (folder / "results" / stage).rglob("*")]
    digests = {path: hashlib.file_digest(path.open("rb"), "sha256").hexdigest() for path in found if path.is_file()}
    return {str(path.relative_to(folder)): digest for path, digest in digests.items() if path.suffix != ".json"} | {
        str(path.relative_to(folder)): digest for path, digest in digests.items() if path.name == "zarr.json"
    }


def lines(path):
    return path.read_text().splitlines()


# --- killed


def test_jobs_killed_at_random_moments_go_on_where_they_stopped(undisturbed, tmp_path):
    folder = again(undisturbed, tmp_path / "campaign", finished=False)
    rng, moments = np.random.default_rng(7), Counter(lines(undisturbed / "moments"))
    (folder / "kills").mkdir()
    for rule in PART_RULES:
        chosen = rng.integers(1, moments[rule] // 4, size=3, endpoint=True)
        (folder / "kills" / rule).write_text(" ".join(map(str, chosen)))
    runs = 0
    while (done := snakemake(folder, "--cores", "1", "--retries", "1", "results/profile/P1.parquet")).returncode:
        runs += 1
        assert runs <= 2 * len(PART_RULES), done.stdout[-6000:]
    killed = Counter(line.split()[0] for line in lines(folder / "killed"))
    assert killed == dict.fromkeys(PART_RULES, 3)
    # No finished well was done again.
    commits = Counter(lines(folder / "commits"))
    assert commits == {f"{rule} {well}": 1 for rule in PART_RULES for well in WELLS}
    plateline(folder, "orphans")
    assert made(folder) == made(undisturbed)


@contextmanager
def started(folder, *arguments):
    """Snakemake at work in a campaign."""
    environment = os.environ | {"PYTHONPATH": f"{folder / 'clone' / 'workflow'}"}
    command = [sys.executable, "-m", "snakemake", *arguments]
    with (folder / "printed.txt").open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(happened, what):
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.1)
    pytest.fail(f"waited in vain until {what}")


def test_a_killed_run_is_unlocked_and_goes_on_and_no_second_one_starts_beside_it(
    undisturbed, finished, tmp_path, monkeypatch
):
    (tmp_path / "squeue").write_text("#!/bin/sh\n")  # an empty queue, whether or not there is a Slurm here
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    target = "results/measure/P1/part-1.parquet"
    (finished / "hold").write_text("segment_part")
    with started(finished, "--cores", "1", "--forcerun", "segment_part", "--", target) as first:
        wait_until((finished / "held").exists, "the job waits")
        second = snakemake(finished, "--cores", "1", target)
        assert second.returncode != 0
        assert re.search(r"Directory cannot be locked(.|\n)*--unlock", second.stdout)
        assert "snakemake is at work in this campaign" in python(finished, "plateline.cli", "unlock").stdout
        first.send_signal(signal.SIGKILL)
        first.wait()
        # The job outlives the run.
        assert "snakemake is at work in this campaign" in python(finished, "plateline.cli", "unlock").stdout
    (finished / "hold").unlink()
    wait_until(
        lambda: "is at work" not in python(finished, "plateline.cli", "unlock", "--dry-run").stdout, "the job ends"
    )
    assert "Directory cannot be locked" in snakemake(finished, "--cores", "1", target).stdout
    assert "the lock is off" in plateline(finished, "unlock")
    run(finished, target)
    assert made(finished) == made(undisturbed)


# --- full and read-only disks


@contextmanager
def mounted(*arguments):
    """A file system mounted; skips the test where that is not permitted."""
    done = subprocess.run(["mount", *map(str, arguments)], text=True, capture_output=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(arguments[-1])], check=True)  # a process may linger in it


def test_a_disk_that_fills_up_is_told_and_the_run_goes_on_when_there_is_space(undisturbed, finished):
    results, target = finished / "results", "results/segment/P1/part-1.parquet"
    shutil.rmtree(results)
    results.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", results):
        shutil.copytree(undisturbed / "results", results, dirs_exist_ok=True)
        room = shutil.disk_usage(results).used // 1024 + 24
        subprocess.run(["mount", "-o", f"remount,size={room}k", str(results)], check=True)
        full = snakemake(finished, "--cores", "1", "--forcerun", "segment_part", "--", target)
        assert full.returncode != 0
        message = r"StorageError: results/\S+ cannot be written: No space left on device; free space there, then start"
        assert re.search(message, full.stdout)
        assert re.search(message, (finished / "logs/segment_part/P1.part-1.log").read_text())
        assert not (finished / target).exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(results)], check=True)
        run(finished, "--forcerun", "segment_part", "--", target)
        plateline(finished, "orphans")
        assert made(finished) == made(undisturbed)


def test_results_that_cannot_be_written_are_refused_before_anything_is_done(undisturbed, finished):
    results = finished / "results"
    arguments = ("--cores", "1", "--forcerun", "qc_plate", "--", "results/qc/P1/fields.parquet")
    message = r"StorageError.*\n(results|results/qc) cannot be written: .*; make it writable"
    if os.geteuid():  # the bits do not bind root
        (results / "qc").chmod(0o555)
        done = snakemake(finished, *arguments)
        (results / "qc").chmod(0o755)
    else:
        with mounted("--bind", results, results):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
            done = snakemake(finished, *arguments)
            assert snakemake(finished, "-n").returncode == 0
    assert done.returncode != 0
    assert re.search(message, done.stdout), done.stdout
    assert made(finished) == made(undisturbed)


# --- damaged and deleted


def damaged(path, content):
    """Another content under the same time, as a crash of the computer leaves it."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut(path):
    damaged(path, path.read_bytes()[:-20])


def flip(path):
    content = path.read_bytes()
    damaged(path, content[:60] + bytes(255 - byte for byte in content[60:80]) + content[80:])


@pytest.fixture(scope="module")
def healed(undisturbed, tmp_path_factory):
    """A finished campaign, as each of its tests leaves it."""
    return again(undisturbed, tmp_path_factory.mktemp("healed") / "campaign")


PIXELS = "results/images/P1.zarr"


@pytest.mark.parametrize(
    ("path", "damage", "noticed_by", "message", "remedy"),
    [
        (f"{PIXELS}/B/02/1/0/c/0/0/0/0/0", flip, "qc_part", "B/02/1/0 at time 0 .*damaged", "ingest_part"),
        (f"{PIXELS}/B/02/1/labels/cells/0/c/0/0/0/0", cut, "measure_part", "damaged .*", "segment_part"),
        (f"{PIXELS}/A/01/1/0/c", shutil.rmtree, "qc_part", "A/01/1/0 at time 0 .*: deleted or damaged", "ingest_part"),
        (PIXELS, shutil.rmtree, "qc_part", "P1.zarr/A/01/1/0 is gone, but a table still speaks of it", "ingest_plate"),
        (
            "results/ingest/P1/part-1.parquet",
            cut,
            "qc_part",
            r"results/ingest/P1/part-1\.parquet is damaged (.|\n)*; make it again",
            "results/ingest/P1/part-1.parquet",
        ),
    ],
)
def test_what_is_damaged_or_deleted_is_refused_and_made_again_as_told(
    undisturbed, healed, path, damage, noticed_by, message, remedy
):
    target = f"results/{noticed_by.partition('_')[0]}/P1/part-1.parquet"
    damage(healed / path)
    done = snakemake(healed, "--cores", "1", "--forcerun", noticed_by, "--", target)
    assert done.returncode != 0
    assert re.search(rf"StaleError: .*({message})(.|\n)*-R {remedy}", done.stdout), done.stdout
    wanted = [f"results/{stage}/P1/part-1.parquet" for stage in ("qc", "segment", "measure")]
    wanted = wanted if remedy == "ingest_plate" else [target]
    run(healed, "-R", remedy, "--", *wanted)
    assert made(healed) == made(undisturbed)
