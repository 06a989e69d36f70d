"""Curves of characters."""

import json
import shutil
from math import nan
from pathlib import Path

from mtkit.cli.curves import curve
from tests.cli.conftest import Call


def test_curve_rises_from_the_lowest_to_the_highest() -> None:
    drawn = curve("BLEU", [(10 * n, float(n)) for n in range(1, 49)]).split("\n")
    assert drawn[0] == "BLEU"
    assert drawn[1].startswith("48.0 │")
    assert drawn[6].startswith(" 1.0 │▁")
    assert drawn[1].endswith("█")
    assert drawn[7].split() == ["10", "480", "updates"]
    heights = [sum(row[6 + n : 7 + n] not in ("", " ") for row in drawn[1:7]) for n in range(48)]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (1, 6)


def test_curve_of_many_points_is_as_wide_as_a_terminal() -> None:
    drawn = curve("loss", [(n, -float(n)) for n in range(1000)], ".3f")
    assert max(map(len, drawn.split("\n"))) <= 80


def test_curve_of_one_value_is_flat() -> None:
    drawn = curve("BLEU", [(1, 2.0), (2, 2.0)]).split("\n")
    assert drawn[6].endswith("│▁▁")


def test_long_run_is_shown_by_some_of_its_validations(
    call: Call, model: Path, tmp_path: Path
) -> None:
    """All of them the best so far, but one whose loss was no number."""
    run = tmp_path / "run"
    shutil.copytree(model, run)
    events = [
        {
            "event": "validated", "update": n, "epoch": n / 9, "loss": nan if n == 3 else 9 / n,
            "scores": {"bleu": float(n)}, "signatures": {}, "best": n != 3, "seconds": float(n),
            "averaged": 0,
        }
        for n in range(1, 61)
    ]  # fmt: skip
    (run / "log.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    done = call("show", run)
    assert done.code == 0
    rows = [line for line in done.out.split("\n") if line.endswith("*")]
    assert 10 <= len(rows) <= 13
    assert "60" in rows[-1].split()
