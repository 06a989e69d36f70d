"""A line as the sentences that are searched for it; long ones are cut, and nothing is lost."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mtkit.decoding.incoming import usable
from mtkit.decoding.options import SearchOptions
from mtkit.decoding.requests import Request

# Where a sentence ends: closing quotes and brackets belong to it, and so does the space behind it.
_SENTENCE_END = re.compile(r"""[.!?…]+["'”’»)\]]*\s+|[。！？｡]+[”’」』）]*\s*""")
# What a full stop belongs to: a digit, an initial (J. S. Bach, z. B.) or a title.
_ABBREVIATION = re.compile(
    r"(?:^|[\s.(«„“'\"])(?:\w|Mrs?|Ms|Drs?|Profs?|St|Sr|Jr|Nr|vs|bzw|ca|vgl|ggf|inkl)\.$"
)
_SPACE = re.compile(r"\s+")

Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class Sentence:
    """What is searched for: source tokens without EOS, how, and what the target is asked to be."""

    tokens: list[int]
    options: SearchOptions
    request: Request


@dataclass(frozen=True)
class Line:
    """A line and its sentences: none of a blank one, several of one that is too long."""

    text: str  # as the tokenizer read it
    sentences: tuple[Sentence, ...]
    request: Request
    options: SearchOptions
    cut: bool = False  # a sentence was longer than the model takes

    @property
    def repaired(self) -> bool:
        """Whether it held what no model can read."""
        return self.text != self.request.source


def planned(
    requests: Sequence[Request],
    options: Sequence[SearchOptions],
    encode: Encode,
    longest: int,
    head: int = 0,
) -> list[Line]:
    """Each line with its sentences of at most `longest` tokens, and how each is searched.

    `head` is how many tokens `encode` puts before every text: those of a tag.
    """
    texts = [usable(request.source) for request in requests]
    encoded = encode(texts)
    lines = []
    for request, how, text, tokens in zip(requests, options, texts, encoded, strict=True):
        if len(tokens) > longest:
            parts = split_line(text, encode, longest, head)
            cut = holds_long_sentence(text, encode, longest)
        else:
            parts, cut = [tokens] if tokens and not text.isspace() else [], False
        asked = spread(request, len(parts))
        sentences = [Sentence(part, how, wish) for part, wish in zip(parts, asked, strict=True)]
        lines.append(Line(text, tuple(sentences), request, how, cut))
    return lines


def spread(request: Request, parts: int) -> list[Request]:
    """What each part of a line is asked for: the first the prefix, the last the phrases.

    What is forbidden is forbidden everywhere.
    """
    if parts <= 1:
        return [request] * parts
    plain = Request("", forbidden=request.forbidden)
    asked = [plain] * parts
    asked[0] = replace(asked[0], prefix=request.prefix)
    asked[-1] = replace(asked[-1], constraints=request.constraints)
    return asked


def split_line(text: str, encode: Encode, longest: int, head: int = 0) -> list[list[int]]:
    """The line's tokens in pieces of at most `longest`, none of them lost.

    Cut in the middle as far as may be: at the end of a sentence, else at a space, else between two
    tokens. The first `head` tokens, those of a tag, stand before each piece.
    """
    (tokens,) = encode([text])
    if len(tokens) <= longest:
        return [tokens] if tokens else []
    cut = _nearest(_sentence_ends(text), text)
    if cut is None:
        cut = _nearest([match.end() for match in _SPACE.finditer(text)], text)
    if cut is None:
        tag, rest = tokens[:head], tokens[head:]
        count = -(-len(rest) // max(longest - head, 1))
        ends = [len(rest) * index // count for index in range(count + 1)]
        return [[*tag, *rest[start:end]] for start, end in pairwise(ends)]
    halves = text[:cut], text[cut:]
    return [part for half in halves for part in split_line(half, encode, longest, head)]


def holds_long_sentence(text: str, encode: Encode, longest: int) -> bool:
    """Whether a single sentence of the text has more tokens than `longest`."""
    ends = [0, *_sentence_ends(text), len(text)]
    sentences = [text[start:end] for start, end in pairwise(ends)]
    return any(len(tokens) > longest for tokens in encode(sentences))


def _sentence_ends(text: str) -> list[int]:
    """Where sentences begin that are not the first; the full stop of an abbreviation ends none."""
    return [
        match.end()
        for match in _SENTENCE_END.finditer(text)
        if not _ABBREVIATION.search(text, max(match.start() - 8, 0), match.start() + 1)
    ]


def _nearest(ends: Sequence[int], text: str) -> int | None:
    """The end nearest to the middle that leaves text on both sides, or None."""
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    inside = (end for end in ends if first < end < last)
    return min(inside, key=lambda end: abs(2 * end - len(text)), default=None)
