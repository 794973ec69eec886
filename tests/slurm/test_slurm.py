"""The same command on a real Slurm: who runs where, and what a refusal, a kill and a lost node do."""

import json
import re
import time
from contextlib import contextmanager
from itertools import chain

import cluster
import pandas as pd
import pytest
from campaign import ROOT, WELLS, planned, read_config, snakemake, write_config

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.usefixtures("slurm")]
SCRIPTS = ROOT / "workflow" / "scripts"
SEGMENTED = {plate: [f"results/segment/{plate}/part-{part}.parquet" for part in (1, 2, 3)] for plate in ("P1", "P2")}
SEGMENTED["P2"].pop()


def calls(folder):
    """What the segmenter wrote of each field."""
    log = folder / "segmented.txt"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def smooth(folder, px):
    """Change what the segmenter is told."""
    config = read_config(folder)
    config["segment"]["custom"]["smooth_px"] = px
    write_config(folder, config)


def locally(folder, *arguments):
    """Run on the cores of this computer, a worker a job."""
    done = snakemake(folder, "--cores", "2", *arguments, "--set-threads", *cluster.ONE_EACH)
    assert done.returncode == 0, done.stdout[-6000:]


def assert_equal_tables(folder, other, pattern="**/*.parquet"):
    """Every table of two campaigns, but not the hidden ones of unfinished parts."""
    names = [sorted(path.relative_to(one) for path in (one / "results").glob(pattern)) for one in (folder, other)]
    assert names[0] == names[1] != []
    for name in names[0]:
        pd.testing.assert_frame_equal(pd.read_parquet(folder / name), pd.read_parquet(other / name), obj=str(name))


def most_at_once(intervals):
    """The largest number of intervals that hold one moment; one that ends as another begins does not count."""
    marks = sorted(chain.from_iterable(((began, 1), (ended, -1)) for began, ended in intervals))
    most = now = 0
    for _, step in marks:
        now += step
        most = max(most, now)
    return most


@contextmanager
def ended_if_it_fails(process):
    """Leaves no run behind where a test fails while it is on."""
    try:
        yield
    except BaseException:
        process.kill()
        print(process.communicate()[0][-6000:])
        raise


def at_work(folder):
    """Jobs that have segmented a field and run."""
    running = {job["JobId"] for job in cluster.jobs(folder) if job["JobState"] == "RUNNING"}
    return running & {call["job"] for call in calls(folder)}


def states(folder):
    """States of the jobs that want a GPU."""
    return [job["JobState"] for job in cluster.jobs(folder) if job["Partition"] == "gpu"]


@pytest.fixture(scope="module")
def undisturbed(slurm, campaign):
    """The campaign on this computer, without Slurm."""
    folder = campaign("undisturbed")
    locally(folder)
    return folder


@pytest.fixture(scope="module")
def finished(slurm, campaign):
    """The campaign on Slurm. One job is killed in its first attempt; the others wait until four run at once."""
    folder = campaign("finished")
    (folder / "hold.txt").write_text("1")
    (folder / "die.txt").touch()
    report = ["--slurm-efficiency-report", "--slurm-efficiency-report-path", "efficiency"]
    process = cluster.start(folder, *report * cluster.accounting())
    with ended_if_it_fails(process):
        cluster.wait_until(lambda: not (folder / "die.txt").exists() and len(at_work(folder)) == 4, seconds=400)
        cluster.wait_until(lambda: "PENDING" in states(folder))
        (folder / "states.txt").write_text(" ".join(states(folder)))
        (folder / "hold.txt").unlink()
        printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed[-6000:]
    return folder


# --- the whole chain


def test_the_chain_runs_to_its_report_with_the_tables_of_a_run_without_slurm(finished, undisturbed):
    assert (finished / "results/report/index.html").is_file()
    assert (finished / "results/verdict.json").is_file()
    assert_equal_tables(finished, undisturbed)
    assert planned(finished) == set()


def test_rules_that_use_a_gpu_get_one_and_the_others_go_to_the_cpu_partition(finished):
    asked = {(job["rule"], job["Partition"], job.get("TresPerJob", "")) for job in cluster.jobs(finished)}
    gpu = {ask for ask in asked if ask[1] == "gpu"}
    assert gpu == {("segment_part", "gpu", "gres:gpu:a100:1")}
    assert {ask[1:] for ask in asked - gpu} == {("cpu", "")}
    # All but the training, for which nothing is configured.
    assert {rule for rule, *_ in asked} == {path.stem for path in SCRIPTS.glob("*.py")} - {"segment_fit_screen"}


def test_four_gpus_are_used_at_once_and_never_five(finished):
    # Of five jobs that want one, and one that was killed: the fifth waits while four hold theirs.
    seen = (finished / "states.txt").read_text().split()
    assert seen.count("RUNNING") == 4
    assert seen.count("PENDING") >= 1
    took = [job for job in cluster.jobs(finished) if job["rule"] == "segment_part"]
    assert len(took) == 6
    assert most_at_once([(job["StartTime"], job["EndTime"]) for job in took]) == 4


def test_each_job_sees_a_device_that_no_other_has_meanwhile(finished):
    found = pd.DataFrame(calls(finished))
    devices = found.groupby("job")["device"].agg(["nunique", "first"])
    assert (devices["nunique"] == 1).all()
    jobs = pd.DataFrame(cluster.jobs(finished)).set_index("JobId").loc[devices.index]
    assert set(devices["first"]) == {"0", "1", "2", "3"}
    for _, sharing in jobs.groupby(devices["first"]):
        assert most_at_once(zip(sharing["StartTime"], sharing["EndTime"], strict=True)) == 1


def test_a_killed_job_is_submitted_again_with_twice_the_memory_and_time(finished):
    jobs = pd.DataFrame(cluster.jobs(finished))
    again = jobs[jobs.duplicated("Comment", keep=False)]
    assert again["rule"].tolist() == ["segment_part"] * 2
    assert again["JobState"].tolist() == ["FAILED", "COMPLETED"]
    assert again["MinMemoryNode"].tolist() == ["8000M", "16000M"]
    assert again["TimeLimit"].tolist() == ["02:00:00", "04:00:00"]
    # Slurm is the one that tries again: nothing was repeated inside a job.
    assert set(jobs.drop(again.index)["JobState"]) == {"COMPLETED"}


@pytest.fixture
def accounts():
    """A Slurm that keeps accounts."""
    if not cluster.accounting():
        pytest.skip("this Slurm keeps no accounts; make slurm-test without ACCOUNTING=none starts one that does")


def test_jobs_are_asked_after_in_the_accounts_and_their_use_is_reported(accounts, finished):
    known = cluster.ask("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State").splitlines()
    assert {f"{job['JobId']}|COMPLETED" for job in cluster.jobs(finished) if job["JobState"] == "COMPLETED"} <= {*known}
    report = pd.concat(map(pd.read_csv, (finished / "efficiency").glob("efficiency_report_*.csv")))
    assert {rule.split("_wildcards_")[0].removeprefix("rule_") for rule in report["RuleName"].dropna()} == {
        job["rule"] for job in cluster.jobs(finished)
    }
    assert (report["Elapsed_sec"] > 0).any()


# --- what goes wrong


def test_what_no_node_can_do_is_refused_at_once(finished):
    smooth(finished, 1.5)
    began, known = time.monotonic(), len(cluster.jobs(finished))
    done = cluster.submit(finished, SEGMENTED["P2"][0], "--set-resources", "segment_part:mem_mb=attempt * 900000")
    smooth(finished, 1.0)
    assert done.returncode != 0
    assert re.search("sbatch failed.*Memory specification can not be satisfied", done.stdout), done.stdout[-3000:]
    assert cluster.waiting(finished) == []
    assert {job["JobState"] for job in cluster.jobs(finished)[known:]} <= {"FAILED"}  # Slurm keeps what it refused
    assert time.monotonic() - began < 120


@pytest.fixture(scope="module")
def killed(finished):
    """Snakemake is killed while two of three jobs run: one of these goes on to its end, the other is cancelled."""
    smooth(finished, 2.0)
    (finished / "segmented.txt").unlink()
    (finished / "hold.txt").write_text("2")
    process = cluster.start(finished, *SEGMENTED["P1"], "--jobs", "2")
    with ended_if_it_fails(process):
        cluster.wait_until(lambda: len(calls(finished)) == 4)
    process.kill()
    process.communicate()
    said = {"jobs": cluster.waiting(finished), "again": cluster.submit(finished, *SEGMENTED["P1"]).stdout}
    said["refused"] = cluster.submit(finished, "unlock", module="plateline.cli")
    cluster.ask("scancel", said["jobs"][1])
    (finished / "hold.txt").unlink()
    cluster.wait_until(lambda: not cluster.waiting(finished))
    said["ended"] = {job["JobId"]: job["JobState"] for job in cluster.jobs(finished)}
    said["unlocked"] = cluster.submit(finished, "unlock", module="plateline.cli")
    cluster.run(finished, *SEGMENTED["P1"])
    return said


def segment_again(undisturbed):
    """The undisturbed campaign with the config that the killed one went on with."""
    smooth(undisturbed, 2.0)
    locally(undisturbed, *SEGMENTED["P1"], *SEGMENTED["P2"])


def test_unlock_refuses_while_jobs_outlive_their_run(killed):
    assert len(killed["jobs"]) == 2
    assert "LockException" in killed["again"]
    assert killed["refused"].returncode == 1
    for job in killed["jobs"]:
        assert f"{job} (RUNNING)" in killed["refused"].stdout
    assert "jobs of this campaign are in the Slurm queue" in killed["refused"].stdout


def test_a_run_that_was_killed_goes_on_and_redoes_no_finished_well(killed, finished, undisturbed):
    assert [killed["ended"][job] for job in killed["jobs"]] == ["COMPLETED", "CANCELLED"]
    assert killed["unlocked"].returncode == 0
    assert "took over 3 files that jobs finished after their run was killed" in killed["unlocked"].stdout
    fields = [call["field"] for call in calls(finished)]
    assert len(set(fields)) == len(WELLS)
    assert len(fields) == len(WELLS) + 1  # the one on which the cancelled job was at work
    segment_again(undisturbed)
    assert_equal_tables(finished, undisturbed, "segment/P1/part-*.parquet")


def test_a_change_to_what_outlived_its_run_is_noticed(killed, finished):
    assert planned(finished, *SEGMENTED["P1"]) == set()
    smooth(finished, 1.0)
    try:
        assert {f"segment_part P1 {part}" for part in (1, 2, 3)} <= planned(finished, *SEGMENTED["P1"])
    finally:
        smooth(finished, 2.0)


def test_jobs_of_a_node_that_went_down_are_done_again(killed, finished, undisturbed):
    (finished / "segmented.txt").unlink()
    (finished / "hold.txt").write_text("2")
    process = cluster.start(finished, *SEGMENTED["P2"])
    with ended_if_it_fails(process):
        cluster.wait_until(lambda: len(calls(finished)) == 4)
        cluster.ask("scontrol", "update", "nodename=n1", "state=down", "reason=test")
        try:
            cluster.wait_until(lambda: states(finished)[-2:] == ["PENDING"] * 2)
            (finished / "hold.txt").unlink()
        finally:
            cluster.ask("scontrol", "update", "nodename=n1", "state=resume")
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed[-6000:]
    assert [job["Restarts"] for job in cluster.jobs(finished)[-2:]] == ["1", "1"]
    fields = [call["field"] for call in calls(finished)]
    assert len(set(fields)) == len(WELLS)
    assert len(fields) == len(WELLS) + 2  # those on which the two jobs were at work
    segment_again(undisturbed)
    assert_equal_tables(finished, undisturbed, "segment/P2/part-*.parquet")
