"""The Slurm that these tests need, and the campaigns they run on it."""

import copy
import dataclasses

import cluster
import pytest
from campaign import TOY_CONFIG, make_campaign
from measured import DEFAULTS

from plateline import measure

# A segmenter that says which device it saw, dies once if told to, and waits after as many fields as it is told.
LAB = """
import json, os, signal, time
from pathlib import Path
from plateline.segment.classical import otsu

done = []

def segment(image, *, smooth_px):
    line = {"job": os.environ.get("SLURM_JOB_ID"), "device": os.environ.get("CUDA_VISIBLE_DEVICES")}
    line |= {"field": f"{image.sum():.1f}", "began": time.time()}
    labels = otsu(image, smooth_px=smooth_px, min_area_px=20, min_distance_px=4)
    if Path("die.txt").exists():
        Path("die.txt").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(line)
    with Path("segmented.txt").open("a") as file:
        file.write(json.dumps(line) + "\\n")
    while Path("hold.txt").exists() and len(done) >= int(Path("hold.txt").read_text()):
        time.sleep(0.1)
    return labels
"""
FAMILIES = ["AreaShape", "Intensity"]
PLATES = {"P1": {"parts": "3"}, "P2": {"parts": "2"}}


@pytest.fixture(scope="session")
def slurm():
    """The Slurm of up.sh; a test is skipped where it is not up, also on a cluster whose nodes are in use."""
    if not cluster.is_ours():
        pytest.skip("the Slurm of tests/slurm/up.sh is not up; make slurm-test starts it")


@pytest.fixture(scope="session")
def campaign(tmp_path_factory):
    """Makes campaigns of two plates, 3 and 2 parts, on the slow segmenter, with the site's profile."""
    # Once, and not by every job of every copy.
    measure.no_cells(["DNA", "GFP"], dataclasses.replace(DEFAULTS, families=FAMILIES))

    def make(name, plates=PLATES):
        config = copy.deepcopy(TOY_CONFIG)
        config["segment"] |= {"method": "lab:segment", "custom": {"smooth_px": 1.0}}
        config["measure"] = {"families": FAMILIES}
        folder = make_campaign(tmp_path_factory.mktemp(name) / "campaign", plates, config=config)
        (folder / "lab.py").write_text(LAB)
        (folder / "slurm").mkdir()
        shipped = (folder / "clone" / "slurm" / "config.yaml").read_text()
        profile = cluster.site_profile(shipped, accounts=cluster.accounting())
        (folder / "slurm" / "config.yaml").write_text(profile)
        return folder

    return make
