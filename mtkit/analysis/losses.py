"""Where the loss falls, and what training and stepping cost: measured on loaded models."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mtkit.models.seq2seq import Seq2Seq
from mtkit.symbols import BOS


@dataclass(frozen=True)
class Speed:
    """CPU seconds that one model takes for one batch, turn by turn."""

    rung: str
    tokens: int  # target tokens of the batch
    training: tuple[float, ...]  # a loss and its gradient
    at_once: tuple[float, ...]  # the decoder, teacher forcing
    stepped: tuple[float, ...]  # the decoder, the same positions one by one


Rows = Sequence[tuple[Tensor, Tensor]]  # source [1, S] and target [1, T], both ending in EOS
_TIMED = 7


@torch.inference_mode()
def token_losses(model: Seq2Seq, rows: Rows, *, shuffle: int | None = None) -> list[Tensor]:
    """The cross-entropy of every target token [T], sentence by sentence.

    With a seed to `shuffle` by, the source tokens before EOS are put in random order first.
    """
    random = torch.Generator().manual_seed(shuffle or 0)
    found = []
    for source, target in rows:
        if shuffle is not None:
            order = torch.randperm(source.size(1) - 1, generator=random)
            source = torch.cat([source[:, :-1][:, order], source[:, -1:]], 1)
        logits = model(source, inputs_of(target))[0]
        found.append(F.cross_entropy(logits, target[0], reduction="none"))
    return found


def by_thirds(losses: Sequence[Tensor]) -> tuple[tuple[float, float, float], ...]:
    """The mean loss of the first, middle and last third of every target of three tokens or more."""
    found = []
    for sentence in losses:
        if len(sentence) >= 3:
            first, middle, last = (float(part.mean()) for part in sentence.tensor_split(3))
            found.append((first, middle, last))
    return tuple(found)


def inputs_of(target: Tensor) -> Tensor:
    """Labels [B, T] -> what the decoder is fed, BOS first."""
    return F.pad(target[:, :-1], (1, 0), value=BOS)


def cpu_seconds(*works: Callable[[], object]) -> tuple[tuple[float, ...], ...]:
    """CPU times of each work, which other programs on the machine change little.

    The works take turns, so that what does change falls on all of them alike.
    """
    for work in works:
        work()
    took: list[list[float]] = [[] for _ in works]
    for _ in range(_TIMED):
        for work, times in zip(works, took, strict=True):
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
    return tuple(map(tuple, took))


def updating(model: Seq2Seq, source: Tensor, target: Tensor) -> Callable[[], None]:
    """One loss and its gradient as something to time, source [B, S], target [B, T]."""

    def update() -> None:
        model.train()
        model.zero_grad()
        logits = model(source, inputs_of(target))
        F.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()  # type: ignore[no-untyped-call]

    return update


@torch.inference_mode()
def decoding(
    model: Seq2Seq, source: Tensor, target: Tensor
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The decoder over known targets as works to time: all positions at once, and step by step."""
    model.eval()
    memory = model.encode(source)
    inputs = inputs_of(target)

    @torch.inference_mode()
    def at_once() -> None:
        model.eval()
        model.decode(inputs, memory)

    @torch.inference_mode()
    def stepped() -> None:
        model.eval()
        state = model.start(memory, 1, inputs.size(1))
        for tokens in inputs.unbind(1):
            model.step(tokens.unsqueeze(1), memory, state)

    return at_once, stepped


def speeds(models: Mapping[str, Seq2Seq], source: Tensor, target: Tensor) -> list[Speed]:
    """What training and decoding cost every model, on one batch, in turns."""
    works: list[Callable[[], None]] = []
    for model in models.values():
        works += [updating(model, source, target), *decoding(model, source, target)]
    times = cpu_seconds(*works)
    tokens = target.numel()
    return [
        Speed(name, tokens, *times[3 * place : 3 * place + 3]) for place, name in enumerate(models)
    ]
