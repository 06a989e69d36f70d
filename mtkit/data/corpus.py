"""A corpus is named by one string and read as pairs, in constant memory.

data/train.{de,en}           two files (also .gz); the source stands first in the braces
pairs.tsv#2,1                columns of a tab-separated file; 1,2 when nothing is named
pairs.jsonl#de,en            keys of one object a line, flat or inside "translation"
pairs.parquet#ko,en          columns, flat or inside "translation"
hf:owner/name/config:split#de,en    a Hugging Face dataset; hf:./folder:split for a local one
phrasebook:ko-en:train#size=20000   the embedded corpus
<2de> train.{en,de}          any of these, with a tag before every source
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from shlex import quote
from typing import Protocol

from mtkit.data.hub import HubDataset
from mtkit.data.lines import Report, TwoFiles, digest, read_lines, require_file, show
from mtkit.data.tables import JsonLines, Parquet, language_of, two_columns
from mtkit.data.tags import Tagged, split_tag
from mtkit.errors import DataError

__all__ = ["Corpus", "Pair", "Report", "open_corpora", "open_corpus", "open_sources", "read_lines"]

Languages = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Pair:
    """One aligned source and target, exactly as they were written; neither is empty."""

    source: str
    target: str


class Rows(Protocol):
    """What a kind of corpus must offer; rows may have empty sides."""

    @property
    def name(self) -> str: ...
    @property
    def languages(self) -> Languages: ...
    def read(self, report: Report) -> Iterator[tuple[str, str]]: ...
    def fingerprint(self) -> str: ...


class Corpus:
    """Pairs that can be read again and again, each time from the start.

    A pair with an empty or blank side is left out as a pair and counted in `report`, which
    belongs to the latest reading. Everything else is kept as it stands.
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = tuple(parts)
        self.name = " ".join(part.name for part in parts)
        self.report = Report()
        self.sizes = [0] * len(parts)  # pairs of each part in the latest reading

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that stand before sources, each once."""
        return tuple(dict.fromkeys(p.tag for p in self._parts if isinstance(p, Tagged)))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The local files that are read."""
        found: list[Path] = []
        for part in self._parts:
            rows = part.rows if isinstance(part, Tagged) else part
            if isinstance(rows, TwoFiles):
                found += [rows.source, rows.target]
            elif isinstance(rows, TabSeparated | JsonLines | Parquet):
                found.append(rows.path)
        return tuple(found)

    @property
    def languages(self) -> Languages:
        """Source and target, where the name or the data says them; parts must not disagree.

        Where every part has its tag they may: the language is then None, since it is several.
        """
        if all(isinstance(part, Tagged) for part in self._parts):
            source, target = ({part.languages[side] for part in self._parts} for side in (0, 1))
            return _only(source), _only(target)
        known: list[str | None] = [None, None]
        for part in self._parts:
            for side, language in enumerate(part.languages):
                if known[side] and language and known[side] != language:
                    raise DataError(
                        f"{part.name} has {language} as its {('source', 'target')[side]}, "
                        f"but a corpus before it has {known[side]}",
                        "name every corpus in the same direction",
                    )
                known[side] = known[side] or language
        return known[0], known[1]

    def __iter__(self) -> Iterator[Pair]:
        report = self.report = Report()
        self.sizes = [0] * len(self._parts)
        for place, part in enumerate(self._parts):
            for number, (source, target) in enumerate(part.read(report), start=1):
                report.read += 1
                if not source or not target or source.isspace() or target.isspace():
                    report.drop(source, target, f"{part.name} row {number}")
                else:
                    self.sizes[place] += 1
                    yield Pair(source, target)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Every row as it stands, those with empty sides included."""
        for part in self._parts:
            yield from part.read(Report())

    def fingerprint(self) -> str:
        """SHA-256 over what identifies the content and its direction; file names do not count."""
        prints = [part.fingerprint() for part in self._parts]
        return hashlib.sha256("\n".join(prints).encode()).hexdigest()


def open_corpus(name: str, *, streaming: bool = False) -> Corpus:
    """The corpus of that name; cheap, but a wrong name or a missing file is an error at once."""
    return open_corpora([name], streaming=streaming)


def open_corpora(names: Sequence[str], *, streaming: bool = False, tag: str = "") -> Corpus:
    """Several corpora as one, in the given order; they must agree in their languages.

    `tag`, if there is one, stands before the sources of those that bring none of their own.
    """
    if not names:
        raise DataError("no corpus is named", "name one, for example phrasebook:ko-en")
    corpus = Corpus([_rows(name, streaming, tag) for name in names])
    if len(names) > 1:
        _ = corpus.languages
    return corpus


def open_sources(name: str) -> Iterator[str]:
    """The source sides alone, every row of them: of a corpus, or of one file of lines."""
    path = Path(name)
    if path.exists() and not _is_table(path):
        return read_lines(path)
    return (source for source, _ in open_corpus(name).rows())


def _only(languages: set[str | None]) -> str | None:
    """The one language there is, if there is one."""
    return languages.pop() if len(languages) == 1 else None


def _rows(name: str, streaming: bool, tag: str) -> Rows:
    own, name = split_tag(name)
    tag = own or tag
    return Tagged(tag, _untagged(name, streaming)) if tag else _untagged(name, streaming)


def _untagged(name: str, streaming: bool) -> Rows:
    kind, _, rest = name.partition(":")
    if kind == "phrasebook":
        return _phrasebook(name, rest)
    if kind == "hf":
        return HubDataset(name, streaming=streaming)
    if "{" in name and not Path(name).exists():
        return _two_files(name)
    path, columns = _split_columns(name)
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    match plain.suffix:
        case ".tsv":
            return _tab_separated(name, path, columns)
        case ".jsonl":
            return JsonLines.named(name, path, columns)
        case ".parquet" if plain == path:
            return Parquet.named(name, path, columns)
    raise _unknown(name, path)


def _unknown(name: str, path: Path) -> DataError:
    if path.suffix in {".csv", ".json", ".tmx", ".xml", ".xlsx", ".zip"}:
        return DataError(
            f"{name}: {path.suffix} files are not read", "convert it to .tsv, .jsonl or two files"
        )
    if unpack := {".zst": "zstdcat", ".bz2": "bzcat", ".xz": "xzcat"}.get(path.suffix):
        return DataError(
            f"{name}: of packed files only .gz are read",
            f"{unpack} {quote(str(path))} | gzip > {quote(str(path.with_suffix('.gz')))}",
        )
    if (path / "recipe.toml").is_file():
        return DataError(
            f"{name} is a model or run folder, not a corpus",
            f"to compare it with another: mtkit compare MODEL {quote(str(path))}",
        )
    if path.is_dir():
        dataset = quote(f"hf:{path.absolute()}:train")
        return DataError(f"{name} is a folder", f"if it is a dataset: {dataset}")
    if path.is_file():
        return DataError(
            f"{name} is one file of lines, and a corpus needs two sides",
            f"name both, in quotes: {quote(_both_sides(path))}",
        )
    close = get_close_matches(name.partition(":")[0], ["phrasebook", "hf"], 1)
    if ":" in name and close:
        return DataError(
            f"{name} is not a kind of corpus", f"did you mean {close[0]}:{name.partition(':')[2]}?"
        )
    if ":" not in name:
        require_file(path)
    return DataError(
        f"{name} does not name a corpus",
        "for example 'data/train.{de,en}', pairs.tsv, hf:owner/name:train or phrasebook:ko-en",
    )


def _both_sides(path: Path) -> str:
    """The name of the two files of which one is given, as far as the folder tells."""
    end = ".gz" if path.suffix == ".gz" else ""
    plain = path.with_suffix("") if end else path
    own = plain.suffix.removeprefix(".")
    found = [other.name for other in path.parent.glob(f"{plain.stem}.*{end}")]
    middles = [name.removesuffix(end).removeprefix(f"{plain.stem}.") for name in found]
    others = [middle for middle in middles if language_of(middle) and middle != own]
    other = others[0] if len(others) == 1 else "TARGET"
    return f"{plain.with_suffix('')}.{{{own or 'SOURCE'},{other}}}{end}"


def _is_table(path: Path) -> bool:
    return bool(re.search(r"\.(tsv|jsonl)(\.gz)?$|\.parquet$", path.name)) or path.is_dir()


def _split_columns(name: str) -> tuple[Path, tuple[str, str] | None]:
    """The path before the last `#` and the two columns after it."""
    head, mark, tail = name.rpartition("#")
    if not mark or Path(name).exists():
        return Path(name), None
    return Path(head), two_columns(name, tail)


def _two_files(name: str) -> TwoFiles:
    """Fill every group of braces with its first alternative for the source, else its second."""
    pieces = re.split(r"\{([^{}]*)\}", name)  # outside, inside, outside, ...
    groups = [piece.split(",") for piece in pieces[1::2]]
    if not groups or any(len(group) != 2 for group in groups) or re.search("[{}]", "".join(pieces)):
        raise DataError(
            f"{name}: braces hold exactly two alternatives, source and target",
            "for example 'data/train.{de,en}'",
        )

    def filled(side: int) -> Path:
        inside = [group[side] for group in groups] + [""]
        return Path("".join(out + fill for out, fill in zip(pieces[::2], inside, strict=True)))

    def language(side: int) -> str | None:
        return language_of(groups[-1][side].removesuffix(".gz").rpartition(".")[2])

    source, target = filled(0), filled(1)
    require_file(source)
    require_file(target)
    return TwoFiles(name, source, target, (language(0), language(1)))


@dataclass(frozen=True, slots=True)
class TabSeparated:
    """Two columns of a tab-separated file; quotes are characters, further columns are ignored."""

    name: str
    path: Path
    columns: tuple[int, int]
    languages: Languages = (None, None)

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        """Every row; a wholly blank line is a row with both sides empty."""
        source, target = (column - 1 for column in self.columns)
        needed = max(self.columns)
        for number, line in enumerate(read_lines(self.path, report), start=1):
            fields = line.split("\t", needed)
            if len(fields) >= needed:
                yield fields[source], fields[target]
            elif not line or line.isspace():
                yield "", ""
            else:
                raise DataError(
                    f"{self.path}, line {number}: {len(fields)} columns, but column {needed} "
                    f"is needed",
                    f"look at it: {show(self.path, number, number)}",
                )

    def fingerprint(self) -> str:
        return f"{digest(self.path)} {self.columns}"


def _tab_separated(name: str, path: Path, columns: tuple[str, str] | None) -> TabSeparated:
    require_file(path)
    source, target = columns or ("1", "2")
    if not all(c.isascii() and c.isdecimal() and int(c) for c in (source, target)):
        raise DataError(
            f"{name}: the columns of a tab-separated file are numbers from 1", f"{path}#1,2"
        )
    return TabSeparated(name, path, (int(source), int(target)))


@dataclass(frozen=True, slots=True)
class Phrasebook:
    """Pairs drawn from the embedded phrasebook; the same arguments always give the same pairs."""

    name: str
    source: str
    target: str
    split: str
    options: dict[str, int]

    @property
    def languages(self) -> Languages:
        return self.source, self.target

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        from mtkit.data import phrasebook

        return phrasebook.sample(self.source, self.target, self.split, **self.options)

    def fingerprint(self) -> str:
        """The arguments and every byte of the phrasebook's own files."""
        whole = hashlib.sha256()
        folder = files("mtkit.data.phrasebook")
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.is_file():
                whole.update(hashlib.sha256(file.read_bytes()).digest())
        return f"{self.source} {self.target} {self.split} {self.options} {whole.hexdigest()}"


_SPLITS = {"train": 20_000, "valid": 500, "test": 500, "combinations": 500}
_OPTIONS = {"seed": 1, "min_words": 3, "max_words": 16}


def _phrasebook(name: str, rest: str) -> Phrasebook:
    body, _, tail = rest.partition("#")
    languages, _, split = body.partition(":")
    split = split or "train"
    source, _, target = languages.partition("-")
    if not source or not target:
        raise DataError(f"{name}: name two languages", "for example phrasebook:ko-en")
    if split not in _SPLITS:
        raise DataError(
            f"{name}: the phrasebook has no split {split}; it has {', '.join(_SPLITS)}",
            f"phrasebook:{languages}:test",
        )
    options = {"size": _SPLITS[split], **_OPTIONS}
    for part in filter(None, tail.split(",")):
        key, _, value = part.partition("=")
        if key not in options or not value.isdecimal():
            raise DataError(
                f"{name}: {part} is not an option; there are {', '.join(options)}, all whole "
                f"numbers",
                f"phrasebook:{languages}:{split}#size={options['size']},seed=2",
            )
        options[key] = int(value)
    from mtkit.data import phrasebook

    phrasebook.sample(source, target, split, **options)  # says at once what it does not have
    return Phrasebook(name, source, target, split, options)
