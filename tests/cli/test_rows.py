"""Records of JSON Lines: what comes in comes out again, with a translation or with an error."""

import json

import pytest

from mtkit import Request, Translation
from mtkit.cli.rows import Records

RECORD = json.dumps({"source": "ein Haus", "constraints": ["house"], "id": 7})
NOTHING = Translation("", 0.0, 0.0, 0, 0, "empty")


def test_record_that_the_search_cannot_meet_gets_an_error_in_its_place() -> None:
    rows = Records(constrains=False)
    assert rows.asked(3, RECORD) == ""
    said = json.loads(rows(3, NOTHING))
    assert said["line"] == 3
    assert "constraints are met by beam search" in said["error"]
    assert "temperature=0" in said["hint"]


@pytest.mark.parametrize(("constrains", "record"), [(True, RECORD), (False, '{"source": "a"}')])
def test_record_that_the_search_can_meet_is_asked(constrains: bool, record: str) -> None:
    rows = Records(constrains)
    assert isinstance(rows.asked(1, record), Request)
    assert "error" not in json.loads(rows(1, NOTHING))
