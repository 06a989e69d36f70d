"""An exponential moving average of the weights: it is judged and kept in their place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mtkit.models.seq2seq import Seq2Seq
from mtkit.training.sharding import local


class MovingAverage:
    """After each update the mean moves towards the weights: mean = d mean + (1 - d) weights.

    d is the decay asked for, at first (1 + t) / (10 + t) of update t, so that the first weights,
    which are random, are soon forgotten. Means of the weights along the way are old (Polyak and
    Juditsky 1992); this one is a function of the updates made and needs no end of training.
    """

    def __init__(self, model: Seq2Seq, decay: float) -> None:
        # Shared ones once; of sharded ones this process' share.
        self.weights = {name: local(weight.detach()) for name, weight in model.named_parameters()}
        self.decay = decay
        self.mean = {name: weight.clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def follow(self, update: int) -> None:
        """Take in the weights as update number `update`, from 1 on, has left them."""
        share = 1 - min(self.decay, (1 + update) / (10 + update))
        for name, weight in self.weights.items():
            self.mean[name].lerp_(weight, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the mean for weights within, and its own again afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        # Values change places, not tensors: others hold on to the tensors.
        for name, weight in self.weights.items():
            held = weight.clone()
            weight.copy_(self.mean[name])
            self.mean[name].copy_(held)
