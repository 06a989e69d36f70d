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
    requests: Sequence[Request], options: Sequence[SearchOptions], encode: Encode, longest: int
) -> list[Line]:
    """Each line with its sentences of at most `longest` tokens, and how each is searched."""
    texts = [usable(request.source) for request in requests]
    encoded = encode(texts)
    lines = []
    for request, how, text, tokens in zip(requests, options, texts, encoded, strict=True):
        if len(tokens) > longest:
            parts = split_line(text, encode, longest)
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


def split_line(text: str, encode: Encode, longest: int) -> list[list[int]]:
    """The line's tokens in pieces of at most `longest`, none of them lost.

    Cut in the middle as far as may be: at the end of a sentence, else at a space, else between two
    tokens.
    """
    (tokens,) = encode([text])
    if len(tokens) <= longest:
        return [tokens] if tokens else []
    cut = _nearest(_SENTENCE_END, text) or _nearest(_SPACE, text)
    if cut is None:
        count = -(-len(tokens) // longest)
        ends = [len(tokens) * index // count for index in range(count + 1)]
        return [tokens[start:end] for start, end in pairwise(ends)]
    return split_line(text[:cut], encode, longest) + split_line(text[cut:], encode, longest)


def holds_long_sentence(text: str, encode: Encode, longest: int) -> bool:
    """Whether a single sentence of the text has more tokens than `longest`."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    sentences = [text[start:end] for start, end in pairwise([0, *ends, len(text)])]
    return any(len(tokens) > longest for tokens in encode(sentences))


def _nearest(pattern: re.Pattern[str], text: str) -> int | None:
    """The end of the match nearest to the middle that leaves text on both sides, or None."""
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())
    ends = (match.end() for match in pattern.finditer(text))
    inside = (end for end in ends if first < end < last)
    return min(inside, key=lambda end: abs(2 * end - len(text)), default=None)
