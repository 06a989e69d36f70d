"""The training loop: it can be read aloud."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mtkit.data.batches import Batch
from mtkit.errors import TrainingError
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import TrainingSection, ValidationSection
from mtkit.training.checkpoint import Checkpoints, Progress
from mtkit.training.distributed import World
from mtkit.training.events import Event, Progressed, Saved, Validated
from mtkit.training.feed import Feed
from mtkit.training.host import multiplies_bfloat16
from mtkit.training.judge import Judgement
from mtkit.training.loss import Objective
from mtkit.training.moving_average import MovingAverage
from mtkit.training.optimizer import Schedule, make_optimizer

REPORT_SECONDS = 1.0
SAVE_SECONDS = 600.0


@dataclass
class Sums:
    """What was seen since the last report; on the device, so that no update waits for it."""

    loss: Tensor
    norm: Tensor
    tokens: int = 0
    updates: int = 0
    since: float = 0.0


class Trainer:
    """Moves a model from where `progress` stands to the end that the recipe sets.

    It decides nothing that is not a function of its recipe sections, the data and the position, so
    that a run that was stopped goes on exactly as if it had not been.
    """

    def __init__(
        self,
        model: Seq2Seq,
        feed: Feed,
        training: TrainingSection,
        validation: ValidationSection,
        world: World,
        checkpoints: Checkpoints,
    ) -> None:
        self.model = model
        self.feed = feed
        self.training = training
        self.validation = validation
        self.world = world
        self.checkpoints = checkpoints
        self.objective = world.wrap(Objective(model, training.label_smoothing, training.r_drop))
        self.optimizer = make_optimizer(training.optimizer, model)
        self.moving_average = MovingAverage(model, training.ema) if training.ema else None
        self.progress = Progress()
        self.precision = choose_precision(training.precision, world.device)
        self.emit: Callable[[Event], None] = lambda event: None
        self.judge: Callable[[], Judgement] | None = None
        self.keep_best: Callable[[], None] = lambda: None
        self.stop_requested = False

    def stop(self) -> None:
        """Ask for the end of training after the update that is being made."""
        self.stop_requested = True

    # -- the loop ---------------------------------------------------------------------------

    def fit(self, schedule: Schedule) -> str:
        """Train until the end; returns why it ended. Raises TrainingError when the loss is lost."""
        self.schedule = schedule
        self.schedule.cuts, self.schedule.waited = self.progress.cuts, self.progress.waited
        self.started = time.monotonic() - self.progress.seconds
        self.saved = time.monotonic()
        self.sums = self._nothing_seen()
        reason = self.finished()
        for batches in self.updates() if reason is None else ():
            self.update(batches)
            if self.report_is_due():
                self.report()
            if self.validation_is_due():
                self.report()
                self.validate()
            reason = self.finished()
            if reason is not None:
                break
            if self.save_is_due():
                self.report()  # weights that are lost are never saved
                self.save()
        return reason or "nothing to train on"

    def updates(self) -> Iterator[list[Batch]]:
        """The batches of this process, update by update, from the position on."""
        while True:
            epoch = self.progress.position.epoch
            yield from self.feed.epoch(epoch, self.progress.position.index)
            if self.progress.position.epoch == epoch:  # an empty epoch would never end
                return

    def update(self, batches: list[Batch]) -> None:
        """One optimizer update from the micro-batches of this process."""
        position = self.progress.position
        # Seeded by the position: dropout is the same whether or not the run was interrupted.
        torch.manual_seed(_mix(self.training.seed, position.update, self.world.rank))
        self.model.train()
        mine = sum(batch.tokens for batch in batches)
        if self.training.normalise == "tokens":
            parts = self.world.total(mine)
        else:
            parts = self.world.total(sum(batch.sentences for batch in batches))
        for number, batch in enumerate(batches):
            batch = batch.to(self.world.device)
            with self.world.holding(self.objective, last=number + 1 == len(batches)):
                with self.autocast():
                    loss, _ = self.objective(batch)
                # DDP averages gradients over the world; the loss is per part of the whole world.
                torch.autograd.backward(loss * (self.world.size / parts))
            self.sums.loss += loss.detach()
        self.sums.norm += self.clip()
        self.set_rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.moving_average is not None:
            self.moving_average.follow(position.update + 1)
        self.sums.tokens += mine
        self.sums.updates += 1
        self.progress.position = position.after_update(self.feed.updates_in(position.epoch))
        self.progress.validated = False

    def clip(self) -> Tensor:
        """Scale the gradient down to the norm `clip` (Pascanu et al. 2013); its norm before."""
        limit = self.training.optimizer.clip
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit or math.inf)

    def set_rate(self) -> None:
        rate = self.schedule.rate(
            self.progress.position.update + 1, self.epochs, self.share_passed()
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.world.device.type, torch.bfloat16)

    # -- where training stands --------------------------------------------------------------

    @property
    def epochs(self) -> float:
        position = self.progress.position
        if position.index == 0:
            return float(position.epoch)
        return position.epoch + position.index / self.feed.updates_in(position.epoch)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def share_passed(self) -> float | None:
        """How much of the training has passed, by the limit that ends it first; None: no limit."""
        limits = self.training
        passed = []
        if limits.updates:
            passed.append(self.progress.position.update / limits.updates)
        if limits.epochs:
            passed.append(self.epochs / limits.epochs)
        if limits.minutes:
            passed.append(self.world.share(self.seconds) / 60 / limits.minutes)
        return max(passed, default=None)

    def finished(self) -> str | None:
        """Why training is over, or None."""
        limits = self.training
        if limits.updates and self.progress.position.update >= limits.updates:
            return f"reached {limits.updates} updates"
        if limits.epochs and self.epochs >= limits.epochs:
            return f"reached {limits.epochs:g} epochs"
        if limits.minutes and self.world.share(self.seconds) >= limits.minutes * 60:
            return f"reached {limits.minutes:g} minutes"
        patience = self.validation.patience
        if patience and self.progress.without_gain >= patience:
            return f"no gain in {self.validation.metric} in {patience} validations"
        if self.world.agree(self.stop_requested):
            return "interrupted"
        return None

    # -- what is said, judged and kept ------------------------------------------------------

    def report_is_due(self) -> bool:
        # Counted in updates where processes must agree; by the clock where there is only one.
        if self.world.size > 1:
            return self.progress.position.update % 10 == 0
        return time.monotonic() - self.sums.since >= REPORT_SECONDS

    def report(self) -> None:
        """Bring the sums to the host and say them. Raises TrainingError if they are not finite."""
        sums, self.sums = self.sums, self._nothing_seen()
        if sums.updates == 0:
            return
        totals = self.world.sum(
            torch.stack([sums.loss, sums.norm, sums.loss.new_tensor(sums.tokens)])
        )
        loss, norm, tokens = (float(value) for value in totals)
        update = self.progress.position.update
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise TrainingError(
                f"the loss is no longer a number at update {update}",
                "lower training.optimizer.rate, or set training.optimizer.clip; "
                "the last checkpoint is intact",
            )
        seconds = self.seconds
        share = self.share_passed()
        self.emit(
            Progressed(
                update=update,
                epoch=self.epochs,
                loss=loss / tokens,
                tokens_per_second=tokens / max(time.monotonic() - sums.since, 1e-9),
                rate=float(self.optimizer.param_groups[0]["lr"]),
                gradient_norm=norm / sums.updates / self.world.size,
                seconds=seconds,
                remaining=seconds * (1 - share) / share if share else None,
            )
        )

    def validation_is_due(self) -> bool:
        position, every = self.progress.position, self.validation.every
        return position.update % every == 0 if every else position.index == 0

    def validate(self) -> None:
        """Judge the model, remember whether it is the best, and save."""
        began = time.monotonic()
        if self.world.leads and self.judge is not None:
            self.model.eval()
            with self.judged():
                judgement = self.judge()
                best = self.weigh(judgement)
                if best:
                    self.keep_best()
            self.emit(self.validated(judgement, best, time.monotonic() - began))
        self._share_verdict()
        self.progress.validated = True
        self.save()
        self.sums = self._nothing_seen()

    def judged(self) -> AbstractContextManager[object]:
        """The model has the weights that are judged and kept within."""
        return nullcontext() if self.moving_average is None else self.moving_average.in_place()

    def weigh(self, judgement: Judgement) -> bool:
        """Enter a judgement into the progress; whether it is the best so far, ties by loss."""
        metric = self.validation.metric
        value = -judgement.loss if metric == "loss" else judgement.scores[metric]
        before = self.progress.best_value
        lowest = self.progress.best_scores.get("loss", math.inf)
        best = before is None or (value, -judgement.loss) > (before, -lowest)
        if best:
            self.progress.best_value = value
            self.progress.best_update = self.progress.position.update
            self.progress.best_scores = {"loss": judgement.loss, **judgement.scores}
            self.progress.best_signatures = dict(judgement.signatures)
        self.progress.without_gain = 0 if best else self.progress.without_gain + 1
        self.schedule.observe(best)
        return best

    def _share_verdict(self) -> None:
        """Let every process know what the leader's validation decided."""
        progress, schedule = self.progress, self.schedule
        progress.without_gain = int(self.world.share(progress.without_gain))
        schedule.cuts = progress.cuts = int(self.world.share(schedule.cuts))
        schedule.waited = progress.waited = int(self.world.share(schedule.waited))

    def validated(self, judgement: Judgement, best: bool, took: float) -> Validated:
        return Validated(
            update=self.progress.position.update,
            epoch=self.epochs,
            loss=judgement.loss,
            scores=judgement.scores,
            signatures=judgement.signatures,
            best=best,
            samples=judgement.samples,
            seconds=self.seconds,
            took=took,
        )

    def save_is_due(self) -> bool:
        return self.world.agree(time.monotonic() - self.saved >= SAVE_SECONDS)

    def save(self) -> None:
        """Write a checkpoint from which the same command goes on."""
        self.progress.seconds = self.seconds
        if self.world.leads:
            weights, trained = weights_of(self.model), None
            if self.moving_average is not None:
                weights, trained = {**weights, **self.moving_average.mean}, weights
            path = self.checkpoints.save(weights, self.optimizer, self.progress, trained)
            self.emit(Saved(self.progress.position.update, path))
        self.saved = time.monotonic()
        self.world.wait()

    def _nothing_seen(self) -> Sums:
        zero = torch.zeros(2, dtype=torch.float32, device=self.world.device)
        return Sums(zero[0], zero[1], since=time.monotonic())


def weights_of(model: Seq2Seq) -> dict[str, Tensor]:
    """The parameters and stored buffers by name, shared ones once."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            weights[name] = tensor
    return weights


def choose_precision(asked: str, device: torch.device) -> str:
    """float32 or bfloat16; `auto` takes bfloat16 where matrix products are made in it."""
    if asked != "auto":
        return asked
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def _mix(seed: int, update: int, rank: int) -> int:
    """A 63-bit seed of its own for every (seed, update, rank) (the finaliser of splitmix64)."""
    z = (
        seed * 0x9E3779B97F4A7C15 + update * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB
    ) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return (z ^ z >> 31) >> 1
