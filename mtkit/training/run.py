"""A whole run: from a recipe to a folder that holds a model, its scores and its checkpoints."""

import json
import shlex
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtkit import model_dir
from mtkit.allocator import keep_freed_memory
from mtkit.data.corpus import Pair, open_corpora
from mtkit.data.mixture import Mixture
from mtkit.data.prepare import Prepared, prepare
from mtkit.errors import NO_ROOM, DataError, ModelError, TrainingError
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe
from mtkit.training.board import TensorBoard
from mtkit.training.checkpoint import (
    Checkpoints,
    check,
    read_progress,
    read_tensors,
    restore_optimizer,
    write_text,
)
from mtkit.training.checks import (
    check_begun,
    check_recipe,
    check_same_data,
    check_vocabularies,
    warnings_before,
    warnings_begun,
)
from mtkit.training.distributed import World
from mtkit.training.events import (
    Event,
    Finished,
    Listener,
    Noted,
    Preparing,
    Started,
    Warned,
)
from mtkit.training.feed import Feed, fetcher, planned_lengths
from mtkit.training.folder import RunFolder
from mtkit.training.host import machine, stopping_at_signals
from mtkit.training.judge import Judge
from mtkit.training.log import Log
from mtkit.training.optimizer import schedule_of
from mtkit.training.sharding import check_shardable, fill
from mtkit.training.start import Parent
from mtkit.training.trainer import Trainer, merit
from mtkit.training.vectors import start_from_vectors

_MAKE_ROOM = "make room there and run the same command again; the last checkpoint is intact"


def train(
    recipe: Recipe,
    output: Path,
    *,
    device: str = "auto",
    listeners: Sequence[Listener] = (),
    model: Seq2Seq | None = None,
) -> Path:
    """Train the recipe's model into the run folder `output`, which becomes a model directory.

    Called again with the same recipe and folder it goes on where it stopped, or, if it had come to
    its end, says so. Under `torchrun` all processes train together. `model` replaces the one that
    the recipe's model section describes. Raises MTKitError kinds for what the user can mend.
    """
    world = World.from_environment(device)
    try:
        run = Run(recipe, output, world, listeners if world.leads else ())
        with RunFolder(output).alone() if world.leads else nullcontext():
            return run.go(model)
    except RuntimeError as error:
        if world.lost_another(error):
            raise TrainingError("ended, because another process has ended") from None
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise TrainingError(
            f"{error.filename or output}: cannot be written ({error.strerror})",
            _MAKE_ROOM,
        ) from None
    finally:
        world.leave()


@dataclass
class Run:
    """The parts of one sitting, and the folder that they write to."""

    recipe: Recipe
    folder: Path
    world: World
    listeners: Sequence[Listener]
    _records: list[Listener] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._parent = self._start()

    def go(self, model: Seq2Seq | None) -> Path:
        folder = RunFolder(self.folder)
        folder.check(self.recipe)
        ended = folder.ended(self.recipe)
        if ended is not None:
            if self.world.leads and folder.keep_search(self.recipe):
                self._tell(Noted("the model translates by the recipe's new search section"))
            self._tell(ended)
            return self.folder
        self._records = self._open_records() if self.world.leads else []
        # Read now, so that a corpus that cannot be read is an error in the first minute.
        self._test_pairs = self._read_test()
        trainer, data, resumed = self.ready(model)
        if self.world.leads:
            folder.begin(self.recipe)
        started = self._started(trainer, data, resumed)
        self._emit(started)
        for words in warnings_begun(self.recipe, started.last_update):
            self._emit(Noted(words))
        with stopping_at_signals(trainer.stop):
            reason = trainer.fit(schedule_of(self.recipe))
            if reason != "interrupted" and not trainer.progress.validated:
                trainer.validate()
            if self.world.agree(trainer.stop_requested):
                reason = "interrupted"  # what is left to do can wait
            if reason == "interrupted" and not trainer.safe:
                trainer.save()
        self._finish(trainer, data, reason)
        return self.folder

    def ready(self, model: Seq2Seq | None = None) -> tuple[Trainer, Prepared, int | None]:
        """A trainer that stands where the run was left, its data, and the update that was reached.

        Nothing is written but the prepared data.
        """
        check_recipe(self.recipe)
        for words in warnings_before(self.recipe):
            self._tell(Warned(words))  # not logged: nothing of this run is written yet
        data = self._prepare()
        check_same_data(self.world, data, self.folder)
        self._name_languages(data)
        trainer = self._trainer(self._model(model, data), data)
        resumed = self._restore(trainer)
        check_begun(trainer, data, self.folder)
        if self.world.device.type == "cpu":
            keep_freed_memory()  # from here on: what preparing and planning took is given back
        return trainer, data, resumed

    # -- before -----------------------------------------------------------------------------

    def _read_test(self) -> list[Pair]:
        """The pairs that are scored at the end. Raises DataError when corpora hold none."""
        if not self.recipe.data.test:
            return []
        corpus = open_corpora(self.recipe.data.test, tag=self.recipe.search.tag)
        pairs = list(corpus)
        if not pairs:
            raise DataError(
                f"{corpus.name} has no pair with text on both sides", "name another: --test NAME"
            )
        if corpus.report.dropped:
            self._emit(Noted(f"Test: {' '.join(corpus.report.sentences())}"))
        return pairs

    def _open_records(self) -> list[Listener]:
        """What writes the run's events down in its folder."""
        log = Log(self.folder / "log.jsonl")
        return [log, TensorBoard()] if self.recipe.training.tensorboard else [log]

    def _start(self) -> Parent | None:
        """The model that the recipe starts from; from here on its tokenizers are the recipe's.

        A run that goes on has taken from it what it needs: when it is gone, the run's own model,
        of the same vocabulary, stands in.
        """
        if not self.recipe.training.start:
            return None
        path = Path(self.recipe.training.start)
        if not path.exists() and (self.folder / model_dir.CARD).exists():
            parent = replace(Parent.load(self.folder), path=path)
        else:
            parent = Parent.load(path)
        self.recipe = parent.adopt(self.recipe)
        return parent

    def _prepare(self) -> Prepared:
        """Tokenizers and stores; the leader makes them, the others find them in the cache."""

        def listen(stage: str, fraction: float | None, rate: float) -> None:
            self._emit(Preparing(stage, fraction, rate))

        given = self._parent.tokenizers if self._parent else None
        if self.world.leads:
            data = prepare(self.recipe, listen=listen, tokenizers=given)
            self.world.wait()
            return data
        self.world.wait()
        return prepare(self.recipe, tokenizers=given)

    def _name_languages(self, data: Prepared) -> None:
        """Enter the languages that the corpora name into the recipe, which goes with the model."""
        source, target = data.languages
        section = self.recipe.data.model_copy(
            update={"source_language": source, "target_language": target}
        )
        self.recipe = self.recipe.model_copy(update={"data": section})

    def _model(self, model: Seq2Seq | None, data: Prepared) -> Seq2Seq:
        torch.manual_seed(self.recipe.training.seed)
        if model is None:
            check_vocabularies(self.recipe, data)
            sizes = data.source_tokenizer.size, data.target_tokenizer.size
            model = build(self.recipe.model, *sizes)
        if self._parent is not None:
            load_weights(model, self._parent.weights)
            self._emit(Noted(self._parent.words))
        tokenizers = data.source_tokenizer, data.target_tokenizer
        for words in start_from_vectors(model, self.recipe.training, *tokenizers):
            self._emit(Noted(words))
        return model.to(self.world.device)

    def _trainer(self, model: Seq2Seq, data: Prepared) -> Trainer:
        recipe = self.recipe
        if recipe.training.shard:
            check_shardable(model)
        fetch = fetcher(data, recipe.tokenizer.sampling)
        lengths = planned_lengths(data, recipe.tokenizer.sampling)
        mixture = Mixture.of(data.corpora, recipe.data.weights)
        feed = Feed(lengths, fetch, recipe.training, self.world, mixture)
        kept = max(recipe.training.keep, recipe.training.average)
        around = recipe.training.average if recipe.training.average_of == "best" else 0
        trainer = Trainer(
            model,
            feed,
            recipe.training,
            recipe.validation,
            self.world,
            Checkpoints(self.folder / "checkpoints", kept, around),
        )
        trainer.emit = self._emit
        trainer.restore = partial(self._restore, trainer)
        self._judge = Judge(
            data,
            recipe.validation,
            recipe.search,
            recipe.training.max_tokens,
            self.world.device,
            trainer.autocast,
        )
        trainer.judge = lambda: self._judge.validate(trainer.complete)
        trainer.keep_best = lambda: self._keep(data, trainer)
        self._held = self._scores_held()
        return trainer

    def _restore(self, trainer: Trainer, at_validation: bool = False) -> int | None:
        """Go back to the newest checkpoint that is whole; the update it was made at.

        With `at_validation` to the newest of those that were made at one.

        Raises ModelError when there are checkpoints and none of them is whole.
        """
        made = trainer.checkpoints
        paths = made.validated() if at_validation else made.all()
        for path in reversed(paths):
            try:
                check(path)
                progress = read_progress(path)
                weights = trained = read_tensors(path / "weights.safetensors")
                if trainer.moving_average is not None:
                    trained = read_tensors(path / "trained.safetensors")
                restore_optimizer(trainer.optimizer, path)
            except ModelError as error:
                if path == paths[0] and not at_validation:
                    raise ModelError(
                        f"{error.message}; no checkpoint of {self.folder} can be read",
                        f"bring one back, or begin anew: rm -r {shlex.quote(str(self.folder))}",
                    ) from None
                self._emit(Warned(f"{error.message}; the checkpoint before it is used"))
                continue
            load_weights(trainer.model, trained)
            if trainer.moving_average is not None:
                with trainer.judged():
                    load_weights(trainer.model, weights)
            trainer.progress, trainer.safe = progress, True
            return progress.position.update
        return None

    def _started(self, trainer: Trainer, data: Prepared, resumed: int | None) -> Started:
        limits = self.recipe.training
        per_epoch = trainer.feed.updates_in(0)
        ends = [limits.updates or None, round(limits.epochs * per_epoch) or None]
        return Started(
            run=self.folder,
            notes=data.notes,
            device=str(self.world.device),
            precision=trainer.precision,
            parameters=sum(p.numel() for p in trainer.model.parameters()),
            pairs=len(data.train.lengths),
            batches_per_epoch=trainer.feed.batches_per_epoch,
            last_update=min((end for end in ends if end), default=None),
            resumed_at=resumed,
        )

    # -- during -----------------------------------------------------------------------------

    def _scores_held(self) -> dict[str, float]:
        """On the validation corpus, of the model in the folder; empty where there is none.

        It need not be the best that the checkpoints know of: that may be the mean that an end,
        which has been moved since, was given.
        """
        return dict(self._card_held().get("valid", {}).get("scores", {}))

    def _card_held(self) -> dict[str, Any]:
        try:
            card: dict[str, Any] = json.loads((self.folder / "card.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return card

    def _keep(self, data: Prepared, trainer: Trainer, averaged: int = 0) -> bool:
        """Make the model as it is now the one that the folder holds, unless that is better.

        `averaged` is how many checkpoints it is the mean of, if it is one.
        """
        metric, found = self.recipe.validation.metric, trainer.progress.best_scores
        if self._held and merit(metric, self._held) >= merit(metric, found):
            return False
        card = self._card(data, trainer)
        if averaged:
            card["averaged"] = averaged
        try:
            model_dir.save(
                self.folder,
                trainer.complete,
                self.recipe,
                data.source_tokenizer,
                data.target_tokenizer,
                card,
            )
        except ModelError as error:
            raise TrainingError(error.message, _MAKE_ROOM) from None
        self._held = dict(found)
        return True

    def _card(self, data: Prepared, trainer: Trainer) -> dict[str, object]:
        progress = trainer.progress
        return {
            "title": self.recipe.title,
            **({"started_from": start} if (start := self.recipe.training.start) else {}),
            "data": data.fingerprint,
            "train": list(self.recipe.data.train),
            "pairs": len(data.train.lengths),
            "update": progress.position.update,
            "epochs": round(trainer.epochs, 3),
            "seconds": round(trainer.seconds, 1),
            "precision": trainer.precision,
            "machine": machine(),
            "valid": {
                "update": progress.best_update,
                "scores": progress.best_scores,
                "signatures": progress.best_signatures,
            },
        }

    def _emit(self, event: Event) -> None:
        for record in self._records:
            record(event)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    # -- after ------------------------------------------------------------------------------

    def _finish(self, trainer: Trainer, data: Prepared, reason: str) -> None:
        """Average, test, and write down how it ended."""
        if reason == "interrupted":
            self._emit(self._finished(trainer, reason, {}))
            return
        if not self.world.leads:
            self.world.wait()
            return
        self._average(trainer, data)
        test = self._test(trainer.complete)
        finished = self._finished(trainer, reason, test)
        RunFolder(self.folder).finish(finished, self.recipe)
        self._emit(finished)
        self.world.wait()

    def _average(self, trainer: Trainer, data: Prepared) -> None:
        """Replace the best model by the mean of some checkpoints if that validates better."""
        count, best = self.recipe.training.average, trainer.progress.best_update
        if self.recipe.training.average_of == "best":
            paths = trainer.checkpoints.around_best(count, best)
            name = "the mean of {} checkpoints around the best"
        else:
            paths = trainer.checkpoints.averaged(count)
            name = "the mean of the last {} checkpoints"
        if count < 2:
            return
        paths = [path for path in paths if self._is_whole(path)]
        if len(paths) < 2:
            return
        mean = model_dir.average([path / "weights.safetensors" for path in paths])
        load_weights(trainer.complete, mean)
        began = time.monotonic()
        judgement = self._judge.validate(trainer.complete)
        better = trainer.weigh(judgement) and self._keep(data, trainer, averaged=len(paths))
        event = trainer.validated(judgement, better, time.monotonic() - began)
        self._emit(replace(event, averaged=len(paths)))
        verdict = "the best model" if better else "no better; left out"
        self._emit(Noted(f"{name.format(len(paths))} is {verdict}"))

    def _is_whole(self, path: Path) -> bool:
        try:
            check(path)
        except ModelError as error:
            self._emit(Warned(f"{error.message}; it is left out of the mean"))
            return False
        return True

    def _test(self, model: Seq2Seq) -> dict[str, float]:
        """Score the test corpora once, with the model that the run folder holds."""
        if not self._test_pairs:
            return {}
        self._emit(Preparing("translating the test corpus"))
        load_weights(model, read_tensors(self.folder / "weights.safetensors"))
        pairs, search = self._test_pairs, self.recipe.search
        found = self._judge.translate(model.eval(), pairs, search, ("bleu", "chrf", "ter"))
        card = self._card_held()
        card["test"] = {
            "corpora": list(self.recipe.data.test),
            "pairs": len(pairs),
            "beam": search.beam,
            "scores": {score.name: score.value for score in found.scores},
            "signatures": {score.name: score.signature for score in found.scores},
        }
        write_text(json.dumps(card, indent=1, ensure_ascii=False), self.folder / "card.json")
        text = "".join(translation.text + "\n" for translation in found.translations)
        write_text(text, self.folder / "test.txt")
        return {score.name: score.value for score in found.scores}

    def _finished(self, trainer: Trainer, reason: str, test: dict[str, float]) -> Finished:
        card = self._card_held()
        valid = card.get("valid", {})
        return Finished(
            run=self.folder,
            reason=reason,
            update=trainer.progress.position.update,
            best_update=valid.get("update", 0),
            scores=valid.get("scores", {}),
            test=test,
            seconds=trainer.seconds,
            averaged=card.get("averaged", 0),
        )


def load_weights(model: Seq2Seq, weights: dict[str, Tensor]) -> None:
    """Copy saved weights into a model; shared parameters are stored once. Raises ModelError."""
    own = model_dir.weights_of(model)
    strange = sorted(own.keys() ^ weights.keys())
    strange += [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if strange:
        raise ModelError(f"the saved weights do not fit the model: {strange[0]}")
    for name, tensor in own.items():
        fill(tensor, weights[name])
