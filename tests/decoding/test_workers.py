"""Several processes give what one gives, in the same order, and end when they should."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtkit import model_dir
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.hypotheses import Hypothesis
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.translator import Translator
from mtkit.decoding.workers import Batch, Workers, own_device, own_processors
from mtkit.errors import ModelError, MTKitError, UsageError
from mtkit.models.seq2seq import Seq2Seq
from tests.decoding.conftest import FAST
from tests.decoding.test_translator import fuzzed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def echo(batch: Batch) -> list[list[Hypothesis]]:
    """Each sentence is its own translation; some tokens make trouble."""
    if [666] in batch[1]:
        raise UsageError("a token that nobody likes")
    if [9] in batch[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return [[Hypothesis(tuple(row), 0.0, 0.0)] for row in batch[1]]


def test_results_come_in_the_order_of_the_batches() -> None:
    workers = Workers(echo, 3)
    options = SearchOptions()
    given: list[Batch] = [(options, [[number], [number, 1]], None) for number in range(10, 40)]
    for _ in range(2):
        found = workers.map(given)
        assert [[best[0].tokens for best in batch] for batch in found] == [
            [(number,), (number, 1)] for number in range(10, 40)
        ]
    workers.close()
    assert all(not process.is_alive() for process in workers._processes)


def test_error_in_a_worker_is_raised_here() -> None:
    workers = Workers(echo, 2)
    with pytest.raises(UsageError, match="nobody likes"):
        workers.map([(SearchOptions(), [[666]], None)])
    workers.close()


def test_death_of_a_worker_is_told() -> None:
    workers = Workers(echo, 2)
    with pytest.raises(MTKitError, match="ended unexpectedly") as caught:
        workers.map([(SearchOptions(), [[9]], None)])
    assert "--workers 1" in str(caught.value.hint)
    assert "--batch" not in str(caught.value.hint)  # which most commands have not
    with pytest.raises(MTKitError, match="ended unexpectedly"):  # also of one that had died before
        workers.map([(SearchOptions(), [[1]], None)])
    workers.close()


def test_translations_are_the_same_for_any_number_of_workers(
    model: Seq2Seq,
    tokenizer: Tokenizer,
) -> None:
    lines = list(fuzzed(300, seed=9))
    translator = Translator(model, tokenizer, tokenizer, FAST, max_source_length=24, max_tokens=99)
    alone = translator.translate(lines)
    for count in (2, 3):
        translator.workers = count
        assert translator.translate(lines) == alone
        assert translator._pool is not None
        translator.close()


def test_threads_that_share_a_translator_get_their_own_translations(
    model: Seq2Seq, tokenizer: Tokenizer
) -> None:
    lines = list(fuzzed(120, seed=4))
    translator = Translator(model, tokenizer, tokenizer, FAST, max_source_length=24, max_tokens=99)
    halves = lines[::2], lines[1::2]
    alone = [translator.translate(half) for half in halves]
    translator.workers = 2
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(translator.translate, halves)) == alone
    translator.close()


def test_processors_are_shared_among_what_torchrun_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert own_processors() >= 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4096")
    assert own_processors() == 1


def test_processes_of_torchrun_take_a_cuda_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(path: Path, device: str) -> None:
        asked.append(device)
        raise ModelError("nothing is loaded here")

    monkeypatch.setattr(model_dir, "load", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for world in ("1", "4"):
        monkeypatch.setenv("WORLD_SIZE", world)
        for device in ("auto", "cuda", "cpu"):
            with pytest.raises(ModelError):
                Translator.load("runs/a", device=device)
    assert asked == ["auto", "cuda", "cpu", "cuda:1", "cuda:1", "cpu"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="there is no CUDA device 2 here: there are 2"):
        own_device("auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "auto"


def test_call_that_failed_leaves_nothing_to_the_next(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = list(fuzzed(60, seed=9))
    translator = Translator(model, tokenizer, tokenizer, FAST, max_source_length=24, max_tokens=99)
    alone = translator.translate(lines)
    search = translator._search_batch

    def with_a_fault(batch: Batch) -> list[list[Hypothesis]]:
        if batch[0] != FAST:
            raise UsageError("what nobody likes")
        return search(batch)

    monkeypatch.setattr(translator, "_search_batch", with_a_fault)
    translator.workers = 2
    translator.options = replace(FAST, length_penalty=0.5)
    with pytest.raises(UsageError, match="nobody likes"):
        translator.translate(lines)
    translator.options = FAST
    assert translator.translate(lines) == alone
    translator.close()
