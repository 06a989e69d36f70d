"""What several test files share."""

import os
from pathlib import Path

import pytest

# Hub libraries must not try the network; tests of downloads point them at loopback.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout; tests that need it are skipped without it."""
    folder = Path(
        os.environ.get("MTKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    ).resolve()
    if not folder.is_dir():
        pytest.skip(f"the real corpora are not at {folder} (set MTKIT_TEST_DATA to their folder)")
    return folder
