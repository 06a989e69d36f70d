"""The training loop: it can be read aloud."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mtkit.data.batches import Batch, nothing_of
from mtkit.errors import TrainingError
from mtkit.model_dir import weights_of
from mtkit.models.dropout import all_layers
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import TrainingSection, ValidationSection
from mtkit.training.checkpoint import Checkpoints, Progress, state_of
from mtkit.training.distributed import World
from mtkit.training.events import Event, Progressed, Saved, Validated, Warned
from mtkit.training.feed import Feed
from mtkit.training.guard import (
    IN_A_ROW,
    MOST_CUTS,
    Guard,
    LossLostError,
    described,
    halves,
    out_of_memory,
)
from mtkit.training.host import choose_precision
from mtkit.training.judge import Judgement
from mtkit.training.loss import Objective
from mtkit.training.moving_average import MovingAverage
from mtkit.training.optimizer import Schedule, make_optimizer, moments
from mtkit.training.sharding import local, whole
from mtkit.training.sums import Sums

REPORT_SECONDS = 1.0
SAVE_SECONDS = 600.0


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
        self.sharded = training.shard and world.size > 1
        # What is judged and kept: the model, or, where its weights are spread, a copy with all.
        self.complete = copy.deepcopy(model) if self.sharded and world.leads else model
        self.objective = world.wrap(
            Objective(model, training.label_smoothing, training.r_drop),
            model.parts() if self.sharded else None,
        )
        self.optimizer = make_optimizer(training.optimizer, model)
        self.moving_average = MovingAverage(model, training.ema) if training.ema else None
        self.progress = Progress()
        self.guard = Guard(model, self.optimizer)
        self.precision = choose_precision(training.precision, world.device, model)
        self.emit: Callable[[Event], None] = lambda event: None
        self.judge: Callable[[], Judgement] | None = None
        self.keep_best: Callable[[], object] = lambda: None
        # Takes up the newest checkpoint, if there is one, made at a validation if it is to be.
        self.restore: Callable[[bool], object] = lambda at_validation: None
        self.stop_requested = False
        self.safe = False  # whether there is a checkpoint of the state as it is
        # The weights as they were, until a validation has left a checkpoint to go back to.
        self._first = {
            name: local(weight).to("cpu", copy=True) for name, weight in weights_of(model).items()
        }

    def stop(self) -> None:
        """Ask for the end of training after the update that is being made."""
        self.stop_requested = True

    # -- the loop ---------------------------------------------------------------------------

    def fit(self, schedule: Schedule) -> str:
        """Train until the end; returns why it ended. Raises TrainingError when the loss is lost."""
        self.begin(schedule)
        while True:
            try:
                return self.sitting()
            except LossLostError:
                self.go_back()

    def begin(self, schedule: Schedule) -> None:
        """Make ready for updates; the largest batch is tried."""
        self.schedule = schedule
        self.started = time.monotonic() - self.progress.seconds
        self.saved = time.monotonic()
        if self.checkpoints.validated():
            self._first = {}
        self._take_up()
        if self.finished() is None:
            self.rehearse()

    def sitting(self) -> str:
        """Train until the end, or until the loss is lost (LossLostError)."""
        if self.was_stopped_in_a_validation():
            self.validate()
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
                self.report()
                self.save()
        self.report()
        return reason or "nothing to train on"

    def _take_up(self) -> None:
        """Let all that moves stand where the progress says."""
        self.schedule.cuts, self.schedule.waited = self.progress.cuts, self.progress.waited
        self.guard.begin()  # nothing is saved after an update that was skipped
        self.sums = Sums.none(self.world.device)

    def rehearse(self) -> None:
        """The batch that takes most memory, forward and backward, so that what is too long for
        this machine is known in the first minute. Nothing is learnt from it.

        As in the middle of training: through all layers, beside gradients of batches before it and
        the tensors that the optimizer will keep.
        """
        batch, parameters = self.feed.largest(), list(self.model.parameters())
        kept = 0 if self.optimizer.state else moments(self.training.optimizer)
        beside = [torch.zeros_like(p) for p in parameters if p.requires_grad for _ in range(kept)]
        with all_layers(self.model):
            for _ in range(min(self.training.accumulation, 2)):
                self.gradient([batch], max(batch.tokens, 1))
        del beside
        self.optimizer.zero_grad(set_to_none=True)

    def go_back(self) -> None:
        """Take up the last good state again, at half the rate. Raises TrainingError at the last.

        That is the one of the last validation: other checkpoints are made when the clock says.
        """
        lost, lowered = self.progress.position.update, self.progress.lowered + 1
        skipped = self.progress.skipped + self.sums.skipped
        if lowered > MOST_CUTS:
            raise TrainingError(
                f"the loss is no longer a number at update {lost}, at any rate that was tried",
                "the last checkpoint is intact; begin another run, with a new --output and "
                f"--set training.optimizer.rate={self.training.optimizer.rate / 10:g}",
            )
        if self.restore(True) is None:
            if self._first:
                self._begin_anew()
            else:
                self.restore(False)
        self.progress.lowered, self.progress.skipped, self.safe = lowered, skipped, False
        self._take_up()
        self.emit(
            Warned(
                f"{IN_A_ROW} updates in a row to update {lost:,} had a loss or gradient that is no "
                f"number; going back to update {self.progress.position.update:,}, from there on "
                f"at 1/{2**lowered} of the rate"
            )
        )

    @torch.no_grad()
    def _begin_anew(self) -> None:
        for name, weight in weights_of(self.model).items():
            local(weight).copy_(self._first[name])
        if self.moving_average is not None:
            self.moving_average = MovingAverage(self.model, self.training.ema)
        self.optimizer.state.clear()
        self.progress = Progress(data=self.progress.data, batches=self.progress.batches)

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
        self.model.train()
        if self.sharded:  # every pass gathers weights, and all processes must take part in each
            idle = self.world.most(len(batches)) - len(batches)
            batches = [*batches, *[nothing_of(batches[0])] * idle]
        mine = sum(batch.tokens for batch in batches)
        counts = mine
        if self.training.normalise == "sentences":
            counts = sum(batch.sentences for batch in batches)
        loss = self.gradient(batches, self.world.total(counts))
        norm = self.clip()
        self.set_rate()
        good = self.guard.step(norm)
        self.safe = False
        self.optimizer.zero_grad(set_to_none=True)
        self.sums.add(loss, norm, mine, good)
        if self.moving_average is not None:
            self.moving_average.follow(position.update + 1)
        self.progress.position = position.after_update(self.feed.updates_in(position.epoch))
        self.progress.validated = False
        if self.world.device.type == "cpu":  # on a GPU at the next report: nothing waits for it
            self.guard.check()

    def gradient(self, batches: list[Batch], count: int) -> Tensor:
        """Add up the gradient of micro-batches, the loss per one of `count` tokens or sentences.

        Gives the summed loss. Batches that do not fit into memory are halved, and all is done
        again: what is added up is the same. Raises TrainingError when that does not help.
        """
        try:
            return self._gradient(batches, count)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        # Out of the handler: what it holds on to takes memory.
        self.optimizer.zero_grad(set_to_none=True)
        parts = [half for batch in batches for half in halves(batch)]
        if self.world.size > 1 or len(parts) == len(batches):
            raise TrainingError(
                f"there is not enough memory for {described(batches)}",
                "begin another run, with a new --output and "
                f"--set training.max_tokens={self.training.max_tokens // 2}, "
                "or a lower data.max_length",
            )
        self.emit(
            Warned(f"there is not enough memory for {described(batches)}; they are taken in parts")
        )
        return self.gradient(parts, count)

    def _gradient(self, batches: list[Batch], count: int) -> Tensor:
        # Seeded by the position: dropout is the same whether or not the run was interrupted.
        update = self.progress.position.update
        torch.manual_seed(_mix(self.training.seed, update, self.world.rank))
        # DDP averages gradients over the world; the loss is per count of the whole world.
        weight = self.world.size / count
        total = torch.zeros((), device=self.world.device)
        for number, batch in enumerate(batches):
            batch = batch.to(self.world.device)
            with self.world.holding(self.objective, last=number + 1 == len(batches)):
                with self.autocast():
                    loss, _ = self.objective(batch)
                torch.autograd.backward(loss * self.guard.share(loss, batch, weight))
            total += loss.detach()
        return total

    def clip(self) -> Tensor:
        """Scale the gradient down to the norm `clip` (Pascanu et al. 2013); its norm before."""
        limit = self.training.optimizer.clip
        return whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit or math.inf))

    def set_rate(self) -> None:
        rate = self.schedule.rate(
            self.progress.position.update + 1, self.epochs, self.share_passed()
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * 0.5**self.progress.lowered

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
        # After an update that was skipped nothing could be saved.
        if self.world.agree(self.stop_requested) and self.guard.last_was_made():
            return "interrupted"
        return None

    # -- what is said, judged and kept ------------------------------------------------------

    def report_is_due(self) -> bool:
        # Counted in updates where processes must agree; by the clock where there is only one.
        if self.world.size > 1:
            return self.progress.position.update % 10 == 0
        return time.monotonic() - self.sums.since >= REPORT_SECONDS

    def report(self) -> None:
        """Bring the sums to the host and say them. Raises LossLostError when they are no use."""
        if self.sums.updates == 0:
            return
        self.guard.check()
        sums, self.sums = self.sums, Sums.none(self.world.device)
        loss, norm, counted, tokens = sums.over(self.world)
        skipped, update = sums.skipped, self.progress.position.update
        if skipped:
            self.progress.skipped += skipped
            self.emit(
                Warned(
                    f"{skipped} of {sums.updates} updates to update {update:,} were skipped, their "
                    f"loss or gradient is no number; in all {self.progress.skipped:,}"
                )
            )
        if skipped == sums.updates:
            return
        seconds = self.seconds
        share = self.share_passed()
        self.emit(
            Progressed(
                update=update,
                epoch=self.epochs,
                loss=loss / counted,
                tokens_per_second=tokens / max(time.monotonic() - sums.since, 1e-9),
                rate=float(self.optimizer.param_groups[0]["lr"]),
                gradient_norm=norm / (sums.updates - skipped) / self.world.size,
                seconds=seconds,
                remaining=seconds * (1 - share) / share if share else None,
            )
        )

    def validation_is_due(self) -> bool:
        position, every = self.progress.position, self.validation.every
        return position.update % every == 0 if every else position.index == 0

    def was_stopped_in_a_validation(self) -> bool:
        """Whether the state that was taken up was saved to be judged, and was not."""
        made = self.progress.position.update > 0
        return made and self.validation_is_due() and not self.progress.validated

    def validate(self) -> None:
        """Save, judge the model and remember whether it is the best.

        Saved before: judging may take long, and a stop must not cost the updates made.
        """
        if not self.safe:
            self.save()
        began = time.monotonic()
        self.model.eval()
        with self.judged():
            self._gather()
            if self.world.leads and self.judge is not None:
                judgement = self.judge()
                best = self.weigh(judgement)
                if best:
                    self.keep_best()
                self.emit(self.validated(judgement, best, time.monotonic() - began))
        self._share_verdict()
        self.progress.validated = True
        if self.safe:
            self._note_verdict()
        self.sums = Sums.none(self.world.device)

    def _note_verdict(self) -> None:
        """Let the checkpoint of this state say that, and how, it was judged."""
        self.progress.seconds, self.saved = self.seconds, time.monotonic()
        if self.world.leads:
            self.checkpoints.renew(self.progress)
        self.world.wait()
        self._first = {}

    def judged(self) -> AbstractContextManager[object]:
        """The model has the weights that are judged and kept within."""
        return nullcontext() if self.moving_average is None else self.moving_average.in_place()

    def weigh(self, judgement: Judgement) -> bool:
        """Enter a judgement into the progress; whether it is the best so far, ties by loss."""
        scores = {"loss": judgement.loss, **judgement.scores}
        now, before = merit(self.validation.metric, scores), self.progress.best_scores
        best = math.isfinite(judgement.loss) and (
            not before or now > merit(self.validation.metric, before)
        )
        if best:
            self.progress.best_value = now[0]
            self.progress.best_update = self.progress.position.update
            self.progress.best_scores = scores
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
        late = time.monotonic() - self.saved >= SAVE_SECONDS
        return self.world.agree(late and not self.safe)

    def save(self) -> None:
        """Write a checkpoint from which the same command goes on.

        None is written of weights that are no numbers, nor after an update that was skipped: the
        one before is the last good state then.
        """
        if self.world.agree(not self.guard.sound()):
            update = self.progress.position.update
            self.emit(
                Warned(
                    f"nothing is saved at update {update:,}: it was skipped, or weights are no "
                    "numbers; the checkpoint before it, if there is one, stays"
                )
            )
            return
        self.progress.seconds, self.saved = self.seconds, time.monotonic()
        trained = None
        if self.moving_average is not None:
            now = weights_of(self.model)
            trained = self._complete({name: weight.clone() for name, weight in now.items()})
        with self.judged():
            weights = self._complete(weights_of(self.model))
            state = self._complete(state_of(self.optimizer))
            if self.world.leads:
                path = self.checkpoints.save(weights, state, self.progress, trained)
                self.emit(Saved(self.progress.position.update, path))
        self.world.wait()
        self.safe = True

    def _complete(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors as they are, or where they are spread over the world, all of them on the host.

        Then every process must ask, and the leader alone gets them.
        """
        if not self.sharded:
            return tensors
        found = {}
        for name in sorted(tensors):  # in an order that all have; only one is on the device
            every = whole(tensors[name])
            if self.world.leads:
                found[name] = every.cpu()
        return found

    def _gather(self) -> None:
        """Let the leader's `complete` have the weights of the model."""
        if not self.sharded:
            return
        weights = self._complete(weights_of(self.model))
        if self.world.leads:
            for name, weight in weights_of(self.complete).items():
                weight.copy_(weights[name])


def merit(metric: str, scores: Mapping[str, float]) -> tuple[float, float]:
    """What makes one model better than another: the metric, ties by loss."""
    return (-scores["loss"] if metric == "loss" else scores[metric], -scores["loss"])


def _mix(seed: int, update: int, rank: int) -> int:
    """A 63-bit seed of its own for every (seed, update, rank) (the finaliser of splitmix64)."""
    z = (
        seed * 0x9E3779B97F4A7C15 + update * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB
    ) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return (z ^ z >> 31) >> 1
