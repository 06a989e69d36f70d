"""What several test files share."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Hub libraries must not try the network; tests of downloads point them at loopback.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # two test processes on two cores: a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is prepared or compiled goes to a folder of the session, never to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTKIT_CACHE", str(tmp_path_factory.getbasetemp() / "mtkit-cache"))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout; tests that need it are skipped without it."""
    folder = Path(
        os.environ.get("MTKIT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    ).resolve()
    if not folder.is_dir():
        pytest.skip(f"the real corpora are not at {folder} (set MTKIT_TEST_DATA to their folder)")
    return folder


Python = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def python() -> Python:
    """Runs Python in a process of its own, with one thread, to an end that must be a good one."""

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Compiled functions, made once a session; tests of them are skipped without a compiler."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("needs a C++ compiler")
    return monkeypatch


class Place:
    """A folder in which, from some moment on, nothing more of any size can be written."""

    LIMIT = 5_000  # bytes of a file, where files are limited

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self._filler = folder / "filler"

    def close(self) -> None:
        """Let there be no more room."""
        if self.kind == "read-only":
            _mount("remount,ro", self.folder)
        elif self.kind == "file limit":
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.LIMIT, most))
        else:
            with self._filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(1 << 16)):
                        pass
                except OSError:
                    pass

    def open(self) -> None:
        """Let there be room again."""
        if self.kind == "read-only":
            _mount("remount,rw", self.folder)
        elif self.kind == "file limit":
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        else:
            self._filler.unlink(missing_ok=True)


def _mount(options: str, folder: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(params=["full disk", "read-only", "file limit"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A small disk that fills up or becomes read-only, or a folder in which files have a limit."""
    folder = tmp_path / "place"
    folder.mkdir()
    made = Place(folder, request.param)
    if made.kind == "file limit":
        yield made
        made.open()
        return
    try:
        _mount("size=16m", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here, which needs root ({error})")
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
