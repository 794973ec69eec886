"""What a job costs on Slurm beyond its own work: jobs that do nothing, one after another.

Needs a Slurm, and a folder that its nodes see (`--folder`, by default under this clone). `make slurm-test` calls it on
the Slurm of up.sh. The last line is `whole_run_s= slurm_job_overhead_s=`: seconds a job of the whole run, with the
pauses between the questions after it, and the median of what Slurm counts from the start of a job to its end.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
# An include brings the rules and functions that every job of a campaign reads again.
SNAKEFILE = """
include: "{root}/Snakefile"


rule chain:
    default_target: True
    input:
        "made/{n_jobs}",


rule begin:
    output:
        touch("made/0"),


def one_less(wildcards):
    return f"made/{{int(wildcards.number) - 1}}"


rule nothing:
    input:
        one_less,
    output:
        "made/{{number}}",
    wildcard_constraints:
        number="[1-9]",
    shell:
        "touch {{output}}"


localrules:
    begin,
"""


def measure_overhead(folder: Path, n_jobs: int = 3, arguments: tuple[str, ...] = ()) -> dict[str, float]:
    """Seconds that jobs which do nothing take on Slurm.

    Parameters
    ----------
    folder : Path
        Empty; must be seen by the nodes.
    n_jobs : int
        At most 9, each submitted when the one before has ended.
    arguments : tuple of str
        For Snakemake: partition, account, how to ask after jobs.

    Returns
    -------
    dict of str to float
        `slurm_job_overhead_s`, the median of Slurm's own times, and `whole_run_s`, of the run by job, polls included.
    """
    (folder / "config").mkdir(parents=True)
    for name in ("config.yaml", "plates.tsv"):
        (folder / "config" / name).write_bytes((ROOT / "config" / name).read_bytes())
    (folder / "resources").symlink_to(ROOT / "resources")
    (folder / "Snakefile").write_text(SNAKEFILE.format(root=ROOT, n_jobs=n_jobs))
    options = ["--executor", "slurm", "--jobs", "1", "--default-resources", "mem_mb=500", "runtime=5", "nodes=1"]
    options += ["--slurm-no-account", "--slurm-init-seconds-before-status-checks", "1", "--cores", "1"]
    began = time.monotonic()
    command = [sys.executable, "-m", "snakemake", *options, *arguments]
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    taken = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    jobs = re.findall(r"has been submitted with SLURM jobid (\d+)", done.stdout)
    return {"slurm_job_overhead_s": statistics.median(map(_seconds, jobs)), "whole_run_s": taken / n_jobs}


def _seconds(job: str) -> float:
    """From start to end, as Slurm knows it."""
    shown = subprocess.run(["scontrol", "show", "job", job], text=True, capture_output=True, check=True).stdout
    hours, minutes, seconds = re.search(r"RunTime=(\d+):(\d+):(\d+)", shown).groups()
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "results", help="seen by the nodes")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("snakemake", nargs="*", help="arguments for Snakemake, after --")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="overhead-", dir=given.folder) as folder:
        found = measure_overhead(Path(folder, "campaign"), given.jobs, tuple(given.snakemake))
    print(" ".join(f"{name}={value:.1f}" for name, value in reversed(found.items())))


if __name__ == "__main__":
    main()
