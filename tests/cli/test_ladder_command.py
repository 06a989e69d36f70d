"""The whole ladder, tiny: every rung trained, measured and judged; the second call does nothing."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Call

RUNGS = ("rnn", "gru", "lstm", "lstm-reversed", "lstm-additive", "lstm-dot",
         "transformer-blind", "transformer")  # fmt: skip
# German, so that the minimal pairs, which are Korean, take no time.
TINY = (
    "--corpus", "phrasebook:de-en:train#size=300,min_words=3,max_words=60",
    "--valid", "phrasebook:de-en:valid#size=24,min_words=3,max_words=60", "--updates", "2",
)  # fmt: skip


def test_corpus_too_small_for_the_ladder_is_told_with_its_flags(call: Call, tmp_path: Path) -> None:
    small = tmp_path / "small.tsv"
    small.write_text("der Hund\tthe dog\ndie Katze\tthe cat\n" * 20, encoding="utf-8")
    done = call("ladder", "-o", tmp_path / "ladder", "--corpus", small, "--valid", small)
    assert done.code == 2
    assert "tokenizer.vocabulary = 4000 is more than" in done.err
    assert "a larger one: --corpus NAME --valid NAME\n" in done.err
    assert "--set" not in done.err


@pytest.mark.slow
def test_ladder_trains_judges_and_goes_on(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "ladder"
    part = call("ladder", "-o", folder, *TINY, "--seeds", "2", "--only", "rnn", "--json")
    assert part.code == 0, part.err
    verdicts = [json.loads(line)["verdict"] for line in part.out.splitlines()]
    assert [n for n, verdict in enumerate(verdicts, 1) if verdict != "not decided here"] == [2, 5]

    whole = call("ladder", "-o", folder, *TINY)
    assert whole.code == 0, whole.err
    assert [path.name for path in sorted((folder / "seed-1").iterdir())] == sorted(RUNGS)
    text = (folder / "claims.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=pytest.fail)  # neither NaN nor Infinity
    rungs = [(item["seed"], item["rung"]) for item in found["evidence"]]
    assert rungs == [*((1, rung) for rung in RUNGS), (2, "rnn")], "what another call trained counts"
    claims = found["claims"]
    assert [claim["number"] for claim in claims] == list(range(1, 9))
    undecided = [claim["number"] for claim in claims if claim["verdict"] == "not decided here"]
    assert undecided == [3, 8], "two updates teach nothing, and Korean is not there"
    for claim in claims:
        assert f"{claim['number']}. {claim['claim']}: {claim['verdict']}" in whole.out
        assert claim["rule"]
        assert re.search(r"\d", claim["measured"]) or claim["number"] == 8
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("not reproduced", "not decided here", "Reach of the"))
    assert (folder / "claims.md").read_text(encoding="utf-8").count("\n") == 10
    ElementTree.fromstring((folder / "lengths.svg").read_text(encoding="utf-8"))

    written = {path: path.stat().st_mtime_ns for path in folder.glob("seed-*/*/evidence.json")}
    logs = {path: path.read_bytes() for path in folder.glob("seed-*/*/log.jsonl")}
    again = call("ladder", "-o", folder, *TINY)
    assert again.code == 0, again.err
    assert {path: path.stat().st_mtime_ns for path in written} == written, "measured once"
    assert {path: path.read_bytes() for path in logs} == logs, "trained once"
