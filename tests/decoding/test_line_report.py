"""What the record of a line says."""

import pytest

from mtkit.decoding.report import line_report, loops
from mtkit.decoding.translation import Translation


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("der Mann, der ein Mann, der ein Mann, der ein Mann, der ein Mann ist", True),
        ("hahahahahahahahahahahahaha", True),
        ("고양이 고양이 고양이 고양이 고양이", True),
        ("ein Mann und eine Frau und ein Hund", False),
        ("very very good", False),
        ("........................", False),
        ("--- --- --- --- ---", False),
        ("", False),
    ],
)
def test_looping_text_is_told_from_ordinary_text(text: str, looping: bool) -> None:
    assert loops(text) == looping


def test_record_says_what_became_of_the_line() -> None:
    found = Translation("la la la la la la", -1.5, -6.0, 6, 3, "ok", True, unmet=("sing",))
    record = line_report(7, "sing", found, 0.25)
    assert record == {
        "line": 7, "status": "repaired", "source_tokens": 3, "target_tokens": 6, "score": -1.5,
        "limited": False, "repetition": True, "unmet": ("sing",), "seconds": 0.25,
    }  # fmt: skip
    assert line_report(7, "la la la la la la", found, 0.25)["repetition"] is False
    assert line_report(1, "", Translation("", 0, 0, 0, 0, "empty", True), 0)["status"] == "empty"
    none = Translation("", 0, 0, 0, 0, "refused", True)
    assert line_report(1, "", none, 0)["status"] == "refused"


def test_long_text_without_a_loop_has_none() -> None:
    assert not loops(" ".join(str(number) for number in range(20_000)))
