"""What can be known of a run before it is begun: what it will cost, and that it resumes exactly."""

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from mtkit.data.batches import Batch
from mtkit.errors import TrainingError, UsageError
from mtkit.model_dir import weights_of
from mtkit.recipe import Recipe
from mtkit.training.distributed import World
from mtkit.training.events import Listener
from mtkit.training.guard import LossLostError
from mtkit.training.optimizer import schedule_of
from mtkit.training.run import Run
from mtkit.training.trainer import Trainer

MEASURED = 20  # updates that a plan is measured over
_WARM = 3  # before them


@dataclass(frozen=True)
class RunPlan:
    """What a run will take, from a few of its updates; validations are not counted."""

    parameters: dict[str, int]  # by part of the model; shared ones once
    pairs: int
    batches_per_epoch: int
    updates_per_epoch: int
    updates: int | None  # until the end, if the recipe says
    tokens_per_second: float  # target tokens, padding not counted
    seconds_per_update: float
    seconds: float | None  # until the end
    memory: int  # bytes: resident on a CPU, allocated on a GPU, the most so far
    disk: int  # bytes that the run folder will take
    device: str
    precision: str


@dataclass(frozen=True)
class Resumption:
    """Whether a run that was stopped half-way went on exactly as one that was not."""

    updates: int
    weights: bool  # after the last update, bit by bit
    losses: bool  # of each update
    batches: bool  # their tokens and order

    @property
    def exact(self) -> bool:
        return self.weights and self.losses and self.batches


def plan_run(
    recipe: Recipe, *, device: str = "auto", listeners: Sequence[Listener] = ()
) -> RunPlan:
    """Measure some updates of a run. Nothing is kept but the prepared data.

    Raises UsageError under torchrun, and MTKitErrors.
    """
    _require_one_process("a plan is made")
    with _run(recipe, device, listeners) as run:
        trainer, data, _ = run().ready()
        trainer.begin(schedule_of(run().recipe))
        began, tokens, made = time.monotonic(), 0, 0
        for batches in trainer.updates():
            trainer.update(batches)
            made += 1
            if made == _WARM:
                trainer.guard.sound()  # waits for the device
                began, tokens = time.monotonic(), 0
            tokens += sum(batch.tokens for batch in batches) if made > _WARM else 0
            if made == _WARM + MEASURED:
                break
        trainer.guard.sound()
        took = time.monotonic() - began
        each = took / max(made - _WARM, 1)
        total = _updates(trainer, each)
        return RunPlan(
            parameters=parts(trainer),
            pairs=len(data.train),
            batches_per_epoch=trainer.feed.batches_per_epoch,
            updates_per_epoch=trainer.feed.updates_in(0),
            updates=total,
            tokens_per_second=tokens / took,
            seconds_per_update=each,
            seconds=None if total is None else total * each,
            memory=_memory(trainer.world.device),
            disk=_disk(trainer),
            device=str(trainer.world.device),
            precision=trainer.precision,
        )


def verify_resume(
    recipe: Recipe, *, device: str = "auto", updates: int = 20, listeners: Sequence[Listener] = ()
) -> Resumption:
    """Train `updates` updates, once in one go and once stopped half-way, from a checkpoint on.

    The second half is made by a process of its own, so that nothing can help it but what the
    checkpoint holds. What is compared is hashes of the weights, and the losses and batches of every
    update. All that is written, but for the prepared data, lies in a temporary folder and is
    removed. An end in minutes is left out: by it the rate follows the clock, and no two runs are
    alike. Raises UsageError under torchrun, and MTKitErrors.
    """
    _require_one_process("a resumption is proved")
    if recipe.training.minutes:
        end = recipe.training.updates or 100 * updates
        recipe = recipe.changed(["training.minutes=0", f"training.updates={end}"])
    with _run(recipe, device, listeners) as run:
        whole = Sitting(run(), updates).trace
    with _run(recipe, device, listeners) as run:
        first = Sitting(run(), updates // 2)
        first.trainer.save()
        second = _in_a_process(run(), device, updates)
    return Resumption(
        updates=updates,
        weights=whole.weights == second.weights,
        losses=whole.losses == first.trace.losses + second.losses,
        batches=whole.batches == first.trace.batches + second.batches,
    )


def _require_one_process(what: str) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{what} with one process", "run it without torchrun")


@dataclass
class Trace:
    """What a sitting did: hashes of its batches, its losses, and a hash of its last weights."""

    batches: list[str]
    losses: list[float]
    weights: str


class Sitting:
    """A run from where it stands up to some update."""

    def __init__(self, run: Run, until: int) -> None:
        self.trainer, _, _ = run.ready()
        self.trainer.begin(schedule_of(run.recipe))
        batches_seen, losses = [], []
        while self.trainer.progress.position.update < until:
            for batches in self.trainer.updates():
                self.trainer.sums.loss.zero_()
                self.trainer.update(batches)
                batches_seen.append(_hash([t for batch in batches for t in _tensors(batch)]))
                losses.append(float(self.trainer.sums.loss))
                if self.trainer.progress.position.update == until:
                    break
        weights = _hash(list(weights_of(self.trainer.model).values()))
        self.trace = Trace(batches_seen, losses, weights)


def _in_a_process(run: Run, device: str, until: int) -> Trace:
    """A sitting in a fresh process, from the checkpoint in the run's folder."""
    (run.folder / "recipe.toml").write_text(run.recipe.to_toml(), encoding="utf-8")
    package = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "mtkit.training.trial", str(run.folder), device, str(until)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),  # sums are of as many parts
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().split("\n")[-1]
        raise TrainingError(f"the process that was to go on has failed: {said}")
    return Trace(**json.loads(done.stdout.strip().split("\n")[-1]))


def _go_on(folder: str, device: str, until: str) -> None:
    """What that process does: it prints its trace."""
    run = Run(
        Recipe.load(Path(folder) / "recipe.toml"), Path(folder), World.from_environment(device), ()
    )
    sys.stdout.write(json.dumps(asdict(Sitting(run, int(until)).trace)) + "\n")


@contextmanager
def _run(recipe: Recipe, device: str, listeners: Sequence[Listener]) -> Iterator[Callable[[], Run]]:
    """Sittings of one run in a folder that is removed at the end."""
    world = World.from_environment(device)
    try:
        with TemporaryDirectory(prefix="mtkit-") as folder:
            yield lambda: Run(recipe, Path(folder), world, listeners)
    except LossLostError:
        raise TrainingError(
            "the loss is no longer a number after these few updates",
            f"--set training.optimizer.rate={recipe.training.optimizer.rate / 10:g}",
        ) from None
    finally:
        world.leave()


def parts(trainer: Trainer) -> dict[str, int]:
    """Parameters by the part of the model that they belong to."""
    found: Counter[str] = Counter()
    for name, parameter in trainer.model.named_parameters():
        found[name.partition(".")[0]] += parameter.numel()
    return dict(found)


def _updates(trainer: Trainer, seconds: float) -> int | None:
    """How many updates the run has, if its recipe says."""
    limits = trainer.training
    ends = [
        limits.updates or None,
        round(limits.epochs * trainer.feed.updates_in(0)) or None,
        round(limits.minutes * 60 / max(seconds, 1e-9)) or None,
    ]
    return min((end for end in ends if end), default=None)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _disk(trainer: Trainer) -> int:
    """Of all checkpoints, one more while it is written, and the best model."""
    weights = sum(t.nbytes for t in weights_of(trainer.model).values())
    state = trainer.optimizer.state.values()
    beside = sum(v.nbytes for entry in state for v in entry.values() if isinstance(v, Tensor))
    kept = trainer.checkpoints.keep + trainer.checkpoints.around + 2
    trained = weights if trainer.moving_average is not None else 0
    return kept * (weights + trained + beside) + weights


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.source, batch.inputs, batch.rows, batch.labels]


def _hash(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


if __name__ == "__main__":
    _go_on(*sys.argv[1:])
