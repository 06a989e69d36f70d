"""Optimizers by name, and the learning rate as a pure function of the position."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from mtkit.errors import RecipeError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import OptimizerSection, Recipe, ScheduleSection
from mtkit.training.muon import Muon


def make_optimizer(section: OptimizerSection, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the recipe; weight decay spares vectors, that is norms and biases."""
    every = list(model.parameters())
    vectors = [p for p in every if p.dim() <= 1]
    groups = [
        {"params": [p for p in every if p.dim() > 1], "weight_decay": section.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match section.kind:
        case "muon":
            return _muon(section, model)
        case "adam" | "adamw":
            kind = torch.optim.Adam if section.kind == "adam" else torch.optim.AdamW
            return kind(groups, section.rate, betas=section.betas, eps=section.epsilon, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, section.rate, momentum=section.momentum)
        case "adadelta":
            return torch.optim.Adadelta(groups, section.rate, rho=section.rho, eps=section.epsilon)


def moments(section: OptimizerSection) -> int:
    """How many tensors of a parameter's size the optimizer keeps for it, at most."""
    if section.kind == "sgd":
        return int(section.momentum > 0)
    return 2


def _muon(section: OptimizerSection, model: nn.Module) -> Muon:
    """Muon for matrices between states; a vocabulary's rows are vectors, and go by AdamW."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    if isinstance(model, Seq2Seq):
        tables.add(id(model.output_layer()[0]))
    every = list(model.parameters())
    matrices = [p for p in every if p.dim() == 2 and id(p) not in tables]
    others = [p for p in every if p.dim() > 1 and (p.dim() != 2 or id(p) in tables)]
    vectors = [p for p in every if p.dim() <= 1]
    decay = section.weight_decay
    groups = [
        {"params": matrices, "weight_decay": decay, "orthogonal": True},
        {"params": others, "weight_decay": decay, "orthogonal": False},
        {"params": vectors, "weight_decay": 0.0, "orthogonal": False},
    ]
    groups = [group | {"momentum": section.momentum or 0.95} for group in groups if group["params"]]
    return Muon(groups, section.rate, betas=section.betas, eps=section.epsilon, fused=True)


@dataclass(frozen=True)
class Position:
    """Where training stands; the batch plan and the learning rate follow from it."""

    update: int = 0  # updates made
    epoch: int = 0  # whole epochs made
    index: int = 0  # updates made of this epoch

    def after_update(self, updates_per_epoch: int) -> "Position":
        if self.index + 1 < updates_per_epoch:
            return Position(self.update + 1, self.epoch, self.index + 1)
        return Position(self.update + 1, self.epoch + 1, 0)


@dataclass
class Schedule:
    """The learning rate of every update.

    Only `plateau` has a memory: the cuts made so far and the validations without gain.
    """

    section: ScheduleSection
    peak: float
    width: int
    cuts: int = 0
    waited: int = 0

    def rate(self, update: int, epochs: float, progress: float | None) -> float:
        """The rate of update `update` (from 1), after `epochs` epochs of which a share
        `progress` of the whole training has passed (None: it has no known end).

        Raises RecipeError when a decay to the end is asked for and no end is known.
        """
        warm = self.section.warmup
        match self.section.kind:
            case "noam":
                # Vaswani et al. 2017, 5.3: D^-1/2 min(t^-1/2, t w^-3/2), times the factor.
                ramp = update * max(warm, 1) ** -1.5
                return float(self.peak * self.width**-0.5 * min(update**-0.5, ramp))
            case "inverse_sqrt":
                shape = math.sqrt(max(warm, 1) / max(update, warm, 1))
            case "linear" | "cosine":
                if progress is None:
                    raise RecipeError(
                        f'training.schedule.kind = "{self.section.kind}" needs an end to decay to',
                        "--set training.epochs=10, or training.updates, or training.minutes",
                    )
                left = 1 - min(progress, 1.0)
                if self.section.kind == "cosine":
                    left = (1 + math.cos(math.pi * (1 - left))) / 2
                shape = self.section.floor + (1 - self.section.floor) * left
            case "step":
                past = epochs - self.section.start
                made = 0 if past < 0 else 1 + math.floor(past / self.section.every)
                shape = self.section.factor**made
            case "plateau":
                shape = self.section.factor**self.cuts
            case "constant":
                shape = 1.0
        return self.peak * shape * min(1.0, update / max(warm, 1))

    def observe(self, gained: bool) -> None:
        """Hear whether a validation was the best so far; `plateau` cuts after some without gain."""
        self.waited = 0 if gained else self.waited + 1
        if self.section.kind == "plateau" and self.waited > self.section.patience:
            self.cuts, self.waited = self.cuts + 1, 0


def schedule_of(recipe: Recipe) -> Schedule:
    """The schedule that a recipe asks for, at its first update."""
    training = recipe.training
    return Schedule(training.schedule, training.optimizer.rate, getattr(recipe.model, "width", 1))
