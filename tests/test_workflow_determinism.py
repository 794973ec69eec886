"""The same config and images give the same tables: on a rerun, for any number of workers and of parts."""

import hashlib

import pandas as pd
import pytest
from campaign import TOY_CONFIG, make_campaign, run, write_sheet

pytestmark = pytest.mark.slow

# The default method: a trained network, whose sums could come out in another order.
CONFIG = TOY_CONFIG | {"segment": TOY_CONFIG["segment"] | {"method": "flow"}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A campaign whose tables were all made by one worker, each plate in one part."""
    folder = tmp_path_factory.mktemp("determinism") / "campaign"
    make_campaign(folder, {"P1": {"parts": "1"}, "P2": {"parts": "1"}}, config=CONFIG)
    run(folder, "results/ledger.parquet", "--cores", "1")
    return folder


def digests(folder):
    """Digest of every table and array of a campaign, by name."""
    files = [path for ending in ("parquet", "npy", "json") for path in (folder / "results").rglob(f"*.{ending}")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if ".zarr" not in path.as_posix() and path.name != "run.json"  # it names the time
    }


def whole(folder, stage, plate, kind=""):
    """What the parts of a plate hold together, as one frame."""
    found = sorted((folder / "results" / stage / plate).glob(f"part-?{kind}.parquet"))
    return pd.concat([pd.read_parquet(path) for path in found], ignore_index=True)


def test_a_rerun_with_two_workers_gives_the_same_bytes(alone):
    before = digests(alone)
    run(alone, "results/ledger.parquet", "--forceall")
    assert digests(alone) == before
    assert {name.split("/")[1] for name in before} >= {"ingest", "qc", "segment", "measure", "profile", "hits"}


def test_three_parts_with_two_workers_hold_what_one_part_did(alone):
    kinds = [("ingest", ""), ("qc", ""), ("segment", ""), ("segment", ".fields"), ("measure", "")]
    before = {kind: whole(alone, kind[0], "P1", kind[1]) for kind in kinds}
    profile = pd.read_parquet(alone / "results/profile/P1.parquet")
    write_sheet(alone, {"P1": {"parts": "3"}, "P2": {"parts": "1"}})
    run(alone, "results/profile/P1.parquet")
    assert len(list((alone / "results/measure/P1").glob("part-?.parquet"))) == 3
    for kind, table in before.items():
        pd.testing.assert_frame_equal(whole(alone, kind[0], "P1", kind[1]), table, check_exact=True)
    assert before["segment", ".fields"]["n_nuclei"].sum() > 100
    pd.testing.assert_frame_equal(pd.read_parquet(alone / "results/profile/P1.parquet"), profile, check_exact=True)
