"""A training process that is killed again and again ends as one that was left alone."""

import json
from pathlib import Path

import pytest
from test_run import RECIPE, same_bits, weights

from tests.conftest import Python

KILLS, UPDATES = 25, 300
# Imports once; each sitting is a fork of this process, which is killed at its start or a moment
# after one of its first updates: so there are as many kills on a fast machine as on a slow one.
PROGRAM = """
import json, os, random, signal, sys, threading
from pathlib import Path
from mtkit import Progressed, Recipe, Validated, train
from mtkit.training import trainer

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
recipe = Recipe.load(folder / "recipe.toml")
trainer.REPORT_SECONDS = 0.0  # the loss of every update is told
trainer.SAVE_SECONDS = 0.0  # and every update is saved, so that many kills meet a writing

def note(event):
    if isinstance(event, Progressed | Validated):
        with (folder / "losses.jsonl").open("a") as lines:
            lines.write(json.dumps([type(event).__name__, event.update, event.loss]) + "\\n")

def sitting(after, seconds):
    child = os.fork()
    if not child:
        death = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        death.daemon = True
        told = []

        def strike(event):
            told.append(event)
            if len(told) == after:
                death.start()

        if after == 0:
            death.start()
        train(recipe, folder / "run", device="cpu", listeners=[note, strike])
        os._exit(0)
    return os.waitpid(child, 0)[1]

chance, killed = random.Random(3), 0
while killed < kills:
    after = chance.randrange(8)
    status = sitting(after, chance.uniform(0.0, 0.03 if after else 0.5))
    if not status:
        break
    killed += 1
if kills == killed:
    status = sitting(None, 0.0)
print(json.dumps([killed, status]))
"""


@pytest.mark.slow
def test_run_killed_at_25_moments_equals_one_that_was_not(tmp_path: Path, python: Python) -> None:
    text = (
        RECIPE.replace("updates = 24", f"updates = {UPDATES}\naccumulation = 2\nkeep = 2")
        .replace("every = 8", "every = 20\nsentences = 5")
        .replace("vocabulary = 900", "vocabulary = 900\nsampling = 0.1")
    )
    ends = {}
    for name, kills in (("whole", 0), ("killed", KILLS)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.toml").write_text(text)
        done = python("-c", PROGRAM, folder, kills)
        ends[name] = json.loads(done.stdout.strip().split("\n")[-1])
    assert ends == {"whole": [0, 0], "killed": [KILLS, 0]}
    whole, killed = (losses(tmp_path / name / "losses.jsonl") for name in ("whole", "killed"))
    assert len(whole) == UPDATES + UPDATES // 20
    # Every loss that was told, also those told twice, since each is of its update's batches.
    assert killed == whole
    assert same_bits(*(weights(tmp_path / name / "run") for name in ("whole", "killed")))


def losses(path: Path) -> dict[tuple[str, int], set[float]]:
    """By kind and update, all values that were told."""
    found: dict[tuple[str, int], set[float]] = {}
    for line in path.read_text().split("\n"):
        try:
            kind, update, loss = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        found.setdefault((kind, update), set()).add(loss)
    return found
