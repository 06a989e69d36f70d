"""Random segmentations that are the same in every process: BPE-dropout, subword regularisation.

SentencePiece samples too, but mixes something of the process into its seed: the same seed gives
other pieces after a restart, and a run could not be repeated or resumed exactly.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import sentencepiece

from mtkit.symbols import UNK

# Segmentations drawn of a word, of which each occurrence takes one: a draw costs as much as
# hundreds of look-ups, and a corpus repeats its words.
POOL = 64
_N_BEST = 64  # l of Kudo 2018, 3.3


class Sampler:
    """Draws segmentations of words, each of them by a generator of its own.

    No piece reaches beyond a word, so the words of a line are drawn independently. A word that
    cannot be taken apart by merging (it holds a tag, or characters without pieces) keeps its best
    segmentation.
    """

    def __init__(self, pieces: sentencepiece.SentencePieceProcessor, share: float) -> None:
        """`share` is the probability of BPE-dropout, or alpha of subword regularisation."""
        self.pieces = pieces
        self.share = share
        size = pieces.get_piece_size()
        plain = (i for i in range(size) if not (pieces.is_control(i) or pieces.is_byte(i)))
        self.scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in plain if i != UNK}
        self.pools: dict[str, list[list[int] | None]] = {}
        self.fixed: dict[str, list[int] | None] = {}  # None: can be taken apart
        self.draw = self._draw_bpe
        try:
            pieces.nbest_encode("a", nbest_size=2, out_type=int)
            self.draw = self._draw_unigram
        except RuntimeError:
            pass  # SentencePiece's way to say that this is no unigram model

    def encode(self, texts: Sequence[str], seed: int) -> list[list[int]]:
        """A segmentation of each text: the same for the same seed, share and vocabulary."""
        lines = [self.pieces.normalize(text).split("▁") for text in texts]
        random = np.random.Generator(np.random.PCG64(seed))
        choices = iter(random.integers(POOL, size=sum(map(len, lines))).tolist())
        return [
            [token for word in words if word for token in self.segmentation(word, next(choices))]
            for words in lines
        ]

    def segmentation(self, word: str, index: int) -> list[int]:
        """The ids of segmentation `index` < POOL of a word."""
        pool = self.pools.get(word)
        if pool is None:
            pool = self.pools[word] = [None] * POOL
        found = pool[index]
        if found is None:
            # A text as seed is hashed by SHA-512: nothing of the process is in it.
            found = pool[index] = self.draw(word, Random(f"{self.share} {index} {word}"))
        return found

    def _draw_bpe(self, word: str, random: Random) -> list[int]:
        if word not in self.fixed:
            best: list[int] = self.pieces.encode(word, out_type=int)
            whole = [self.pieces.id_to_piece(token) for token in best]
            mergeable = merged("▁" + word, self.scores, lambda: False) == whole
            self.fixed[word] = None if mergeable else best
        fixed = self.fixed[word]
        if fixed is not None:
            return fixed
        drawn = merged("▁" + word, self.scores, lambda: random.random() < self.share)
        return [self.pieces.piece_to_id(piece) for piece in drawn]

    def _draw_unigram(self, word: str, random: Random) -> list[int]:
        found: list[list[int]] = self.pieces.nbest_encode(word, nbest_size=_N_BEST, out_type=int)
        scores = [sum(map(self.pieces.get_score, ids)) for ids in found]  # log-probabilities
        weights = [math.exp(self.share * (score - max(scores))) for score in scores]
        return random.choices(found, weights)[0]


def merged(word: str, scores: dict[str, float], dropped: Callable[[], bool]) -> list[str]:
    """A word's characters, merged by the best of the known pairs again and again.

    Each merge that comes up falls out where `dropped()` says so (Provilkov et al. 2020, 3.1); the
    leftmost of equals comes first, as in SentencePiece.
    """
    symbols: list[str | None] = list(word)
    before = list(range(-1, len(symbols) - 1))
    after = [*range(1, len(symbols)), -1]
    agenda: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right < 0:
            return
        pair = f"{symbols[left]}{symbols[right]}"
        if pair in scores:
            heapq.heappush(agenda, (-scores[pair], left, right, pair))

    for left in range(len(symbols) - 1):
        offer(left, left + 1)
    while agenda:
        _, left, right, pair = heapq.heappop(agenda)
        one, other = symbols[left], symbols[right]
        if one is None or other is None or one + other != pair or dropped():
            continue  # a symbol of it has been merged with another, or the merge is left out
        symbols[left], symbols[right] = pair, None
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [symbol for symbol in symbols if symbol is not None]
