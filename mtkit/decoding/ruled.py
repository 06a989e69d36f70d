"""The steps of a search with rules: of samples, of groups, of demands that sentences make."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import torch
from torch import Tensor

from mtkit.decoding.choices import Choice, best, drawn, in_turns
from mtkit.decoding.demands import Demand, Progress
from mtkit.decoding.hypotheses import Beam
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.rules import forbid_phrases, forbid_repeats, force_prefix, let_end
from mtkit.models.seq2seq import reorder
from mtkit.symbols import BOS, EOS, PAD, UNK


class Ruled:
    """What a search with rules knows of its hypotheses; it leaves and follows as they do."""

    def __init__(
        self, source: Tensor, beam: Beam, demands: Sequence[Demand], options: SearchOptions
    ) -> None:
        """For the hypotheses that `begin` gives for source ids [B, S]."""
        self.options = options
        self.demands = list(demands)
        self.past = beam.tokens.new_empty(*beam.tokens.shape, 0)  # [B, K, t]
        self.draws: Tensor | None = None  # [B, T, K]
        if options.sampled:
            shape = (int(beam.limits.max()), options.width)
            rows = [_drawn(row, options.seed, shape) for row in source.tolist()]
            self.draws = torch.stack(rows).to(source.device)
        self.progress = {
            row: [Progress.start(tuple(dict.fromkeys(demand.constraints)))] * options.width
            for row, demand in enumerate(demands)
            if demand.constraints
        }

    def begin(self, beam: Beam) -> Beam:
        """One hypothesis for each group, and all of them where they are drawn."""
        apart = 1 if self.options.sampled else self.options.width // self.options.groups
        live = beam.live.clone()
        live[:, ::apart] = 0.0
        finished = beam.finished.unsqueeze(1).repeat(1, self.options.groups)
        return replace(beam, live=live, finished=finished)

    def select(self, rows: list[int]) -> None:
        """Keep the sentences of these rows."""
        index = torch.tensor(rows, device=self.past.device)
        self.past = self.past.index_select(0, index)
        self.demands = [self.demands[row] for row in rows]
        if self.draws is not None:
            self.draws = self.draws.index_select(0, index)
        self.progress = {
            new: self.progress[old] for new, old in enumerate(rows) if old in self.progress
        }

    def advance(self, beam: Beam, logits: Tensor) -> Beam:
        """The step that follows from logits [B, K, V]."""
        options, position = self.options, self.past.size(2) + 1
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        true = logits.log_softmax(2)
        logs = self._allowed(true, position, beam.limits == position)
        if self.draws is not None:
            cut = (options.temperature, options.top_k, options.top_p)
            choice = drawn(beam.live, logs, self.draws[:, position - 1], cut)
        else:
            choice = best(beam.live, logs, options.groups, options.diversity)
            for row in self.progress:
                self._take_turns(row, beam, logs, choice)
        self.past = torch.cat((reorder(self.past, choice.parents), choice.tokens.unsqueeze(2)), 2)
        return self._counted(beam, replace(beam, **vars(choice)))

    def _take_turns(self, row: int, beam: Beam, logs: Tensor, choice: Choice) -> None:
        """Write the choice for a sentence with constraints, from logs [B, K, V].

        What finishes after a hypothesis that held them all must hold them too.
        """
        before = self.progress[row]
        chosen, ended = in_turns(beam.live[row], logs[row], before)
        if bool(beam.finished[row].any()):
            ended = [end if item.met else -inf for end, item in zip(ended, before, strict=True)]
        chosen += [(-inf, 0, PAD, before[0])] * (self.options.width - len(chosen))
        values, parents, tokens, progress = zip(*chosen, strict=True)
        choice.live[row] = logs.new_tensor(values)
        choice.ended[row] = logs.new_tensor(ended)
        choice.parents[row] = beam.parents.new_tensor(parents)
        choice.tokens[row] = beam.tokens.new_tensor(tokens)
        self.progress[row] = list(progress)

    def _allowed(self, true: Tensor, position: int, must_end: Tensor) -> Tensor:
        """Log-probabilities [B, K, V] of what may follow; where a sentence must end [B], EOS."""
        options = self.options
        logs = true.clone()
        logs[:, :, [PAD, BOS]] = -inf
        if not options.unknown:
            logs[:, :, UNK] = -inf
        if position <= options.min_length:
            logs[:, :, EOS] = -inf
        if options.no_repeat:
            forbid_repeats(logs, self.past, options.no_repeat)
        forbid_phrases(logs, self.past, self.demands)
        for row, progress in self.progress.items():
            unmet = [index for index, item in enumerate(progress) if not item.met]
            logs[row, unmet, EOS] = -inf
        force_prefix(logs, true, self.demands, position)
        let_end(logs, true, must_end)
        return logs

    def _counted(self, before: Beam, beam: Beam) -> Beam:
        """The beam without the live hypotheses of groups in which enough have finished."""
        options = self.options
        groups, width = options.groups, options.width // options.groups
        ended = (beam.ended > -inf).view(-1, groups, width).sum(2)  # [B, groups]
        finished = before.finished + ended
        if options.sampled:
            return replace(beam, finished=finished)
        done = (finished >= width * options.patience).repeat_interleave(width, 1)  # [B, K]
        return replace(beam, live=beam.live.masked_fill(done, -inf), finished=finished)


def _drawn(row: list[int], seed: int, shape: tuple[int, int]) -> Tensor:
    """Numbers of [0, 1) that depend on the seed and on the sentence, and on nothing beside it."""
    tokens = [token for token in row if token != PAD]
    digest = hashlib.blake2b(repr((seed, tokens)).encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.rand(shape, generator=generator, dtype=torch.float64)
