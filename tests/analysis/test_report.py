"""The page is one file that needs nothing else, and a real browser shows it in dark and light."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mtkit.analysis.charts import Line, heat_map, lines_chart
from mtkit.analysis.claims import Claim
from mtkit.analysis.comparison import (
    Compared,
    Point,
    RunFacts,
    most_different,
    told_apart,
    worst,
)
from mtkit.analysis.report import claims_section, comparison_sections, page
from mtkit.data.corpus import Pair
from mtkit.metrics import Score

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PAIRS = [Pair("eins <b>", "one house here"), Pair("zwei", "two trees there")]


def compared(name: str, *texts: str) -> Compared:
    curve = (Point(10, 1.0, 3.0, {}), Point(20, 2.0, 2.5, {}))
    facts = RunFacts(name, Path(name), f"run {name}", 1234, 20, 2.0, 99.0, 2.5, curve, "")
    scores = {n: Score(n, n, 50.0, "nrefs:1", 2) for n in ("bleu", "chrf")}
    return Compared(facts, texts, 3.0, scores, {"bleu": None, "chrf": 0.04})


def example() -> str:
    runs = [
        compared("a", "one house here", "nothing"),
        compared("b", "one house here", PAIRS[1].target),
    ]
    claims = [
        Claim(1, "it is so", "1 < 2", "it is so", "reproduced", (1,)),
        Claim(2, "or not", "", "it is so", "not decided here", ()),
    ]
    chart = lines_chart([Line("a", ((0, 1.0), (9, 1e-6)))], "x", "y", logarithmic=True)
    parts = [claims_section(claims), *comparison_sections(runs, PAIRS), chart]
    return page("A & B", [*parts, heat_map([[0.1, 0.9]], ["one"], ["eins", "</s>"])])


def test_sentences_are_chosen_by_their_difference() -> None:
    runs = [compared("a", PAIRS[0].target, "no"), compared("b", *(p.target for p in PAIRS))]
    assert most_different(runs, PAIRS, 1) == [1]
    assert worst(runs[0], PAIRS, 1) == [1]


def test_runs_of_one_title_are_told_apart() -> None:
    """Sections are keyed by title: of two runs with one, a section would show the second alone."""
    facts = [compared(name).facts for name in ("a", "b", "c")]
    same = [replace(run, title="tiny") for run in facts[:2]]
    assert [run.title for run in told_apart([*same, facts[2]])] == [
        "tiny (a)",
        "tiny (b)",
        "run c",
    ]


def test_runs_of_one_name_are_told_apart() -> None:
    facts = [replace(compared("x").facts, name="lstm", path=Path(p)) for p in ("1/lstm", "2/lstm")]
    assert [run.name for run in told_apart(facts)] == ["1/lstm", "2/lstm"]
    assert [run.name for run in told_apart(facts[:1])] == ["lstm"]


def test_page_escapes_and_brings_nothing_from_elsewhere() -> None:
    text = example()
    assert "eins &lt;b&gt;" in text
    assert "<title>A &amp; B</title>" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|<link|@import|url\(|(href|src)=", text)
    assert "not decided here" in text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium or google-chrome here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_the_page(tmp_path: Path, scheme: str) -> None:
    assert BROWSER is not None
    (tmp_path / "report.html").write_text(example(), encoding="utf-8")
    dark = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
            *(dark if scheme == "dark" else []),
            "--window-size=1000,1400", f"--screenshot={tmp_path / 'page.png'}",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    picture = tmp_path / "page.png"
    assert picture.is_file(), done.stderr[-2000:]
    assert picture.stat().st_size > 20_000, "the page is empty"
