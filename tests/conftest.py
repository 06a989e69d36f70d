"""What several test files share."""

import os
import shutil
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


@pytest.fixture
def compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> pytest.MonkeyPatch:
    """Compiled functions, made once a session; tests of them are skipped without a compiler."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("needs a C++ compiler")
    monkeypatch.setenv("MTKIT_CACHE", str(tmp_path_factory.getbasetemp() / "mtkit-cache"))
    return monkeypatch
