"""The same config and images give the same tables: made again, by any number of workers, in any number of parts."""

from pathlib import Path

import pandas as pd
import pytest
from campaign import TOY_CONFIG, make_campaign, run, write_sheet

pytestmark = pytest.mark.slow

# The default method: a trained network, whose sums could come out in another order.
CONFIG = TOY_CONFIG | {"segment": TOY_CONFIG["segment"] | {"method": "flow"}}
WHAT_PARTS_MAKE = (
    "ingest/P1/part-?",
    "qc/P1/part-?",
    "segment/P1/part-?",
    "segment/P1/part-?.fields",
    "measure/P1/part-?",
)
ALL = "results/hits/hits.parquet", "results/classify/predictions.parquet", "results/assay/P1.parquet"


def tables(folder):
    """Every table of a campaign by its name; those of parts as one, in the order of the parts."""
    results = folder / "results"
    of_parts = {pattern: sorted(results.glob(f"{pattern}.parquet")) for pattern in WHAT_PARTS_MAKE}
    names = {path.relative_to(results).as_posix(): [path] for path in results.rglob("*.parquet")}
    whole = {name: paths for name, paths in names.items() if "/part-" not in name and "ledger" not in name}
    return {name: pd.concat([pd.read_parquet(path) for path in paths]) for name, paths in (of_parts | whole).items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Tables made by one worker in one part, and the tables of the same campaign by two workers in three parts."""
    folder: Path = tmp_path_factory.mktemp("determinism") / "campaign"
    make_campaign(folder, {"P1": {"parts": "1"}}, config=CONFIG)
    run(folder, *ALL, "--cores", "1")
    first = tables(folder)
    write_sheet(folder, {"P1": {"parts": "3"}})
    printed = run(folder, *ALL, "--cores", "2")
    assert "rule classify_screen" in printed
    assert len(list((folder / "results/measure/P1").glob("part-?.parquet"))) == 3
    return first, tables(folder)


def test_every_table_is_the_same(both):
    first, second = both
    assert set(first) == set(second)
    assert {name.split("/")[0] for name in first} >= {
        "ingest",
        "qc",
        "segment",
        "measure",
        "profile",
        "hits",
        "classify",
    }
    for name, table in first.items():
        again = second[name].reset_index(drop=True)
        pd.testing.assert_frame_equal(again, table.reset_index(drop=True), check_exact=True, obj=name)


def test_the_network_found_what_was_drawn(both):
    assert both[0]["segment/P1/part-?.fields"]["n_nuclei"].sum() > 9 * 10
