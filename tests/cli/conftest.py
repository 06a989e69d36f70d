"""A tiny model with random weights, and the command line called as a user calls it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import mtkit
from mtkit.cli.app import run

REPOSITORY = Path(__file__).parents[2]
LINES = [f"the {noun} {verb} a {noun}" for noun in ("cat", "dog", "sun") for verb in ("saw", "ate")]


@dataclass(frozen=True)
class Called:
    """What a command left."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]
Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def call(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Carries out one command in this process, with bytes on a real stdin."""
    stdin = tmp_path / ".stdin"

    def called(*arguments: object, stdin_bytes: bytes = b"") -> Called:
        stdin.write_bytes(stdin_bytes)
        capfdbinary.readouterr()
        with stdin.open() as opened:
            monkeypatch.setattr(sys, "stdin", opened)
            code = run([str(argument) for argument in arguments])
        written = capfdbinary.readouterr()
        return Called(code, written.out.decode(), written.err.decode())

    return called


def _hear_interrupts() -> None:
    """Let Ctrl-C end the process even where a shell has it ignored, as in `pytest &`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def spawn(tmp_path_factory: pytest.TempPathFactory) -> Spawn:
    """Starts `mtkit` as a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "MTKIT_CACHE": str(tmp_path_factory.mktemp("cache")),
    }

    def spawned(*arguments: object, **variables: str) -> "subprocess.Popen[bytes]":
        command: Sequence[str] = [sys.executable, "-m", "mtkit", *map(str, arguments)]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **variables},
            preexec_fn=_hear_interrupts,
        )

    return spawned


@pytest.fixture(scope="session")
def tiny_recipe() -> mtkit.Recipe:
    model = {"kind": "transformer", "width": 16, "heads": 2, "feed_forward": 16}
    model |= {"encoder_layers": 1, "decoder_layers": 1}
    data = {"source_language": "de", "target_language": "en", "max_length": 12}
    search = {"beam": 2, "max_length_ratio": 1.0, "max_length_offset": 3}
    return mtkit.Recipe.from_table({"data": data, "model": model, "search": search})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: mtkit.Recipe) -> Path:
    """A model directory that translates, if badly."""
    import torch

    folder = tmp_path_factory.mktemp("models") / "tiny"
    section = mtkit.TokenizerSection(kind="bpe", vocabulary=300)
    tokenizer = mtkit.Tokenizer.train(LINES, section)
    torch.manual_seed(1)
    built = mtkit.build(tiny_recipe.model, tokenizer.size, tokenizer.size)
    mtkit.save(folder, built, tiny_recipe, tokenizer, tokenizer, {"title": "tiny", "pairs": 6})
    return folder
