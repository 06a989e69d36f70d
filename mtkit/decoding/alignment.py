"""From attention over tokens to alignments of words, and what they are good for."""

from collections.abc import Callable, Sequence

from mtkit.symbols import PIECES, UNK

_SPACE = "▁"

Links = tuple[tuple[int, int], ...]  # (source word, target word), from 0
Weights = Sequence[Sequence[float]]  # [T, S], EOS last on both sides


def words(pieces: Sequence[str]) -> list[int]:
    """The number of the word, from 0, that each piece of a SentencePiece vocabulary belongs to.

    A ▁ opens the word that follows it; an unknown piece is a word of its own.
    """
    found: list[int] = []
    word, open_next = -1, True
    for piece in pieces:
        unknown = piece == PIECES[UNK]
        content = piece.strip(_SPACE)
        if (open_next or unknown or piece.startswith(_SPACE)) and (content or unknown):
            word += 1
        open_next = unknown or piece.endswith(_SPACE) or (open_next and not content)
        found.append(max(word, 0) if content else word + 1)
    return found


def looked_at(weights: Weights) -> list[int]:
    """The source token, EOS aside, that each target token looks at most; [] without attention."""
    if not weights or len(weights[0]) < 2:
        return []
    best = []
    for row in weights[:-1]:
        inside = row[:-1]
        best.append(max(range(len(inside)), key=inside.__getitem__))
    return best


def links(weights: Weights, source: Sequence[str], target: Sequence[str], skip: int = 0) -> Links:
    """Each target word with the source words that its pieces look at most.

    The first `skip` source words, a tag, are neither counted nor linked.
    """
    source_words, target_words = [word - skip for word in words(source)], words(target)
    pairs = zip(looked_at(weights), target_words, strict=False)
    return tuple(
        sorted({(source_words[token], word) for token, word in pairs if source_words[token] >= 0})
    )


def pharaoh(found: Links) -> str:
    """The alignment as `0-0 1-2`, source word first."""
    return " ".join(f"{source}-{target}" for source, target in found)


def without_unknown(
    tokens: Sequence[int],
    weights: Weights,
    source: Sequence[str],
    decode: Callable[[Sequence[Sequence[int]]], list[str]],
    skip: int = 0,
) -> str:
    """The text of the tokens, with the source word that UNK is aligned with in its place.

    The first `skip` words, a tag, are none that could stand there.
    `source` are the pieces of the sentence as written, so that what is unknown there is spelt out.
    Luong et al. 2015b, 3, with attention in the place of their pointers.
    """
    spelt: dict[int, str] = {}
    for word, piece in zip(words(source), source, strict=True):
        spelt[word] = spelt.get(word, "") + piece.replace(_SPACE, "")
    numbers = words(source)
    first = next((place for place, word in enumerate(numbers) if word >= skip), len(numbers))
    looked = [first + place for place in looked_at([row[first:] for row in weights])]
    if UNK not in tokens or not looked:
        return decode([list(tokens)])[0]
    parts: list[list[int] | str] = [[]]
    for token, place in zip(tokens, looked, strict=True):
        if token == UNK:
            parts += [spelt[numbers[place]], []]
        else:
            last = parts[-1]
            assert isinstance(last, list)
            last.append(token)
    texts = iter(decode([part for part in parts if isinstance(part, list)]))
    whole = [part if isinstance(part, str) else next(texts).strip(" ") for part in parts]
    return " ".join(filter(None, whole))
