"""Events as lines, as a live panel and as JSON; what people read at the end."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

import mtkit
from mtkit.cli import display

STARTED = mtkit.Started(Path("run"), ("300 pairs.",), "cpu", "float32", 1000, 300, 8, 100, 16)
PROGRESSED = mtkit.Progressed(20, 2.5, 3.0, 5000.0, 1e-3, 0.5, 12.0, 48.0)
SAMPLE = mtkit.Sample("[bold]eine Katze", "a cat", "the cat")
VALIDATED = mtkit.Validated(
    24, 3.0, 2.0, {"bleu": 12.3, "chrf": 45.6}, {"bleu": "nrefs:1"}, True, (SAMPLE,), 15.0, 1.0
)
FINISHED = mtkit.Finished(
    Path("run"), "reached 100 updates", 100, 80, {"bleu": 20.0}, {"bleu": 19.0}, 75.0
)
EVENTS: list[mtkit.Event] = [
    mtkit.Preparing("training the tokenizer", 0.5), STARTED, PROGRESSED, VALIDATED,
    mtkit.Saved(24, Path("run")), mtkit.Warned("something was not as asked"), FINISHED,
]  # fmt: skip


def test_plain_lines_are_few_and_say_the_scores() -> None:
    said: list[str] = []
    shown = display.Display(said.append)
    for event in EVENTS:
        shown(event)
    text = "\n".join(said)
    assert "12.3" in text
    assert "45.6" in text
    assert "going on from update 16" in text
    assert "BLEU|nrefs:1" in text
    assert "not as asked" in text
    assert "update 20" not in text, "progress comes every thirty seconds"
    assert shown.finished == FINISHED
    before = len(said)
    shown(VALIDATED)
    assert len(said) == before + 1


def test_long_preparation_tells_its_pairs_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    shown = display.Display(said.append)
    for seconds, event in (
        (0, mtkit.Preparing("encoding", None)),
        (10, mtkit.Preparing("encoding", 0.2, 25_000.0)),
        (25, mtkit.Preparing("encoding", 0.5, 25_100.0)),
        (20, mtkit.Preparing("encoding", 1.0, 25_200.0)),
    ):
        now[0] += seconds
        shown(event)
    assert said == [
        "encoding ...",
        "encoding ... 50%, 25,100 pairs/s",
        "encoding: 55 s, 25,200 pairs/s",
    ]


def test_mean_of_checkpoints_is_said_to_be_one() -> None:
    said: list[str] = []
    display.Display(said.append)(replace(VALIDATED, averaged=3))
    assert said[-1].endswith(" * mean of 3")
    told = "\n".join(display.summary(replace(FINISHED, averaged=3), {}))
    assert "the best model is the mean of 3 checkpoints" in told
    assert "update 80" in "\n".join(display.summary(FINISHED, {}))


def test_panel_shows_progress_and_a_sample() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        shown = display.Panel(live)
        for event in EVENTS:
            shown(event)
            live.refresh()
    text = file.getvalue()
    assert "update 20/100" in text
    assert "0:48 left" in text
    assert "20%" in text
    assert "[bold]eine Katze" in text, "text is never read as markup"


def test_quiet_says_warnings_only(capfd: pytest.CaptureFixture[str]) -> None:
    shown = display.Quiet()
    for event in EVENTS:
        shown(event)
    written = capfd.readouterr()
    assert written.out == ""
    assert written.err == "warning: something was not as asked\n"
    assert shown.finished == FINISHED


def test_json_lines_are_json_even_when_numbers_are_none(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    shown = display.JsonLines()
    for event in [*EVENTS, mtkit.Progressed(1, 0.1, math.nan, 1.0, 1.0, math.inf, 1.0, None)]:
        shown(event)
    records = [json.loads(line) for line in capfdbinary.readouterr().out.decode().splitlines()]
    kinds = [record["event"] for record in records]
    assert kinds[:4] == ["preparing", "started", "progressed", "validated"]
    assert records[3]["samples"][0]["translation"] == "the cat"
    assert records[-1]["loss"] is None
    assert records[1]["run"] == "run"


def test_summary_can_be_pasted_whatever_the_folder_is_called() -> None:
    spaced = replace(FINISHED, run=Path("my runs/é"))
    assert "  mtkit show 'my runs/é'" in display.summary(spaced, {})


def test_summary_names_the_next_commands() -> None:
    text = "\n".join(display.summary(FINISHED, {"bleu": "nrefs:1"}))
    for wanted in ("reached 100 updates", "BLEU 20.0", "BLEU 19.0", "BLEU|nrefs:1", "1:15"):
        assert wanted in text
    for command in ("translate", "evaluate", "show"):
        assert f"mtkit {command} run" in text
    # Without a test corpus in the recipe, evaluate must be told one.
    assert "mtkit evaluate run CORPUS" in display.summary(replace(FINISHED, test={}), {})[-2]
    assert "CORPUS" not in text


def test_clock_reads_as_a_clock() -> None:
    assert [display.clock(s) for s in (0.4, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]


def test_quiet_display_warns_and_is_silent_otherwise() -> None:
    said: list[str] = []
    quiet = display.Quiet(said.append)
    quiet(mtkit.Noted("all is well"))
    quiet(PROGRESSED)
    quiet(mtkit.Warned("a checkpoint is damaged"))
    assert said == ["warning: a checkpoint is damaged"]
