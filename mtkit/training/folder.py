"""The folder of a run: whose it is, what may be done in it, and how the run ended."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mtkit.errors import UsageError
from mtkit.recipe import Recipe
from mtkit.training.checkpoint import Checkpoints, write_text
from mtkit.training.events import Finished

# What may change between two sittings of a run: when it ends, and what is done afterwards.
MAY_CHANGE = (
    "title",
    "data.source_language",
    "data.target_language",
    "data.test",
    "training.updates",
    "training.epochs",
    "training.minutes",
    "training.accumulation",  # for other processes; how many batches an update takes is checked
    "training.shard",  # whose checkpoints are those of any run
    "training.average",
    "training.tensorboard",
    "training.average_of",
    "validation.patience",
    "search",
)


@dataclass(frozen=True)
class RunFolder:
    """A run folder; `recipe.toml` and `finished.json` in it decide what the same command does."""

    path: Path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second trainer out of the folder. Raises UsageError when there is one.

        A folder that was made for a run that failed before it wrote anything is removed.
        """
        lock, new = self.path / "run.lock", not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = lock.open("w")
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot be written to ({error.strerror})", "choose another --output"
            ) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"{self.path}: another process is training in this folder",
                    "wait for it, or choose another --output",
                ) from None
            try:
                yield
            except BaseException:
                with suppress(OSError):  # what went wrong is told, not that this cannot be done
                    if new and list(self.path.iterdir()) == [lock]:
                        lock.unlink()
                        self.path.rmdir()
                raise

    def check(self, recipe: Recipe) -> None:
        """Raise UsageError when the folder holds a run of another recipe."""
        path = self.path / "recipe.toml"
        if not path.exists() or not self._begun:
            return
        before, now = (_flat(r.model_dump(mode="json")) for r in (Recipe.load(path), recipe))
        for key in sorted(before.keys() | now.keys()):
            same = before.get(key) == now.get(key)
            if not same and not any(key == k or key.startswith(k + ".") for k in MAY_CHANGE):
                raise UsageError(
                    f"{self.path}: holds a run with {key} = {before.get(key)!r}, "
                    f"not {now.get(key)!r}",
                    "choose another --output, or remove that folder",
                )

    def begin(self, recipe: Recipe) -> None:
        """Write the recipe down; of a run that goes on, `check` has let pass what it changes."""
        write_text(recipe.to_toml(), self.path / "recipe.toml")

    def keep_search(self, recipe: Recipe) -> bool:
        """Let the model of an ended run search as the recipe now says; whether that is news."""
        path = self.path / "recipe.toml"
        if not path.exists() or (kept := Recipe.load(path)).search == recipe.search:
            return False
        write_text(kept.model_copy(update={"search": recipe.search}).to_toml(), path)
        return True

    @property
    def _begun(self) -> bool:
        """Whether the folder holds anything that a recipe has made."""
        made = Checkpoints(self.path / "checkpoints", keep=1).all()
        return bool(made) or (self.path / "weights.safetensors").exists()

    def ended(self, recipe: Recipe) -> Finished | None:
        """The end of this run, if it has come to one that is still what the recipe asks for."""
        try:
            table = json.loads((self.path / "finished.json").read_text(encoding="utf-8"))
            tested = table.pop("search", None)  # runs of before do not tell
            if table.pop("limits") != _limits(recipe) or tested not in (None, _tested(recipe)):
                return None
            return Finished(run=self.path, **table)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or damaged: going on from the last checkpoint writes it again

    def finish(self, finished: Finished, recipe: Recipe) -> None:
        """Write down how the run ended, and what it was asked for."""
        table = asdict(finished)
        del table["run"]
        asked = {"limits": _limits(recipe), "search": _tested(recipe)}
        text = json.dumps({**table, **asked}, indent=1)
        write_text(text, self.path / "finished.json")


def _limits(recipe: Recipe) -> list[float | str]:
    """What may change after a run's end such that there is more to do."""
    limits = recipe.training
    patience = recipe.validation.patience
    numbers = [limits.updates, limits.epochs, limits.minutes, patience, limits.average]
    others = [limits.average_of] if limits.average_of != "last" else []
    return [*numbers, *others, *recipe.data.test]


def _tested(recipe: Recipe) -> dict[str, object]:
    """How the test corpora are translated, if there are any."""
    search = recipe.search.model_dump(mode="json", exclude_defaults=True)
    return search if recipe.data.test else {}


def _flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
