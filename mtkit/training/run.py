"""A whole run: from a recipe to a folder that holds a model, its scores and its checkpoints."""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtkit import model_dir
from mtkit.data.batches import Indices, assemble, collate, pad, plan
from mtkit.data.corpus import Pair, open_corpora
from mtkit.data.prepare import Prepared, prepare
from mtkit.data.store import Side
from mtkit.data.tokenizer import Tokenizer
from mtkit.decoding.evaluate import Evaluation, evaluate
from mtkit.decoding.search import SearchOptions
from mtkit.decoding.translator import Translator
from mtkit.errors import DataError, ModelError, UsageError
from mtkit.models.build import build
from mtkit.models.seq2seq import Seq2Seq
from mtkit.recipe import Recipe
from mtkit.symbols import EOS
from mtkit.training.checkpoint import (
    Checkpoints,
    read_progress,
    read_tensors,
    restore_optimizer,
    write_text,
)
from mtkit.training.distributed import World
from mtkit.training.events import (
    Event,
    Finished,
    Listener,
    Preparing,
    Sample,
    Started,
    Warned,
)
from mtkit.training.feed import Feed, Fetch
from mtkit.training.host import keep_freed_memory, machine, stopping_at_signals
from mtkit.training.log import Log
from mtkit.training.loss import smoothed_loss
from mtkit.training.optimizer import Schedule
from mtkit.training.trainer import Judgement, Trainer, weights_of

SAMPLES = 3
# What may change between two sittings of a run: when it ends, and what is done afterwards.
MAY_CHANGE = (
    "title",
    "data.source_language",
    "data.target_language",
    "data.test",
    "training.updates",
    "training.epochs",
    "training.minutes",
    "training.average",
    "validation.patience",
    "search",
)


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
        with run.alone():
            return run.go(model)
    finally:
        world.leave()


@dataclass
class Run:
    """The parts of one sitting, and the folder that they write to."""

    recipe: Recipe
    folder: Path
    world: World
    listeners: Sequence[Listener]

    def go(self, model: Seq2Seq | None) -> Path:
        self._check_folder()
        ended = self._ended()
        if ended is not None:
            self._tell(ended)
            return self.folder
        if self.world.device.type == "cpu":
            keep_freed_memory()
        self._log = Log(self.folder / "log.jsonl") if self.world.leads else None
        data = self._prepare()
        self._name_languages(data)
        model = self._model(model, data)
        trainer = self._trainer(model, data)
        resumed = self._restore(trainer)
        self._check_data(trainer, data)
        self._emit(self._started(trainer, data, resumed))
        with stopping_at_signals(trainer.stop):
            reason = trainer.fit(
                Schedule(
                    self.recipe.training.schedule,
                    self.recipe.training.optimizer.rate,
                    getattr(self.recipe.model, "width", 1),
                )
            )
        self._finish(trainer, data, reason)
        return self.folder

    # -- before -----------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second trainer out of the folder. Raises UsageError when there is one."""
        if not self.world.leads:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / "run.lock").open("w")
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot be written to ({error.strerror})", "choose another --output"
            ) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"{self.folder}: another process is training in this folder",
                    "wait for it, or choose another --output",
                ) from None
            yield

    def _check_folder(self) -> None:
        """Raise UsageError when the folder holds a run of another recipe."""
        path = self.folder / "recipe.toml"
        if not path.exists():
            return
        before, now = (_flat(r.model_dump(mode="json")) for r in (Recipe.load(path), self.recipe))
        for key in sorted(before.keys() | now.keys()):
            same = before.get(key) == now.get(key)
            if not same and not any(key == k or key.startswith(k + ".") for k in MAY_CHANGE):
                raise UsageError(
                    f"{self.folder}: holds a run with {key} = {before.get(key)!r}, "
                    f"not {now.get(key)!r}",
                    "choose another --output, or remove that folder",
                )

    def _ended(self) -> Finished | None:
        """The end of this run, if it has come to one that still counts as one."""
        path = self.folder / "finished.json"
        if not path.exists():
            return None
        table = json.loads(path.read_text(encoding="utf-8"))
        if table.pop("limits") != self._limits():
            return None
        return Finished(run=self.folder, **table)

    def _limits(self) -> list[float]:
        limits = self.recipe.training
        patience = self.recipe.validation.patience
        return [limits.updates, limits.epochs, limits.minutes, patience, limits.average]

    def _prepare(self) -> Prepared:
        """Tokenizers and stores; the leader makes them, the others find them in the cache."""

        def listen(stage: str, fraction: float | None) -> None:
            self._emit(Preparing(stage, fraction))

        if self.world.leads:
            data = prepare(self.recipe, listen=listen)
            self.world.wait()
            return data
        self.world.wait()
        return prepare(self.recipe)

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
            sizes = data.source_tokenizer.size, data.target_tokenizer.size
            model = build(self.recipe.model, *sizes)
        return model.to(self.world.device)

    def _trainer(self, model: Seq2Seq, data: Prepared) -> Trainer:
        recipe = self.recipe
        feed = Feed(data.train.lengths, fetcher(data, recipe), recipe.training, self.world)
        kept = max(recipe.training.keep, recipe.training.average)
        trainer = Trainer(
            model,
            feed,
            recipe.training,
            recipe.validation,
            self.world,
            Checkpoints(self.folder / "checkpoints", kept),
        )
        trainer.emit = self._emit
        trainer.judge = lambda: self._judge(model, data, trainer)
        trainer.keep_best = lambda: self._keep(model, data, trainer)
        return trainer

    def _restore(self, trainer: Trainer) -> int | None:
        """Go back to the newest checkpoint that is whole; the update it was made at."""
        for path in reversed(trainer.checkpoints.all()):
            try:
                progress = read_progress(path)
                weights = read_tensors(path / "weights.safetensors")
                restore_optimizer(trainer.optimizer, path)
            except ModelError as error:
                self._emit(Warned(f"{error.message}; the checkpoint before it is used"))
                continue
            load_weights(trainer.model, weights)
            trainer.progress = progress
            return progress.position.update
        return None

    def _check_data(self, trainer: Trainer, data: Prepared) -> None:
        """Raise DataError when the run was begun with data (or tokenizers) that were others."""
        begun = trainer.progress.data
        if begun and begun != data.fingerprint:
            raise DataError(
                f"{self.folder}: the corpora have changed since this run was begun",
                "bring back what they were, or begin anew with another --output",
            )
        trainer.progress.data = data.fingerprint

    def _started(self, trainer: Trainer, data: Prepared, resumed: int | None) -> Started:
        limits = self.recipe.training
        per_epoch = trainer.feed.updates_per_epoch
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

    def _judge(self, model: Seq2Seq, data: Prepared, trainer: Trainer) -> Judgement:
        """Loss over the whole validation corpus, and scores of its translations."""
        loss = validation_loss(model, data, self.recipe.training.max_tokens, trainer)
        pairs = data.valid_pairs[: self.recipe.validation.sentences or None]
        options = SearchOptions.from_section(
            self.recipe.search.model_copy(update={"beam": self.recipe.validation.beam})
        )
        found = self._evaluate(model, data, pairs, options, ("bleu", "chrf"))
        step = max(1, len(pairs) // SAMPLES)
        samples = [
            Sample(pair.source, pair.target, found.translations[index].text)
            for index, pair in list(enumerate(pairs))[::step][:SAMPLES]
        ]
        return Judgement(
            loss,
            {score.name: score.value for score in found.scores},
            {score.name: score.signature for score in found.scores},
            tuple(samples),
        )

    def _evaluate(
        self,
        model: Seq2Seq,
        data: Prepared,
        pairs: Sequence[Pair],
        options: SearchOptions,
        metrics: tuple[str, ...],
    ) -> Evaluation:
        translator = Translator(
            model.eval(), data.source_tokenizer, data.target_tokenizer, options=options
        )
        return evaluate(
            translator, pairs, target_language=self.recipe.data.target_language, metrics=metrics
        )

    def _keep(self, model: Seq2Seq, data: Prepared, trainer: Trainer) -> None:
        """Make the model as it is now the one that the run folder holds."""
        model_dir.save(
            self.folder,
            model,
            self.recipe,
            data.source_tokenizer,
            data.target_tokenizer,
            self._card(data, trainer),
        )

    def _card(self, data: Prepared, trainer: Trainer) -> dict[str, object]:
        progress = trainer.progress
        return {
            "title": self.recipe.title,
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
        if self._log is not None and self.world.leads:
            self._log(event)
        self._tell(event)

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    # -- after ------------------------------------------------------------------------------

    def _finish(self, trainer: Trainer, data: Prepared, reason: str) -> None:
        """Score the last state, average, test, and write down how it ended."""
        if reason == "interrupted":
            trainer.save()
            self._emit(self._finished(trainer, reason, {}))
            return
        every = trainer.checkpoints.all()
        if not every or read_progress(every[-1]).position != trainer.progress.position:
            trainer.report()
            trainer.validate()
        if not self.world.leads:
            self.world.wait()
            return
        self._average(trainer, data)
        test = self._test(trainer.model, data)
        finished = self._finished(trainer, reason, test)
        table = asdict(finished)
        del table["run"]
        write_text(
            json.dumps({**table, "limits": self._limits()}, indent=1),
            self.folder / "finished.json",
        )
        self._emit(finished)
        self.world.wait()

    def _average(self, trainer: Trainer, data: Prepared) -> None:
        """Replace the best model by the mean of the last checkpoints if that validates better."""
        paths = trainer.checkpoints.averaged(self.recipe.training.average)
        if self.recipe.training.average < 2 or len(paths) < 2:
            return
        load_weights(
            trainer.model, model_dir.average([path / "weights.safetensors" for path in paths])
        )
        began = time.monotonic()
        judgement = self._judge(trainer.model, data, trainer)
        best = trainer.weigh(judgement)
        self._emit(trainer.validated(judgement, best, time.monotonic() - began))
        if best:
            self._keep(trainer.model, data, trainer)
            self._emit(Warned(f"the mean of the last {len(paths)} checkpoints is the best model"))
        else:
            self._emit(
                Warned(f"the mean of the last {len(paths)} checkpoints is no better; left out")
            )

    def _test(self, model: Seq2Seq, data: Prepared) -> dict[str, float]:
        """Score the test corpora once, with the model that the run folder holds."""
        if not self.recipe.data.test:
            return {}
        self._emit(Preparing("translating the test corpus"))
        load_weights(model, read_tensors(self.folder / "weights.safetensors"))
        pairs = list(open_corpora(self.recipe.data.test))
        options = SearchOptions.from_section(self.recipe.search)
        found = self._evaluate(model, data, pairs, options, ("bleu", "chrf", "ter"))
        card_path = self.folder / "card.json"
        card = json.loads(card_path.read_text(encoding="utf-8"))
        card["test"] = {
            "corpora": list(self.recipe.data.test),
            "pairs": len(pairs),
            "beam": options.beam,
            "scores": {score.name: score.value for score in found.scores},
            "signatures": {score.name: score.signature for score in found.scores},
        }
        aside = card_path.with_suffix(".part")
        write_text(json.dumps(card, indent=1, ensure_ascii=False), aside)
        aside.rename(card_path)
        text = "".join(translation.text + "\n" for translation in found.translations)
        write_text(text, self.folder / "test.txt")
        return {score.name: score.value for score in found.scores}

    def _finished(self, trainer: Trainer, reason: str, test: dict[str, float]) -> Finished:
        progress = trainer.progress
        return Finished(
            run=self.folder,
            reason=reason,
            update=progress.position.update,
            best_update=progress.best_update,
            scores=progress.best_scores,
            test=test,
            seconds=trainer.seconds,
        )


def fetcher(data: Prepared, recipe: Recipe) -> Fetch:
    """How batches are made: from the stored ids, or, with sampling, segmented anew every time."""
    sampling = recipe.tokenizer.sampling
    source, target = data.train.source, data.train.target
    if not sampling:
        return lambda indices, seed: collate(source, target, indices)

    def sample(tokenizer: Tokenizer, side: Side, indices: Indices, seed: int) -> list[list[int]]:
        assert side.texts is not None, "a store made for sampling keeps its texts"
        texts = [side.texts[int(index)] for index in indices]
        rows = tokenizer.encode(texts, sampling=sampling, seed=seed % 2**32)
        return [[*row, EOS] for row in rows]

    return lambda indices, seed: assemble(
        pad(sample(data.source_tokenizer, source, indices, 2 * seed)),
        pad(sample(data.target_tokenizer, target, indices, 2 * seed + 1)),
    )


@torch.inference_mode()
def validation_loss(model: Seq2Seq, data: Prepared, max_tokens: int, trainer: Trainer) -> float:
    """Cross-entropy per target token over the whole validation corpus, not smoothed."""
    device = trainer.world.device
    total, tokens = torch.zeros((), dtype=torch.float64, device=device), 0
    for indices in plan(data.valid.lengths, max_tokens, seed=0, epoch=0):
        batch = collate(data.valid.source, data.valid.target, indices).to(device)
        with trainer.autocast():
            logits = model(batch.source, batch.inputs, batch.rows)
        total += smoothed_loss(logits, batch.labels, 0.0)[1]
        tokens += batch.tokens
    return float(total) / max(tokens, 1)


def load_weights(model: Seq2Seq, weights: dict[str, Tensor]) -> None:
    """Copy saved weights into a model; shared parameters are stored once. Raises ModelError."""
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        first = str(error).split("\n\t")[1:2] or [str(error)]
        raise ModelError(f"the saved weights do not fit the model: {first[0]}") from None
    strange = sorted(set(missing) & set(weights_of(model)) | set(unexpected))
    if strange:
        raise ModelError(f"the saved weights do not fit the model: {strange[0]}")


def _flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
