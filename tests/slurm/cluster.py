"""The Slurm of tests/slurm/up.sh, seen from a campaign: its profile, runs on it, and what Slurm says of the jobs."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
CONFIG = Path("/etc/slurm/slurm.conf")
# What a person at this cluster would take the # off.
SITE = ("slurm_partition", "gpu", "gpu_model", "slurm-status-command")
# Two cores stand behind the 64 that the nodes claim.
ONE_EACH = [f"{stage}_part=1" for stage in ("ingest", "qc", "segment", "measure")]


def is_ours() -> bool:
    """Whether the Slurm here is that of up.sh, whose nodes may be taken down, and answers."""
    if not CONFIG.is_symlink() or "ClusterName=loop" not in CONFIG.read_text():
        return False
    return subprocess.run(["sinfo"], capture_output=True).returncode == 0


def accounting() -> bool:
    """Whether it keeps accounts, so that `sacct` answers."""
    return "accounting_storage/slurmdbd" in CONFIG.read_text()


def site_profile(text: str, *, accounts: bool) -> str:
    """The shipped profile as a person at this cluster would leave it: lines in comments taken in, nothing else."""
    names = [name for name in SITE if not (accounts and name == "slurm-status-command")]
    return re.sub(rf"^( *)# ({'|'.join(names)}): ", r"\1\2: ", text, flags=re.MULTILINE)


def start(folder: Path, *arguments: str, module: str = "snakemake") -> subprocess.Popen:
    """Snakemake with the profile, or another module, in a campaign; output and errors as text in `stdout`."""
    paths = [HERE / "poll", folder / "clone" / "workflow"]
    # To the end: --set-threads takes all that follows.
    tuned = ["--slurm-init-seconds-before-status-checks", "1", "--set-threads", *ONE_EACH]
    tuned = ["--profile", "slurm", *arguments, *tuned] if module == "snakemake" else arguments
    return subprocess.Popen(
        [sys.executable, "-m", module, *tuned],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ":".join(map(str, paths)), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def submit(folder: Path, *arguments: str, module: str = "snakemake") -> subprocess.CompletedProcess:
    """The same, to its end."""
    process = start(folder, *arguments, module=module)
    printed, _ = process.communicate(timeout=600)
    return subprocess.CompletedProcess(process.args, process.returncode, printed)


def run(folder: Path, *arguments: str) -> str:
    """The same, which must end well; what it printed."""
    done = submit(folder, *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def jobs(folder: Path) -> list[dict[str, str]]:
    """What Slurm knows of the jobs of a campaign, ended ones too, in the order of submission; `rule` is added."""
    lines = ask("scontrol", "--oneliner", "show", "job").splitlines()
    found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
    found = [job for job in found if job["WorkDir"] == str(folder)]
    rules = [job.get("Comment", "").removeprefix("rule_").partition("_wildcards_")[0] for job in found]
    return [job | {"rule": rule} for job, rule in zip(found, rules, strict=True)]


def waiting(folder: Path) -> list[str]:
    """Jobs of a campaign that have not ended."""
    return [job["JobId"] for job in jobs(folder) if job["JobState"] in ("PENDING", "RUNNING", "COMPLETING")]


def ask(*command: str) -> str:
    """What a command of Slurm answers."""
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def wait_until(answer, *, seconds: float = 300) -> None:
    """Until a question is answered with something true."""
    end = time.monotonic() + seconds
    while not answer():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.2)
