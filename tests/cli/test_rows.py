"""Records of JSON Lines: what comes in comes out again, with a translation or with an error."""

import json
from dataclasses import replace

import pytest

from mtkit import Alternative, Request, Translation
from mtkit.cli.rows import Records, Rows

RECORD = json.dumps({"source": "ein Haus", "constraints": ["house"], "id": 7})
NOTHING = Translation("", 0.0, 0.0, 0, 0, "empty")


def test_record_that_the_search_cannot_meet_gets_an_error_in_its_place() -> None:
    rows = Records(constrains=False)
    assert rows.asked(3, RECORD) == ""
    said = json.loads(rows(3, NOTHING))
    assert said["line"] == 3
    assert "constraints are met by beam search" in said["error"]
    assert "temperature=0" in said["hint"]
    assert (said["id"], said["source"]) == (7, "ein Haus")
    assert rows.refused(4) is False


def test_record_with_a_field_amiss_comes_out_again_with_its_error() -> None:
    rows = Records()
    assert rows.asked(3, '{"source": "a", "n_best": 0, "id": 7}') == ""
    said = json.loads(rows(3, NOTHING))
    assert (said["id"], said["n_best"]) == (7, 0)
    assert said["error"] == "n_best = 0 is no number from 1 to 1000"


def test_line_that_is_no_record_has_nothing_to_come_out_again() -> None:
    rows = Records()
    assert rows.asked(3, "nothing") == ""
    assert rows.refused(3)
    assert set(json.loads(rows(3, NOTHING))) == {"line", "error", "hint"}


def test_object_holds_what_was_asked_for() -> None:
    assert "alternatives" not in json.loads(Rows(as_json=True)(1, NOTHING))
    several = replace(NOTHING, alternatives=(Alternative("a", -1.0, -2.0, 1),))
    (only,) = json.loads(Rows(as_json=True)(1, several))["alternatives"]
    assert only["text"] == "a"


@pytest.mark.parametrize(("constrains", "record"), [(True, RECORD), (False, '{"source": "a"}')])
def test_record_that_the_search_can_meet_is_asked(constrains: bool, record: str) -> None:
    rows = Records(constrains)
    assert isinstance(rows.asked(1, record), Request)
    assert "error" not in json.loads(rows(1, NOTHING))
