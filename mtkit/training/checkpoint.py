"""Checkpoints: folders that are either complete or not there."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from mtkit.errors import ModelError
from mtkit.training.optimizer import Position

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
    data: str = ""  # fingerprint of the prepared data: a run never goes on with other data

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        table = json.loads(text)
        table.pop("format")
        table["position"] = Position(**table["position"])
        return cls(**table)


@dataclass(frozen=True)
class Checkpoints:
    """The `checkpoints/` folder of a run: one folder an update, the newest `keep` are kept.

    A checkpoint is written under another name, flushed to the disk and renamed.
    """

    folder: Path
    keep: int

    def save(
        self, weights: dict[str, Tensor], optimizer: torch.optim.Optimizer, progress: Progress
    ) -> Path:
        """Write a checkpoint; older ones beyond `keep` go afterwards."""
        name = f"{progress.position.update:09d}"
        aside = self.folder / f".{name}.part"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        write_tensors(weights, aside / "weights.safetensors")
        write_tensors(_flat(optimizer), aside / "optimizer.safetensors")
        write_text(progress.to_json(), aside / "progress.json")
        path = self.folder / name
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
        _flush(self.folder)
        self._prune()
        return path

    def all(self) -> list[Path]:
        """Complete checkpoints, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.name.isdigit())

    def averaged(self, last: int) -> list[Path]:
        """The newest `last` checkpoints that were made at a validation."""
        return [path for path in self.all() if read_progress(path).validated][-last:]

    def _prune(self) -> None:
        made = {path: read_progress(path).validated for path in self.all()}
        newest = next(reversed(made))
        validated = [path for path, kept in made.items() if kept]
        for path in made:
            if path != newest and path not in validated[-self.keep :]:
                shutil.rmtree(path)


def read_progress(path: Path) -> Progress:
    """What the checkpoint at `path` says of the run. Raises ModelError when it is damaged."""
    try:
        return Progress.from_json((path / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: the checkpoint is damaged ({error})",
            f"remove that folder; the one before it is used then: rm -r {path}",
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
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(path / "optimizer.safetensors").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    table = optimizer.state_dict()
    table["state"] = state
    optimizer.load_state_dict(table)


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
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
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    _flush(path)


def write_text(text: str, path: Path) -> None:
    """Write a text file and flush it to the disk."""
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
