"""`plateline unlock`: only where no run can be at work, asked of Slurm and of this computer."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from plateline import cli, run
from plateline.cli import lock
from plateline.errors import CampaignBusy


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A campaign whose run was killed, as the working directory, and an empty queue whether or not there is a Slurm."""
    folder = tmp_path / "campaign"
    (folder / ".snakemake" / "locks").mkdir(parents=True)
    (folder / ".snakemake" / "locks" / "0.output.lock").write_text("results/x\n")
    (folder / "Snakefile").write_text("rule all:\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def squeue(tmp_path):
    """Makes a queue of the given lines."""

    def make(*lines, status=0):
        path = tmp_path / "bin" / "squeue"
        said = "\n".join(lines)
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\necho 'no controller' >&2\nexit {status}\n")
        path.chmod(0o755)

    return make


def is_locked(folder):
    return any((folder / ".snakemake" / "locks").glob("*"))


def test_the_lock_of_a_killed_run_is_taken_off(locked, capsys):
    assert cli.main(["unlock"]) == 0
    assert "the lock is off; start snakemake again" in capsys.readouterr().out
    assert not is_locked(locked)
    assert cli.main(["unlock"]) == 0
    assert "is not locked; nothing to do" in capsys.readouterr().out


def test_a_dry_run_only_says_so(locked, capsys):
    assert cli.main(["unlock", "--dry-run"]) == 0
    assert "would take off the lock" in capsys.readouterr().out
    assert is_locked(locked)


@pytest.mark.parametrize("arguments", [["unlock"], ["unlock", "--dry-run"]])
def test_jobs_of_this_campaign_in_the_queue_refuse_it(locked, squeue, capsys, arguments):
    squeue(f"17|RUNNING|{locked}", f"18_[1-3]|PENDING|{locked}/", "19|RUNNING|/elsewhere")
    assert cli.main(arguments) == 1
    assert "jobs of this campaign are in the Slurm queue: 17 (RUNNING), 18_[1-3] (PENDING)" in capsys.readouterr().err
    assert is_locked(locked)


def test_jobs_of_others_and_the_asking_shell_itself_do_not(locked, squeue, monkeypatch):
    squeue("19|RUNNING|/elsewhere", f"20|RUNNING|{locked}")
    monkeypatch.setenv("SLURM_JOB_ID", "20")
    assert lock.unlock(dry_run=True).startswith("would take off")
    squeue()
    assert lock.unlock(dry_run=True).startswith("would take off")


def test_a_queue_that_cannot_be_asked_refuses_it(locked, squeue):
    squeue(status=1)
    with pytest.raises(CampaignBusy, match="squeue cannot say whether jobs of this campaign are queued: no controller"):
        lock.unlock(dry_run=False)
    assert is_locked(locked)


def wait_for_words(process):
    """Until the system shows the command of a new process, which it does a moment after it has started."""
    for _ in range(200):
        if Path(f"/proc/{process.pid}/cmdline").read_bytes():
            return
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["/usr/bin/snakemake", "/home/me/.snakemake/scripts/tmp1.segment_part.py"])
def test_a_run_on_this_computer_refuses_it(locked, name):
    with subprocess.Popen([name, "60"], executable="/bin/sleep", cwd=locked) as process:
        try:
            wait_for_words(process)
            with pytest.raises(CampaignBusy, match=rf"snakemake is at work in this campaign, process {process.pid}"):
                lock.unlock(dry_run=False)
        finally:
            process.kill()
    assert is_locked(locked)


def test_a_run_in_another_folder_does_not(locked, tmp_path):
    with subprocess.Popen(["snakemake", "60"], executable="/bin/sleep", cwd=tmp_path) as process:
        try:
            wait_for_words(process)
            assert lock.unlock(dry_run=True).startswith("would take off")
        finally:
            process.kill()


def test_what_snakemake_refuses_is_passed_on(locked):
    (locked / "Snakefile").write_text("rule all\n")
    with pytest.raises(CampaignBusy, match=r"snakemake --unlock failed: (.|\n)*Snakefile"):
        lock.unlock(dry_run=False)


SNAKEFILE = """
rule segment:
    output:
        "results/segment/P1/part-1.parquet",
    params:
        1,
    shell:
        "echo made anew > {output}"
"""


@pytest.fixture
def outlived(locked):
    """A campaign in which a job has finished after its run was killed, of which Snakemake has an older record."""
    (locked / ".snakemake/locks/0.output.lock").unlink()
    (locked / "Snakefile").write_text(SNAKEFILE.replace("1,", "0,"))
    subprocess.run([sys.executable, "-m", "snakemake", "--cores", "1"], cwd=locked, check=True)  # an earlier config
    (locked / "Snakefile").write_text(SNAKEFILE)
    (locked / "config.yaml").write_text("a: 1")
    run.begin_run(["config.yaml"], {})
    table = locked / "results/segment/P1/part-1.parquet"
    table.write_text("made")
    (locked / ".snakemake/locks").mkdir(exist_ok=True)
    (locked / ".snakemake/locks/0.output.lock").write_text("results/x\n")
    return table


def plan(folder):
    command = [sys.executable, "-m", "snakemake", "--dry-run", "results/segment/P1/part-1.parquet"]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    return done.stdout + done.stderr


def test_what_a_job_finished_after_the_kill_is_taken_over(locked, outlived):
    said = lock.unlock(dry_run=True)
    assert "would take over, or delete if the config was edited: results/segment/P1/part-1.parquet" in said
    assert run.unrecorded()
    assert lock.unlock(dry_run=False).startswith("took over 1 files that jobs finished after their run was killed")
    assert outlived.read_text() == "made"
    assert run.unrecorded() == []
    assert "Nothing to be done" in plan(locked)
    # From now on a change is noticed.
    (locked / "Snakefile").write_text(SNAKEFILE.replace("1,", "0,"))
    assert "arams have changed" in plan(locked)


def test_it_is_taken_over_too_where_the_lock_is_off_already(locked, outlived):
    (locked / ".snakemake/locks/0.output.lock").unlink()
    assert lock.unlock(dry_run=False).startswith("took over 1 files")
    assert lock.unlock(dry_run=False) == "this campaign is not locked; nothing to do"


def test_what_a_job_finished_before_an_edit_is_deleted(locked, outlived):
    (locked / "config.yaml").write_text("a: 2")
    said = lock.unlock(dry_run=False)
    assert said.startswith("deleted 1 files that jobs of the killed run made before the config or the code was edited")
    assert not outlived.exists()


def test_what_a_run_must_not_be_disturbed_by_is_refused_while_it_is_locked(locked):
    with pytest.raises(
        CampaignBusy, match="orphans are not deleted: this campaign is locked: a run is on, or was killed"
    ):
        lock.refuse_while_locked("orphans are not deleted")
    (locked / ".snakemake" / "locks" / "0.output.lock").unlink()
    lock.refuse_while_locked("orphans are not deleted")
