"""How fast a recipe trains here: target tokens a second, fill, peak memory, time by phase.

    python tests/bench/train_speed.py RECIPE.toml [--updates 30] [--warm-up 6] [--set KEY=VALUE ...]
        [--compile] [--peer NAME 'COMMAND'] ... [--seconds 50]

transformer.toml and lstm.toml beside this script are the recipes of the figures below, as in

    python tests/bench/train_speed.py tests/bench/transformer.toml \
        --peer eole 'eole train -config eole.yaml' --peer marian 'marian -c marian.yml'

Counts target tokens that are not padding, as the training display does. Runs the trainer's own
update; the table by phase comes from a second pass with a clock around each part. Machines with
shared processors are noisy: run it before and after a change in the same minutes, and compare.

A peer is a shell command that trains the same model on the same pieces and reports its own rate;
it is ended after --seconds. The median of what it printed (`.../ 1763 tok/s`, `1582.0 words/s`),
the first report left out, stands beside the mean of a run of ours before all peers and one after.

Measured on 2 cores of an AMD EPYC (Zen 4), 2 threads, torch 2.13.0: Multi30k en-de, joint 8k BPE,
3+3 layers, width 256, 4 heads, feed-forward 1024, 4,096 tokens a batch, dropout and label smoothing
0.1; target tokens/s, all in the same minutes:

    mtkit, bfloat16           4,786 and 5,142      2.8 x eole
    mtkit, float32            2,136                1.2 x eole
    eole 0.6.4                1,763
    Marian 1.12.42            1,582
    OpenNMT-py 3.5.1          1,390

The LSTM of the same size class (2 layers, width 512, embedding 256, general attention, encoder
bidirectional, input feeding; 2 threads, in other minutes):

    mtkit, bfloat16           3,159 and 3,161      2.6 x OpenNMT-py
    ... without input feeding 4,325                (OpenNMT-py has it on)
    OpenNMT-py 3.5.1          1,196

An LSTM on the same corpus and pieces (bidirectional, 2 + 2 layers of width 512, embeddings of 256,
general attention, dropout 0.2, 4,096 tokens a batch, bfloat16, 2 threads, 12 updates): 3,555 target
tokens/s with input feeding and 3,691 without.

A share of 0.968 of a batch's tokens is no padding: sequences packed end to end could gain no more.
`torch.compile` of the layers (--compile; 12 updates left out, dropout 0, since it cannot follow the
masks of bits) ran at 3,878, the same without it at 5,942 and 6,107.

Before the logits were made and left piece by piece, and with a float32 residual stream, bfloat16
ran at 4,194 (2.4 GB of memory; now 1.6 GB).
"""

import argparse
import os
import re
import resource
import signal
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mtkit import Recipe, build, prepare
from mtkit.allocator import keep_freed_memory
from mtkit.data.batches import Batch
from mtkit.training.checkpoint import Checkpoints
from mtkit.training.distributed import World
from mtkit.training.feed import Feed, fetcher, planned_lengths
from mtkit.training.host import machine
from mtkit.training.loss import Aims, linear_loss
from mtkit.training.optimizer import Schedule
from mtkit.training.sums import Sums
from mtkit.training.trainer import Trainer


def make_trainer(recipe: Recipe, folder: Path, device: str) -> Trainer:
    """The trainer of a recipe, as `mtkit train` would make it, in a folder of no consequence."""
    data = prepare(recipe)
    world = World.from_environment(device)
    torch.manual_seed(recipe.training.seed)
    model = build(recipe.model, data.source_tokenizer.size, data.target_tokenizer.size)
    fetch = fetcher(data, recipe.tokenizer.sampling)
    feed = Feed(planned_lengths(data, recipe.tokenizer.sampling), fetch, recipe.training, world)
    lengths = data.train.lengths
    padded = sum(len(b) * lengths[b].max(0).sum() for b in feed._plan(0))
    print(f"fill {lengths.sum() / padded:.3f}, {feed.batches_per_epoch} batches an epoch")
    trainer = Trainer(
        model.to(world.device),
        feed,
        recipe.training,
        recipe.validation,
        world,
        Checkpoints(folder, 1),
    )
    trainer.schedule = Schedule(recipe.training.schedule, recipe.training.optimizer.rate, 1)
    trainer.started = time.monotonic()
    trainer.sums = Sums.none(trainer.world.device)
    return trainer


def timed_update(trainer: Trainer, batches: list[Batch], spent: Counter[str]) -> None:
    """One update in parts, with a clock around each."""

    @contextmanager
    def clock(phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        if trainer.world.device.type == "cuda":
            torch.cuda.synchronize()
        spent[phase] += time.perf_counter() - began

    model, smoothing = trainer.model.train(), trainer.training.label_smoothing
    tokens = sum(batch.tokens for batch in batches)
    for batch in batches:
        batch = batch.to(trainer.world.device)
        with trainer.autocast():
            with clock("forward"):
                memory = model.encode(batch.source)
                features = model.features(batch.inputs, memory)
                features = features.flatten(0, 1).index_select(0, batch.rows)
            with clock("loss"):
                aims, scratch = Aims(batch.labels, smoothing), trainer.objective.scratch
                loss, _ = linear_loss(features, model.output_layer(), aims, scratch)
        with clock("backward"):
            (loss / tokens).backward()
    with clock("optimizer"):
        trainer.clip()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)


def measure(arguments: argparse.Namespace) -> float:
    """Print what a run of ours does; its target tokens a second."""
    recipe = Recipe.load(arguments.recipe, arguments.changes)
    with TemporaryDirectory() as folder:
        trainer = make_trainer(recipe, Path(folder), arguments.device)
        if arguments.compile:
            for part in trainer.model.parts():
                part.compile(dynamic=True)
        updates = trainer.feed.epoch(0, 0)
        for _ in range(arguments.warm_up):
            trainer.update(next(updates))
        tokens, began = 0, time.perf_counter()
        for _ in range(arguments.updates):
            batches = next(updates)
            tokens += sum(batch.tokens for batch in batches)
            trainer.update(batches)
        if trainer.world.device.type == "cuda":
            torch.cuda.synchronize()
        rate = tokens / (time.perf_counter() - began)
        spent: Counter[str] = Counter()
        for _ in range(max(arguments.updates // 3, 1)):
            with_clock = time.perf_counter()
            batches = next(updates)
            spent["data"] += time.perf_counter() - with_clock
            timed_update(trainer, batches, spent)
        updates.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{machine()}; {trainer.precision}")
    print(f"{rate:,.0f} target tokens/s, peak memory {peak:,.0f} MB")
    for phase, time_spent in spent.most_common():
        print(f"  {phase:10} {100 * time_spent / spent.total():5.1f} %")
    return rate


def measure_peer(command: str, seconds: float) -> float:
    """The median rate that a training command reports of itself while it may run."""
    process = subprocess.Popen(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate()
    rates = [float(found) for found in re.findall(r"([0-9.]+) *(?:tok/s|words/s)", said)[1:]]
    if not rates:
        raise SystemExit(f"no rate in what this printed:\n{said[-2000:]}")
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=6)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="layers by torch.compile")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--peer", action="append", nargs=2, default=[], dest="peers")
    parser.add_argument("--seconds", type=float, default=50)
    arguments = parser.parse_args()
    keep_freed_memory()
    ours = [measure(arguments)]
    theirs = {name: measure_peer(command, arguments.seconds) for name, command in arguments.peers}
    if theirs:
        ours.append(measure(arguments))
    for name, rate in theirs.items():
        print(f"{name}: {rate:,.0f} target tokens/s; mtkit {statistics.mean(ours) / rate:.2f} x")


if __name__ == "__main__":
    main()
