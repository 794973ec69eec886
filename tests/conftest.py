"""What several tests share: the folder of real data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data():
    """Folder of real images and tables; the test is skipped where it is absent."""
    folder = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set PLATELINE_DATA")
    return folder
