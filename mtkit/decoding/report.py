"""What became of a line, as a record: for those who must answer for every one of them."""

import re

from mtkit.decoding.translation import Translation

# The same three characters or more, a letter among them, four times in a row.
_LOOP = re.compile(r"(?=\S*\w)(.{3,60}?)\1{3}")


def loops(text: str) -> bool:
    """Whether the text says one thing over and over, as a model does that has lost its way."""
    return _LOOP.search(text) is not None


def line_report(number: int, source: str, found: Translation, seconds: float) -> dict[str, object]:
    """The record of a line; `seconds` is its share of the time that its group took.

    `status` is ok; empty (nothing to translate); split (longer than the model takes, translated
    sentence by sentence); over-long (a sentence of it was longer still, and was translated in
    pieces); repaired (ok, but it held what no model can read); or refused (a record that was not
    translated). `limited`: the translation, or a sentence of it, ended because it had its longest
    length, and its end may be missing. `repetition`: the translation loops and the source does not.
    `unmet`: what was asked of the translation and is not so.
    """
    status = "repaired" if found.repaired and found.status == "ok" else found.status
    return {
        "line": number,
        "status": status,
        "source_tokens": found.source_tokens,
        "target_tokens": found.tokens,
        "score": found.score,
        "limited": found.limited,
        "repetition": loops(found.text) and not loops(source),
        "unmet": found.unmet,
        "seconds": round(seconds, 6),
    }
