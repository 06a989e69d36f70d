"""Processes that `torchrun` starts: when one dies all end, start again and go on exactly."""

from pathlib import Path

import pytest
from test_run import RECIPE, same_bits, weights

from tests.conftest import Python

# The leader kills the other process when update 10 is told, in the first sitting only.
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from mtkit import Progressed, Recipe, train

folder, deadly = Path(sys.argv[1]), sys.argv[2] == "deadly"
(folder / f"pid{os.environ['RANK']}").write_text(str(os.getpid()))
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

def kill(event):
    if deadly and first and isinstance(event, Progressed) and event.update == 10:
        os.kill(int((folder / "pid1").read_text()), signal.SIGKILL)

train(Recipe.load(folder / "recipe.toml"), folder / "run", device="cpu", listeners=[kill])
"""


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["false", "true"])
def test_run_whose_process_was_killed_is_restarted_and_ends_the_same(
    tmp_path: Path, python: Python, shard: str
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    errors = {}
    for name in ("peaceful", "deadly"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.toml").write_text(
            RECIPE.replace("updates =", f"shard = {shard}\nupdates =")
        )
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        program = tmp_path / "program.py"
        errors[name] = python(*launcher, "--max-restarts=1", program, folder, name).stderr
    assert "exitcode: -9" in errors["deadly"]
    assert "ended, because another process has ended" in errors["deadly"]
    starts = (tmp_path / "deadly" / "run" / "log.jsonl").read_text().count('"event": "started"')
    assert starts == 2
    assert same_bits(weights(tmp_path / "peaceful" / "run"), weights(tmp_path / "deadly" / "run"))
