"""A training process that is killed again and again ends as one that was left alone."""

import json
from pathlib import Path

import pytest
from test_run import RECIPE, same_bits, weights

from tests.conftest import Python

KILLS = 25
# Imports once; each sitting is a fork of this process, killed after its share of the time.
PROGRAM = """
import json, os, random, signal, sys, time
from pathlib import Path
from mtkit import Progressed, Recipe, Validated, train
from mtkit.training import trainer

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
recipe = Recipe.load(folder / "recipe.toml")
trainer.REPORT_SECONDS = 0.0  # the loss of every update is told
trainer.SAVE_SECONDS = 0.2

def note(event):
    if isinstance(event, Progressed | Validated):
        with (folder / "losses.jsonl").open("a") as lines:
            lines.write(json.dumps([type(event).__name__, event.update, event.loss]) + "\\n")

def sitting(seconds):
    began, child = time.monotonic(), os.fork()
    if not child:
        train(recipe, folder / "run", device="cpu", listeners=[note])
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status, time.monotonic() - began

chance, killed, longest = random.Random(3), 0, 0.3
while killed < kills:
    status, _ = sitting(chance.uniform(0.0, longest))
    if not status:
        break
    killed += 1
    # On machines that are slow for now a sitting has to last longer to get anywhere.
    saved = len(list((folder / "run" / "checkpoints").glob("[0-9]*")))
    longest *= 1.0 if saved else 1.3
if kills == killed:
    status, _ = sitting(None)
print(json.dumps([killed, status]))
"""


@pytest.mark.slow
def test_run_killed_at_25_moments_equals_one_that_was_not(tmp_path: Path, python: Python) -> None:
    text = (
        RECIPE.replace("updates = 24", "updates = 120\naccumulation = 2\nkeep = 2")
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
    assert len(whole) == 120 + 120 // 20
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
