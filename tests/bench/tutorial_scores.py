"""BLEU of runs as the well-known PyTorch tutorials of sequence to sequence learning compute it.

    python tests/bench/tutorial_scores.py RUN... --corpus 'data/multi30k/test_2016_flickr.{de,en}'

The tutorials (github.com/bentrevett/pytorch-seq2seq) train on Multi30k, German to English: text
lowercased, spaCy's tokens, words that occur twice, batches of 128, 10 epochs, the epoch of the
lowest validation loss; they decode greedily and compute corpus BLEU-4, unsmoothed, over lowercased
spaCy tokens of test_2016_flickr. They publish, of text they have seen as words:

    LSTM x 2, context vector                13.76   13.9 M parameters
    GRU, context vector at each step        20.61   14.2 M
    GRU, additive attention                 28.30   20.5 M
    convolutions                            34.14   37.4 M
    Transformer 3+3, width 256              36.52    9.0 M

What is equal here: the pairs, the test set, its untouched references, lowercasing, the tokens, the
metric; and the greedy rows are searched as theirs. What is not: mtkit trains on cased text in
subword pieces and on as many epochs as the recipe says (they stand in the table), so the rows say
what a recipe of mtkit reaches by the tutorials' measure, not what those models reach in mtkit.

Tokens: `--tokens spacy` needs spaCy but none of its models: its tokenizer is made of the rules of a
language alone (`spacy.blank("en")`), the same in all English models of a version. `--tokens moses`
needs sacremoses; Moses leaves "t-shirt" whole, which spaCy cuts in three, so that scores differ by
some tenths and are not the tutorials'. Translations and references go through the same tokenizer.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mtkit

Tokenize = Callable[[str], Sequence[str]]


def tokenizer(name: str, language: str) -> Tokenize:
    """A line to its tokens, by the rules of `name`."""
    if name == "moses":
        from sacremoses import MosesTokenizer

        moses = MosesTokenizer(lang=language)
        return lambda line: moses.tokenize(line, escape=False)
    import spacy

    rules = spacy.blank(language).tokenizer
    return lambda line: [token.text for token in rules(line)]


def scored(texts: Sequence[str], references: Sequence[str], tokens: Tokenize) -> mtkit.Score:
    """Corpus BLEU over lowercased tokens.

    Lines are cut before they are lowercased, as the tutorials do. sacrebleu smooths only counts of
    zero, which a test set does not have.
    """
    lines, wanted = (
        [" ".join(token.lower() for token in tokens(line)) for line in side]
        for side in (texts, references)
    )
    (found,) = mtkit.score(lines, wanted, metrics=("bleu",), tokenize="none", lowercase=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--corpus", required=True, help="source and reference: 'test.{de,en}'")
    parser.add_argument("--tokens", choices=("spacy", "moses"), default="spacy")
    given = parser.parse_args()
    pairs = list(mtkit.open_corpora([given.corpus]))
    references = [pair.target for pair in pairs]
    print("run                                search   epochs  13a, cased  tutorial's", flush=True)
    signatures = set()
    for run in given.runs:
        card = json.loads((run / "card.json").read_text(encoding="utf-8"))
        translator = mtkit.Translator.load(run)
        language = mtkit.Recipe.load(run / "recipe.toml").data.target_language
        tokens = tokenizer(given.tokens, language)
        own = translator.options
        for name, options in (("greedy", replace(own, beam=1)), (f"beam {own.beam}", own)):
            translator.options = options
            found = translator.translate([pair.source for pair in pairs])
            texts = [translation.text for translation in found]
            (cased,) = mtkit.score(texts, references, metrics=("bleu",))
            lowered = scored(texts, references, tokens)
            signatures |= {cased.signature, f"{lowered.signature} ({given.tokens})"}
            print(
                f"{run!s:34s} {name:8s} {card['epochs']:6.1f}  {cased.value:10.2f}  "
                f"{lowered.value:10.2f}",
                flush=True,
            )
    print(*sorted(signatures), sep="\n")


if __name__ == "__main__":
    main()
