"""A small experiment: an RNN whose recurrent matrices are too large, with and without clipping."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtkit.analysis.gradients import spectral_radius
from mtkit.analysis.losses import inputs_of
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import RecurrentSection

RADII = (0.9, 2.5)  # of a matrix that lets gradients fade, and of one that lets them grow
_RATE = 0.5
_CLIP = 1.0


@dataclass(frozen=True)
class Course:
    """How some updates of plain gradient descent went."""

    radius: float
    largest: float  # norm of the whole gradient before clipping
    start: float  # loss per token of the first batch
    highest: float  # the highest loss of any batch; inf when it was lost
    loss: float  # per token, the mean of the last quarter of updates; inf when it was lost


@dataclass(frozen=True)
class Exploding:
    """Three courses over the same batches from the same weights but for the radius."""

    seed: int
    updates: int
    small: Course  # unclipped
    large: Course  # unclipped
    clipped: Course  # the large radius, with clipping


def explode(
    batches: Sequence[tuple[Tensor, Tensor]], vocabulary: int, *, width: int = 96, seed: int = 1
) -> Exploding:
    """Train RNNs over source [B, S] and target [B, T] batches, which hold no padding."""
    low, high = RADII
    section = RecurrentSection.model_validate(
        {
            "kind": "recurrent",
            "cell": "rnn",
            "memory": "context",
            "width": width,
            "embedding": width // 2,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "bidirectional": False,
            "dropout": 0.0,
        }
    )

    def course(radius: float, clip: float) -> Course:
        torch.manual_seed(seed)
        model = build(section, vocabulary, vocabulary)
        enlarge(model, radius)
        return _descend(model, batches, radius, clip)

    return Exploding(seed, len(batches), course(low, inf), course(high, inf), course(high, _CLIP))


def enlarge(model: nn.Module, radius: float) -> None:
    """Scale every recurrent matrix to a spectral radius, and all that enters to a tenth.

    Small inputs leave tanh at its steep middle, where Pascanu et al. 2013 find the explosion.
    """
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.RNNBase):
                entering, recurrent = layer.all_weights[0][:2]
                recurrent.mul_(radius / spectral_radius(layer))
                entering.mul_(0.1)


def _descend(
    model: Seq2Seq, batches: Sequence[tuple[Tensor, Tensor]], radius: float, clip: float
) -> Course:
    largest = 0.0
    losses = []
    for source, target in batches:
        model.zero_grad()
        logits = model(source, inputs_of(target))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), clip))
        losses.append(float(loss.detach()))
        if not isfinite(losses[-1]) or not isfinite(norm):
            return Course(radius, inf, losses[0], inf, inf)
        largest = max(largest, norm)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(_RATE * parameter.grad)
    return Course(
        radius, largest, losses[0], max(losses), mean(losses[-max(1, len(losses) // 4) :])
    )
