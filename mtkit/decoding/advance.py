"""What a step of the search makes of logits: who goes on, from whom, and who has finished."""

import ctypes
from math import inf

import torch
from torch import Tensor

from mtkit.decoding.candidates import continuations
from mtkit.decoding.hypotheses import Beam
from mtkit.decoding.options import SearchOptions
from mtkit.models.compiler import addresses, numbers_and_addresses
from mtkit.symbols import EOS


def advance(
    beam: Beam,
    logits: Tensor,
    options: SearchOptions,
    last: int | None,
    kernels: ctypes.CDLL | None = None,
) -> Beam:
    """The step that follows from logits [B, K, V] (overwritten); `last`: some may end there.

    With kernels one compiled function does it, on a CPU; what is written here is what it does.

    Among the 2K best candidates at most K end in EOS, one for each parent. So they are ranked by
    counting: those that go on are the K best without EOS, and an end has rank r when r candidates
    of either sort are better.
    """
    if kernels is not None:
        return _advance_compiled(kernels, beam, logits, options, last)
    width = options.width
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    ends = logits[:, :, EOS].clone()
    shift, live, parents, tokens = continuations(beam.live, logits, options.forbidden)
    ends += shift
    if last is not None:
        live = live.masked_fill((beam.limits == last).unsqueeze(1), -inf)
    rivals = torch.cat((live, ends), 1).unsqueeze(1)  # [B, 1, 2K]
    rank = (rivals > ends.unsqueeze(2)).sum(2)  # [B, K]
    ended = ends.masked_fill(rank >= width, -inf)
    finished = beam.finished + (ended > -inf).sum(1)
    done = (finished >= width * options.patience).unsqueeze(1)
    return Beam(
        beam.sentences, beam.limits, tokens, parents, live.masked_fill(done, -inf), ended, finished
    )


class _Advance(ctypes.Structure):
    """The record of kernels/search.cpp, field by field."""

    _fields_ = (
        *numbers_and_addresses("sentences beam words end last forbidden", ""),
        ("enough", ctypes.c_double),
        *numbers_and_addresses("", "logits live limits finished"),
        *numbers_and_addresses("", "tokens parents next_live ended next_finished"),
    )


def _advance_compiled(
    kernels: ctypes.CDLL, beam: Beam, logits: Tensor, options: SearchOptions, last: int | None
) -> Beam:
    logits = logits.float().contiguous()
    made = Beam(
        beam.sentences,
        beam.limits,
        *map(torch.empty_like, (beam.tokens, beam.parents, beam.live, beam.ended, beam.finished)),
    )
    call = _Advance(
        *logits.shape,
        EOS,
        last or 0,
        sum(1 << token for part in options.forbidden for token in range(part.start, part.stop)),
        options.width * options.patience,
        *addresses((logits, beam.live, beam.limits, beam.finished)),
        *addresses((made.tokens, made.parents, made.live, made.ended, made.finished)),
    )
    kernels.advance(ctypes.byref(call))
    return made
