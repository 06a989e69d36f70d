"""What would go wrong, told before it does: of a recipe, of its data, of a run that goes on."""

from pathlib import Path

from mtkit.data.mixture import Mixture
from mtkit.data.prepare import Prepared
from mtkit.data.tags import split_tag
from mtkit.errors import DataError, RecipeError, UsageError
from mtkit.recipe import Recipe
from mtkit.training.distributed import World
from mtkit.training.optimizer import schedule_of
from mtkit.training.trainer import Trainer


def check_recipe(recipe: Recipe) -> None:
    """Raise RecipeError for what would be one only after everything is prepared."""
    limits, data, tokenizer = recipe.training, recipe.data, recipe.tokenizer
    ends = limits.updates or limits.epochs or limits.minutes
    schedule_of(recipe).rate(1, 0.0, 0.0 if ends else None)
    if tokenizer.sampling and tokenizer.kind not in ("bpe", "unigram"):
        raise RecipeError(
            f"tokenizer.sampling = {tokenizer.sampling:g}, but a vocabulary of kind "
            f"{tokenizer.kind} segments a text in one way only",
            "--set tokenizer.sampling=0",
        )
    Mixture.of((1,) * len(data.train), data.weights)


def warnings_before(recipe: Recipe) -> list[str]:
    """What a recipe may not mean to say, known before anything is read."""
    tag, valid = recipe.search.tag, recipe.data.valid
    if tag and valid and not any(split_tag(name)[0] for name in valid):
        return [f"the names of data.valid have no tag: {tag} is not put before them"]
    return []


def warnings_begun(recipe: Recipe, last: int | None) -> list[str]:
    """The same, once the last update is known; None: only the clock or patience ends the run."""
    warmup = recipe.training.schedule.warmup
    if last is not None and warmup >= last:
        return [
            f"the rate rises over {warmup:,} updates, and the run ends after {last:,}: it "
            "never comes to its peak (--set training.schedule.warmup)"
        ]
    return []


def check_same_data(world: World, data: Prepared, folder: Path) -> None:
    """Raise DataError unless all processes have prepared the same."""
    number = int(data.fingerprint[:12], 16)
    if world.agree(world.share(number) != number):
        raise DataError(
            f"{folder}: the processes have not prepared the same data",
            "let all machines read the same corpora, by the same versions of mtkit and "
            "sentencepiece",
        )


def check_vocabularies(recipe: Recipe, data: Prepared) -> None:
    """Raise RecipeError where one matrix would embed the pieces of two vocabularies."""
    section, ours, theirs = recipe.model, data.source_tokenizer, data.target_tokenizer
    tied = section.kind == "transformer" and section.tied_embeddings == "all"
    if tied and ours.fingerprint != theirs.fingerprint:
        raise RecipeError(
            'model.tied_embeddings = "all" needs one vocabulary, but source and target have '
            "vocabularies of their own",
            "--set tokenizer.joint=true, or --set model.tied_embeddings=target",
        )


def check_begun(trainer: Trainer, data: Prepared, folder: Path) -> None:
    """Raise when the run cannot go on exactly where it was.

    DataError when its data (or tokenizers) were others; UsageError when its updates took other
    batches, or when the processes do not all stand at the same update.
    """
    progress, world = trainer.progress, trainer.world
    if progress.data not in ("", data.key, data.fingerprint):  # the key: runs of before
        raise DataError(
            f"{folder}: the corpora have changed since this run was begun, or the version "
            "of mtkit or sentencepiece that prepares them has",
            "bring back what they were, or begin anew with another --output",
        )
    progress.data = data.fingerprint
    batches = trainer.feed.batches_per_update
    if progress.batches and progress.batches != batches:
        raise UsageError(
            f"{folder}: an update of this run takes {progress.batches} batches, but "
            f"{world.size} process(es) x training.accumulation are {batches}",
            "start as many processes as before, or change training.accumulation as they change",
        )
    progress.batches = batches
    if world.share(progress.position.update) != progress.position.update:
        raise UsageError(
            f"{folder}: the processes find different checkpoints there",
            "let --output be on a disk that all of them share",
        )
