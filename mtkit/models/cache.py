"""The Transformer's decoding state: keys and values that are written once and never moved."""

from torch import Tensor

from mtkit.models.seq2seq import reorder


class KVCache:
    """Self-attention keys and values of all hypotheses of a sentence, in one row of slots.

    At step t hypothesis k writes slot t * K + k, and there its keys stay. Which slots a hypothesis
    may see, those of its own past, is the table `ancestry` [B, 1, K, slots]: 0 for a slot that it
    sees and -inf for one that it does not, to be added to attention scores. A hypothesis that
    changes its parent changes a row of that table and nothing else: a beam is a query length.
    """

    def __init__(
        self, layers: int, beam: int, capacity: int, like: Tensor, padding: Tensor | None = None
    ) -> None:
        """Room for `capacity` steps; `like` [B, H, S, Dh] gives batch, heads, type and device.

        `padding` [B, 1, 1, S], what every step adds to its scores of the memory, is only kept.
        """
        batch, heads, _, head_width = like.shape
        shape = (batch, heads, capacity * beam, head_width)
        self.keys = [like.new_empty(shape) for _ in range(layers)]
        self.values = [like.new_empty(shape) for _ in range(layers)]
        hidden = float("-inf")
        self.ancestry = like.new_full((batch, 1, beam, capacity * beam), hidden)
        self.padding = padding
        self.own = like.new_full((beam, beam), hidden).fill_diagonal_(0.0)  # [K, K]
        self.beam = beam
        self.length = 0

    def begin_step(self) -> Tensor | None:
        """Open the slots of this step; what each hypothesis sees [B, 1, K, slots], None: all."""
        first, self.length = self.length * self.beam, self.length + 1
        if self.beam == 1:
            return None
        self.ancestry[..., first : self.used] = self.own
        return self.ancestry[..., : self.used]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write this step's keys and values [B, H, K, Dh]; all so far [B, H, slots, Dh]."""
        new = slice(self.used - self.beam, self.used)
        self.keys[layer][:, :, new] = keys
        self.values[layer][:, :, new] = values
        return self.keys[layer][:, :, : self.used], self.values[layer][:, :, : self.used]

    @property
    def used(self) -> int:
        """Slots written so far."""
        return self.length * self.beam

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences [B'], B' <= B: what is used of them moves to the front."""
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                kept = tensor[:, :, : self.used].index_select(0, sentences)
                tensors[layer] = tensor[: len(sentences)]
                tensors[layer][:, :, : self.used] = kept
        self.ancestry = self.ancestry.index_select(0, sentences)
        if self.padding is not None:
            self.padding = self.padding.index_select(0, sentences)

    def follow(self, parents: Tensor) -> None:
        if self.beam > 1:
            past = self.ancestry[:, 0, :, : self.used]  # [B, K, slots]
            self.ancestry[:, 0, :, : self.used] = reorder(past, parents)
