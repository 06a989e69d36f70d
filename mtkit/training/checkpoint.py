"""Checkpoints: folders that are either complete or not there."""

import hashlib
import json
import os
import shlex
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from mtkit.errors import ModelError, TrainingError
from mtkit.training.optimizer import Position
from mtkit.training.sharding import shard_like

FORMAT = 1


@dataclass
class Progress:
    """What a run knows of itself beside weights and optimizer state."""

    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of training, all sittings
    best_value: float | None = None  # of validation.metric
    best_update: int = 0
    best_scores: dict[str, float] = field(default_factory=dict)
    best_signatures: dict[str, str] = field(default_factory=dict)
    without_gain: int = 0  # validations since the best
    cuts: int = 0  # of the plateau schedule
    waited: int = 0
    validated: bool = False  # whether the checkpoint was made at a validation
    lowered: int = 0  # how often the rate was halved, because the loss was lost
    skipped: int = 0  # updates whose loss or gradient was no number
    data: str = ""  # fingerprint of the prepared data: a run never goes on with other data
    batches: int = 0  # that an update takes, in all processes; 0: not known

    def to_json(self, files: dict[str, str]) -> str:
        """With the digests of the files beside it, and at the end one of all that stands here."""
        table = {"format": FORMAT, **asdict(self), "files": files}
        return json.dumps({**table, "digest": _digest_of(table)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> tuple[Self, dict[str, str]]:
        """The progress and the digests of the files beside it. Raises ValueError and KeyError."""
        table = json.loads(text)
        said = table.pop("digest", None)  # checkpoints of before there were digests have none
        if said not in (None, _digest_of(table)):
            raise ValueError("it is not what was written")
        files = table.pop("files", {})
        table.pop("format")
        table["position"] = Position(**table["position"])
        return cls(**table), files


@dataclass(frozen=True)
class Checkpoints:
    """The `checkpoints/` folder of a run: one folder an update, the newest `keep` are kept.

    So are `around` of them around the best.

    A checkpoint is written under another name, flushed to the disk and renamed; it is renamed again
    before it is removed. Names that begin with a dot are what a killed process left. Digests tell
    whether a file is what was written.

    No state of a random generator lies in it, because none outlives an update: torch (CPU and GPU)
    is seeded anew from (seed, update, rank) before each, the batch plan is NumPy's from (seed,
    epoch), the tokenizer's sampling is seeded by the batch, and Python's generator is not used.
    """

    folder: Path
    keep: int
    around: int = 0

    def save(
        self,
        weights: dict[str, Tensor],
        state: dict[str, Tensor],
        progress: Progress,
        trained: dict[str, Tensor] | None = None,
    ) -> Path:
        """Write a checkpoint; older ones beyond `keep` go afterwards.

        `weights` are those that are judged; `trained` those that training goes on from, where
        they are others; `state` is the optimizer's, by `state_of`.
        Raises TrainingError when it cannot be written; those that are there stay then.
        """
        name = f"{progress.position.update:09d}"
        path, aside = self.folder / name, self.folder / f".{name}.part"
        before = self.folder / f".{name}.old"  # of the same update
        try:
            self._sweep()
            aside.mkdir(parents=True)
            write_tensors(weights, aside / "weights.safetensors")
            if trained is not None:
                write_tensors(trained, aside / "trained.safetensors")
            write_tensors(state, aside / "optimizer.safetensors")
            files = {file.name: digest(file) for file in sorted(aside.iterdir())}
            write_text(progress.to_json(files), aside / "progress.json")
            if path.exists():
                path.rename(before)
            aside.rename(path)
            _flush(self.folder)
            self._prune(path, progress.best_update)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)  # what it takes up may be what is lacking
            if before.exists() and not path.exists():
                before.rename(path)
            raise _unwritten(path, error) from None
        return path

    def renew(self, progress: Progress) -> None:
        """Let the checkpoint of this update, whose tensors stay, say more of the run.

        Raises TrainingError as `save` does; the checkpoint stays what it was then.
        """
        path = self.folder / f"{progress.position.update:09d}"
        try:
            _, files = _read_progress(path)
            write_text(progress.to_json(files), path / "progress.json")
            self._prune(path, progress.best_update)
        except (OSError, ModelError) as error:
            raise _unwritten(path, error) from None

    def all(self) -> list[Path]:
        """Complete checkpoints, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.name.isdigit())

    def averaged(self, last: int) -> list[Path]:
        """The newest `last` checkpoints that were made at a validation."""
        return self.validated()[-last:]

    def around_best(self, count: int, best: int) -> list[Path]:
        """`count` checkpoints made at validations, as many before the one of update `best` as
        after it where there are as many."""
        paths = self.validated()
        place = sum(int(path.name) < best for path in paths)
        first = max(0, min(place - count // 2, len(paths) - count))
        return paths[first : first + count]

    def validated(self) -> list[Path]:
        """Those that were made at a validation, the oldest first."""
        return [path for path in self.all() if _made_at_validation(path)]

    def _prune(self, newest: Path, best: int) -> None:
        kept = {newest, *self.averaged(self.keep), *self.around_best(self.around, best)}
        for path in self.all():
            if path not in kept:
                path.rename(self.folder / f".{path.name}.old")
        self._sweep()

    def _sweep(self) -> None:
        """Remove what is no checkpoint: not yet, or no more."""
        for pattern in (".*.part", ".*.old"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)


def _unwritten(path: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"{path}: the checkpoint cannot be written ({error})",
        "make room there and run the same command again; the one before it is intact",
    )


def _made_at_validation(path: Path) -> bool:
    """Whether a checkpoint was made at a validation; a damaged one was not."""
    try:
        return read_progress(path).validated
    except ModelError:
        return False


def read_progress(path: Path) -> Progress:
    """What the checkpoint at `path` says of the run. Raises ModelError when it is damaged."""
    return _read_progress(path)[0]


def check(path: Path) -> None:
    """Raise ModelError when a file of the checkpoint at `path` is not as it was written."""
    for name, said in _read_progress(path)[1].items():
        try:
            altered = digest(path / name) != said
        except OSError as error:
            raise ModelError(f"{path / name}: cannot be read ({error.strerror})") from None
        if altered:
            raise ModelError(f"{path / name}: torn or altered, it is not what was written")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(table: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _read_progress(path: Path) -> tuple[Progress, dict[str, str]]:
    try:
        return Progress.from_json((path / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: the checkpoint is damaged ({error})",
            f"remove that folder; the one before it is used then: rm -r {shlex.quote(str(path))}",
        ) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises ModelError when it is missing or damaged."""
    try:
        # Read, not mapped: a mapped file that is replaced in place ends the process.
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Put the optimizer's saved tensors back, parameter by parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(path / "optimizer.safetensors").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = shard_like(tensor, parameters[int(index)])
    table = optimizer.state_dict()
    table["state"] = state
    optimizer.load_state_dict(table)


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: `<parameter>.<key>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file and flush it to the disk."""
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(mode)  # safetensors keeps others from reading the file, whatever the umask says
    _flush(path)


def write_text(text: str, path: Path) -> None:
    """Write or replace a text file, by a rename; it and its folder are flushed to the disk."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    _flush(aside)
    aside.replace(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
