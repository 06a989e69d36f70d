"""What is said beside translations: to whom, and of which lines."""

import pytest

from mtkit import Translation
from mtkit.cli.notes import Notes

PLAIN = Translation("a", -1.0, -2.0, 1, 1, "ok")


@pytest.fixture
def terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """All three streams are a person's."""
    monkeypatch.setattr("mtkit.cli.notes.is_terminal", lambda stream: True)


def told(notes: Notes, capsys: pytest.CaptureFixture[str]) -> str:
    notes.add(1, PLAIN)
    notes.progress(1)
    notes.end()
    return capsys.readouterr().err


@pytest.mark.usefixtures("terminals")
def test_terminal_that_is_neither_read_nor_written_hides_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in `mtkit translate runs/mine in.de -o out.en`, typed by a person."""
    said = told(Notes(12, 2.0), capsys)
    assert "\r1 lines, " in said
    assert "\n1 line in " in said


@pytest.mark.usefixtures("terminals")
def test_what_a_person_types_or_reads_is_not_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(Notes(12, 2.0, reads_stdin=True), capsys) == ""
    assert "\r" not in told(Notes(12, 2.0, writes_stdout=True), capsys)
    assert told(Notes(12, 2.0, quiet=True), capsys) == ""


@pytest.mark.parametrize(("ratio", "wider"), [(2.0, "4"), (3.5, "7"), (0.0, "1")])
def test_output_that_had_to_end_is_advised_more_room_than_it_had(
    ratio: float, wider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = Notes(12, ratio)
    notes.add(3, Translation("a", -1.0, -2.0, 1, 1, "ok", limited=True))
    notes.end()
    assert (
        f"(first: line 3); longer: --search max_length_ratio={wider}\n" in capsys.readouterr().err
    )


def test_what_could_not_be_had_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes(12, 2.0, quiet=True)
    notes.add(1, PLAIN)
    for number, phrase in ((2, "house"), (1000, "home")):
        notes.add(number, Translation("a", -1.0, -2.0, 1, 1, "ok", unmet=(phrase,)))
    notes.end()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 2 translations are not as was asked")
    assert line.endswith("(first: line 2, house)")
