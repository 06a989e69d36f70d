"""Whether bfloat16 costs anything: validation losses of one recipe in both precisions, by epoch.

    python tests/bench/precisions.py RECIPE.toml [--epochs 2] [--set KEY=VALUE ...]

Both runs have the same seed, so the same first weights, batches and dropout. The losses are those
that training reports: per target token, not smoothed, over the whole validation corpus, each in the
run's own precision.

Measured on an AMD EPYC (Zen 4), the small Transformer of train_speed.py (3+3 layers, width 256):
one epoch, 65 updates, of the first 4,000 pairs of Multi30k en-de in batches of 1,024 tokens,
warm-up 30, loss on the first 300 pairs of `val`: bfloat16 5.6209, float32 5.6205, 0.0004 apart.
The same over one whole epoch of Multi30k in batches of 4,096 tokens, Adam at 2e-3 falling linearly
after a warm-up of 50, loss on all of `val`: bfloat16 4.7735, float32 4.7744, 0.001 apart.
Later epochs are not measured yet.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from mtkit import Event, Recipe, Validated, train


def losses(recipe: Recipe) -> list[float]:
    """Train; the loss of every epoch's validation."""
    found: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, Validated):
            found.append(event.loss)

    with TemporaryDirectory() as folder:
        train(recipe, Path(folder) / "run", device="cpu", listeners=[hear])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    given = parser.parse_args()
    ends = [f"training.epochs={given.epochs}", "training.updates=0", "training.minutes=0"]
    ends += ["validation.every=0", "validation.sentences=1", "training.average=1", "data.test=[]"]
    recipe = Recipe.load(given.recipe, [*given.changes, *ends])
    by_precision = {}
    for precision in ("bfloat16", "float32"):
        by_precision[precision] = losses(recipe.changed([f"training.precision={precision}"]))
        print(precision, *(f"{loss:.4f}" for loss in by_precision[precision]), flush=True)
    apart = [a - b for a, b in zip(*by_precision.values(), strict=True)]
    print("bfloat16 - float32", *(f"{difference:+.4f}" for difference in apart))


if __name__ == "__main__":
    main()
