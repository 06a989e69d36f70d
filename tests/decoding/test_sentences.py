"""Long lines become sentences without loss."""

from collections.abc import Sequence

import pytest

from mtkit.decoding.sentences import split_line


def encode(lines: Sequence[str]) -> list[list[int]]:
    """A token for every character but the spaces."""
    return [[ord(character) for character in line if not character.isspace()] for line in lines]


def as_text(pieces: list[list[int]]) -> list[str]:
    return ["".join(map(chr, piece)) for piece in pieces]


@pytest.mark.parametrize(
    ("text", "longest", "pieces"),
    [
        ("One two. Three four five", 14, ["Onetwo.", "Threefourfive"]),
        ("one two three four", 10, ["onetwo", "threefour"]),
        ("onetwothreefour", 8, ["onetwot", "hreefour"]),
        ("今日は雨。明日は晴れ。", 6, ["今日は雨。", "明日は晴れ。"]),
        ("‘Stop!’ he said. ‘No.’", 13, ["‘Stop!’", "hesaid.‘No.’"]),
        ("3.14 is pi", 6, ["3.14", "ispi"]),
        ("Ask Dr. Kim. He knows it", 16, ["AskDr.Kim.", "Heknowsit"]),
        ("Er mag z. B. Tee. Sie nicht", 16, ["Ermagz.B.Tee.", "Sienicht"]),
        ("Johann S. Bach wrote. We sing", 18, ["JohannS.Bachwrote.", "Wesing"]),
        ("Big, e.g. tall ones are. So what", 20, ["Big,e.g.tallonesare.", "Sowhat"]),
        ("It has 2. stops. And 3. ends", 14, ["Ithas2.stops.", "And3.ends"]),
        ("점심을 먹었다. 집에 갔다.", 8, ["점심을먹었다.", "집에갔다."]),
    ],
)
def test_line_is_cut_at_sentence_ends_before_spaces_before_tokens(
    text: str, longest: int, pieces: list[str]
) -> None:
    assert as_text(split_line(text, encode, longest)) == pieces


@pytest.mark.parametrize("text", ["x" * 30, "a b. " * 9 + "y" * 20])
def test_every_piece_has_the_tag(text: str) -> None:
    def tagged(lines: Sequence[str]) -> list[list[int]]:
        return [[1, 2, *tokens] if tokens else [] for tokens in encode(lines)]

    pieces = split_line(text, tagged, 8, head=2)
    assert all(piece[:2] == [1, 2] and 2 < len(piece) <= 8 for piece in pieces)
    assert [token for piece in pieces for token in piece[2:]] == encode([text])[0]


@pytest.mark.parametrize("longest", [1, 2, 7, 50])
@pytest.mark.parametrize(
    "text",
    [
        "a " * 300,
        ". " * 300,
        "x" * 1_000,
        "Hi. " + "y" * 500,
        "  leading. and trailing.  " * 20,
        "。" * 100,
        "a. " * 200 + "b" * 200,
    ],
)
def test_pieces_hold_every_token_once_and_in_order(text: str, longest: int) -> None:
    pieces = split_line(text, encode, longest)
    assert [token for piece in pieces for token in piece] == encode([text])[0]
    assert all(0 < len(piece) <= longest for piece in pieces)


def test_blank_line_has_no_pieces() -> None:
    assert split_line(" \t ", encode, 5) == []
