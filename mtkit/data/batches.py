"""From stored ids to batches: a plan that is a pure function, and padding without Python loops."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtkit.data.store import Side
from mtkit.symbols import BOS, PAD

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Pairs side by side, ready for teacher forcing (B, S, T, N as in models/seq2seq.py)."""

    source: Tensor  # [B, S] ids, EOS last, PAD behind
    inputs: Tensor  # [B, T] ids, BOS first
    rows: Tensor  # [N] positions of the flattened [B * T] that hold a label
    labels: Tensor  # [N] the id to predict there, EOS included

    @property
    def tokens(self) -> int:
        """Target tokens that count."""
        return self.labels.numel()

    @property
    def sentences(self) -> int:
        """Pairs that count: none where nothing is predicted."""
        return self.source.size(0) if self.tokens else 0

    def to(self, device: torch.device) -> "Batch":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(move(self.source), move(self.inputs), move(self.rows), move(self.labels))


def nothing_of(batch: Batch) -> Batch:
    """A batch with the same sentences and nothing to predict: its gradient is zero."""
    return replace(batch, rows=batch.rows[:0], labels=batch.labels[:0])


def plan(
    lengths: NDArray[np.int32], max_tokens: int, seed: int, epoch: int, max_sentences: int = 0
) -> list[Indices]:
    """Cut the corpus into batches of pairs of like length, in random order.

    `lengths` [pairs, 2] counts source and target tokens. A batch holds at most `max_tokens` tokens
    as rows x longest side, or one pair if that alone is longer, and no more than `max_sentences`
    pairs if that is not 0. The same arguments give the same batches, so a place in training is
    (epoch, index) and nothing else.
    """
    if len(lengths) == 0:
        return []
    random = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = _walk(lengths, random.random(len(lengths)))
    longest = longest_sides(lengths)[order]
    batches, start, most = [], 0, max_sentences or len(order)
    while start < len(order):
        end = min(start + max(1, max_tokens // int(longest[start])), start + most, len(order))
        while end - start > 1 and (end - start) * int(longest[end - 1]) > max_tokens:
            end = start + max(1, max_tokens // int(longest[end - 1]))
        batches.append(order[start:end])
        start = end
    return [batches[index] for index in random.permutation(len(batches))]


def _walk(lengths: NDArray[np.int32], ties: NDArray[np.float64]) -> Indices:
    """Pairs in an order in which those of like lengths on both sides are neighbours.

    A walk through the plane of lengths on which neighbours differ by one: outward along the squares
    of equal longest side, there and back in turn. Next to no padding on either side. Pairs of equal
    lengths are in the order of `ties`: other neighbours every epoch.
    """
    longest = longest_sides(lengths)
    along = lengths[:, 0] - lengths[:, 1]
    np.negative(along, out=along, where=longest % 2 == 1)
    if longest.max() > 256 or lengths.min() < 1:
        return np.lexsort((ties, along, longest))
    # The same with places on the walk that fit into 16 bits, which are sorted in linear time; what
    # is left to be sorted at each place lies in the processor's cache.
    places = ((longest - 1) ** 2 + longest - 1 + along).astype(np.uint16)
    order: Indices = np.argsort(places, kind="stable")
    counts = np.bincount(places)
    starts = np.cumsum(counts) - counts
    for place in np.flatnonzero(counts > 1):
        some = order[starts[place] : starts[place] + counts[place]]
        some[:] = some[np.argsort(ties[some], kind="stable")]
    return order


def longest_sides(lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    """Of every pair, the tokens of its longer side; many times faster than a maximum by rows."""
    longest: NDArray[np.int32] = np.maximum(lengths[:, 0], lengths[:, 1])
    return longest


def shard(count: int, size: int, rank: int) -> list[int]:
    """Which of `count` batches of an update a process takes: every `size`-th."""
    return list(range(rank, count, size))


def collate(source: Side, target: Side, indices: Indices) -> Batch:
    """The pairs at `indices` as one batch."""
    return assemble(gather(source, indices), gather(target, indices))


def assemble(source: NDArray[np.int64], target: NDArray[np.int64]) -> Batch:
    """Padded sources [B, S] and targets [B, T], both ending in EOS, as a batch."""
    inputs = np.empty_like(target)
    inputs[:, 0] = BOS
    inputs[:, 1:] = target[:, :-1]
    # Behind a sentence's end the inputs hold its EOS once, at a position that counts for nothing.
    rows = np.flatnonzero(target != PAD)
    return Batch(
        torch.from_numpy(source),
        torch.from_numpy(inputs),
        torch.from_numpy(rows),
        torch.from_numpy(target.reshape(-1)[rows]),
    )


def fitting(batch: Batch, max_tokens: int) -> list[Batch]:
    """The batch, or parts of it, rows of like length together, that each keep to `max_tokens`.

    A batch that was planned by other lengths than it has can be wider than planned.
    """
    source, inputs = batch.source.numpy(), batch.inputs.numpy()
    if len(source) == 1 or len(source) * max(source.shape[1], inputs.shape[1]) <= max_tokens:
        return [batch]
    target = np.full_like(inputs, PAD)
    target.reshape(-1)[batch.rows.numpy()] = batch.labels.numpy()
    lengths = np.stack([(source != PAD).sum(1), (target != PAD).sum(1)], 1)  # [B, 2]
    order = np.argsort(lengths.max(1), kind="stable")
    parts, end = [], len(order)
    while end:
        start = max(end - max(1, max_tokens // int(lengths[order[end - 1]].max())), 0)
        rows = order[start:end]
        width, height = lengths[rows].max(0)
        parts.append(assemble(source[rows, :width], target[rows, :height]))
        end = start
    return parts


def gather(side: Side, indices: Indices) -> NDArray[np.int64]:
    """The sequences at `indices` of one side, padded: [B, longest]."""
    starts = side.offsets[indices]
    lengths = side.offsets[indices + 1] - starts
    columns = np.arange(int(lengths.max()))
    inside = columns < lengths[:, None]  # [B, longest]
    places = np.where(inside, starts[:, None] + columns, 0)
    return np.where(inside, side.ids[places], PAD).astype(np.int64)


def pad(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Sequences of ids, padded: [B, longest]."""
    rows = np.full((len(sequences), max(map(len, sequences))), PAD, dtype=np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows
