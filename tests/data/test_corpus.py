import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkit.data import lines as lines_module
from mtkit.data.corpus import Pair, Report, open_corpora, open_corpus, open_sources, read_lines
from mtkit.data.lines import first_divergence
from mtkit.errors import DataError, MTKitError


def write_two(folder: Path, source: bytes, target: bytes) -> str:
    (folder / "x.de").write_bytes(source)
    (folder / "x.en").write_bytes(target)
    return f"{folder}/x.{{de,en}}"


def pairs_of(name: str) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in open_corpus(name)]


def failure(name: str) -> DataError:
    with pytest.raises(DataError) as caught:
        list(open_corpus(name))
    assert "\n" not in caught.value.message
    return caught.value


# Exact lines


def test_read_lines_splits_on_lf_only(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\n\x0b\x0c\x1c\x1d\x1e\x85\nlone\rreturn\nzero\0byte\n\n tail "
    (tmp_path / "x").write_text(text, encoding="utf-8", newline="")
    assert list(read_lines(tmp_path / "x")) == text.split("\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\r\r\n\r\nc\r", ["a", "b\r", "", "c\r"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
    ],
)
def test_read_lines_of_small_files_is_exact(
    tmp_path: Path, content: bytes, expected: list[str]
) -> None:
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    assert list(read_lines(tmp_path / "x")) == expected
    assert list(read_lines(tmp_path / "x.gz")) == expected


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines") / "x"


@given(st.lists(st.text(st.sampled_from("ab é한\u2028\r\0\ufeff"), max_size=6)), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_read_lines_does_not_depend_on_the_block_size(
    scratch: Path, texts: list[str], size: int
) -> None:
    content = "".join(text + "\n" for text in texts).encode()
    expected = [text.removesuffix("\r") for text in texts]
    if expected:
        expected[0] = texts[0].removeprefix("\ufeff").removesuffix("\r")
    scratch.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_BLOCK", size)
        assert list(read_lines(scratch)) == expected


def test_report_counts_crlf_and_byte_order_marks(tmp_path: Path) -> None:
    name = write_two(tmp_path, b"\xef\xbb\xbfeins\r\nzwei\r\n", b"one\ntwo\n")
    corpus = open_corpus(name)
    assert list(corpus) == [Pair("eins", "one"), Pair("zwei", "two")]
    assert corpus.report.crlf == {str(tmp_path / "x.de"): 2}
    assert corpus.report.bom == [str(tmp_path / "x.de")]
    told = " ".join(corpus.report.sentences())
    assert "2 lines of" in told
    assert "byte order mark" in told


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_bad_bytes_are_an_error_with_file_line_and_offset(tmp_path: Path, suffix: str) -> None:
    content = b"\xef\xbb\xbffirst\n" + b"good line\n" * 500 + b"caf\xe9 bad\nmore\n"
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_BLOCK", 64)
        with pytest.raises(DataError, match=r"line 502: byte 0xe9 .*offset 5012") as caught:
            list(read_lines(path))
    assert str(path) in caught.value.message
    assert content[5012] == 0xE9
    assert "iconv" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("train.de", "iconv -f latin1 -t utf-8 train.de > train.utf8.de"),
        (
            "my text/pairs.tsv",
            "iconv -f latin1 -t utf-8 'my text/pairs.tsv' > 'my text/pairs.utf8.tsv'",
        ),
        ("train.en.gz", "zcat train.en.gz | iconv -f latin1 -t utf-8 | gzip > train.utf8.en.gz"),
    ],
)
def test_latin1_is_converted_to_a_file_of_the_same_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    """What is written for one side does not overwrite the other, and can be named as a corpus."""
    monkeypatch.chdir(tmp_path)
    Path("my text").mkdir()
    content = b"caf\xe9\tcoffee\n"
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError) as caught:
        list(read_lines(Path(name)))
    assert caught.value.hint == f"convert it if it is Latin-1: {command}"


def test_utf16_and_hidden_gzip_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "wide").write_bytes("hello\n".encode("utf-16"))
    (tmp_path / "zipped").write_bytes(gzip.compress(b"hello\n"))
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"hello\n"))
    (tmp_path / "a.bz2").write_bytes(bz2.compress(b"hello\n"))
    known = {"wide": "utf-16", "zipped": "zipped.gz", "a.xz": "xzcat", "a.bz2": "bzcat"}
    for name, hint in known.items():
        with pytest.raises(DataError) as caught:
            list(read_lines(tmp_path / name))
        assert hint in (caught.value.hint or "")


def test_damaged_gzip_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello\n" * 9000)[:-20])
    (tmp_path / "plain.gz").write_bytes(b"hello\n")
    for name in ("cut.gz", "plain.gz"):
        with pytest.raises(DataError, match=name):
            list(read_lines(tmp_path / name))


# Pairs from two files


def test_empty_sides_are_dropped_as_pairs(tmp_path: Path) -> None:
    name = write_two(
        tmp_path, "eins\n\ndrei\n \nfünf\n".encode(), b"one\ntwo\nthree\n\t\n\xe2\x80\xa8\n"
    )
    corpus = open_corpus(name)
    assert list(corpus) == [Pair("eins", "one"), Pair("drei", "three")]
    report = corpus.report
    assert (report.read, report.kept) == (5, 2)
    assert (report.empty_source, report.empty_target, report.empty_both) == (1, 1, 1)
    assert [place.rpartition(" ")[2] for place in report.places] == ["2", "4", "5"]
    assert any("Dropped as pairs" in sentence for sentence in report.sentences())
    assert len(list(corpus.rows())) == 5


def test_corpus_can_be_read_again_and_report_starts_anew(tmp_path: Path) -> None:
    corpus = open_corpus(write_two(tmp_path, b"eins\n\n", b"one\ntwo\n"))
    assert list(corpus) == list(corpus)
    assert corpus.report.read == 2
    assert corpus.report.dropped == 1


@pytest.mark.parametrize("longer", ["source", "target"])
def test_files_of_unequal_length_are_an_error_with_both_counts(tmp_path: Path, longer: str) -> None:
    contents = [b"a\nb\nc\nd\n", b"a\nb\n"]
    source, target = contents if longer == "source" else contents[::-1]
    error = failure(write_two(tmp_path, source, target))
    counts = ("4", "2") if longer == "source" else ("2", "4")
    assert f"x.de has {counts[0]} lines" in error.message
    assert f"x.en has {counts[1]};" in error.message


def test_all_common_pairs_are_read_before_unequal_length_is_reported(tmp_path: Path) -> None:
    corpus = iter(open_corpus(write_two(tmp_path, b"a\nb\nc\n", b"a\nb\n")))
    assert [next(corpus).source for _ in range(2)] == ["a", "b"]
    with pytest.raises(DataError):
        next(corpus)


@pytest.mark.parametrize(("side", "removed"), [("de", (400,)), ("en", (700,)), ("de", (300, 650))])
def test_divergence_is_found_near_the_first_missing_line(
    tmp_path: Path, shared_data: Path, side: str, removed: tuple[int, ...]
) -> None:
    for language in ("de", "en"):
        every = list(read_lines(shared_data / f"multi30k/val.{language}"))
        kept = [line for at, line in enumerate(every, 1) if language != side or at not in removed]
        (tmp_path / language).write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    place = first_divergence(tmp_path / "de", tmp_path / "en")
    assert place is not None
    assert abs(place - removed[0]) <= 5


def test_divergence_is_not_claimed_where_lines_are_only_missing_at_the_end(
    tmp_path: Path, shared_data: Path
) -> None:
    for language, count in (("de", 900), ("en", 1014)):
        every = list(read_lines(shared_data / f"multi30k/val.{language}"))
        text = "".join(f"{line}\n" for line in every[:count])
        (tmp_path / f"x.{language}").write_text(text, encoding="utf-8")
    assert first_divergence(tmp_path / "x.de", tmp_path / "x.en") is None
    error = failure(f"{tmp_path}/x.{{de,en}}")
    assert "no place" in error.message
    assert "x.en" in (error.hint or "")


def test_reading_two_files_takes_constant_memory(tmp_path: Path) -> None:
    line = "ein ziemlich langer Satz, der immer wieder kommt, bis die Datei groß ist\n" * 90_000
    name = write_two(tmp_path, line.encode(), line.encode())
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_corpus(name)) == 90_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000 < len(line)  # less than the texts of one side


# Names


@pytest.mark.parametrize(
    ("name", "files", "languages"),
    [
        ("x.{de,en}", ("x.de", "x.en"), ("de", "en")),
        ("{ko,en}/x", ("ko/x", "en/x"), ("ko", "en")),
        ("{de,en}/x.{de,en}", ("de/x.de", "en/x.en"), ("de", "en")),
        ("{a.pt-BR.gz,b.zh_Hans}", ("a.pt-BR.gz", "b.zh_Hans"), ("pt-BR", "zh_Hans")),
        ("x.{src,tgt}", ("x.src", "x.tgt"), (None, None)),
        ("x{,.en}", ("x", "x.en"), (None, "en")),
    ],
)
def test_braces_name_source_then_target(
    tmp_path: Path, name: str, files: tuple[str, str], languages: tuple[str | None, str | None]
) -> None:
    for file, content in zip(files, (b"eins\n", b"one\n"), strict=True):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(gzip.compress(content) if file.endswith(".gz") else content)
    corpus = open_corpus(f"{tmp_path}/{name}")
    assert list(corpus) == [Pair("eins", "one")]
    assert corpus.languages == languages


@pytest.mark.parametrize(
    "name",
    [
        "x.{de}",
        "x.{de,en,fr}",
        "x.{de,en",
        "x.de",
        "missing.{de,en}",
        "missing/x.{de,en}",
        "missing.tsv",
        "missing.jsonl",
        "missing.parquet",
        "data.csv",
        "frasebook:ko-en",
        "phrasebook:ko",
        "phrasebook:ko-xx",
        "phrasebook:ko-en:nothing",
        "phrasebook:ko-en#size=many",
        "phrasebook:ko-en#length=3",
        "hf:",
        "hf:./missing:train",
        "pairs.tsv#1",
        "pairs.tsv#de,en",
        "pairs.tsv#0,1",
        "pairs.tsv#2,2",
        "",
        ".",
    ],
)
def test_wrong_names_are_errors_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.de").write_text("eins\n")
    Path("pairs.tsv").write_text("eins\tone\n")
    with pytest.raises(MTKitError) as caught:
        open_corpus(name)
    assert "\n" not in caught.value.message


def test_one_of_two_files_gets_the_name_of_both_as_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("x.de", "x.en", "y.de.gz", "y.en.gz"):
        Path(file).write_bytes(b"")
    for one, hint in (("x.de", "'x.{de,en}'"), ("y.en.gz", "'y.{en,de}.gz'")):
        with pytest.raises(DataError) as caught:
            open_corpus(one)
        assert hint in (caught.value.hint or "")
    with pytest.raises(DataError) as caught:
        open_corpus("y.{de,en}")
    assert caught.value.hint == "did you mean y.de.gz?"


@pytest.mark.parametrize(
    ("name", "hint"), [("x.tsv#2", "x.tsv#1,2"), ("x.jsonl#de", "x.jsonl#de,en")]
)
def test_columns_that_are_proposed_are_those_of_the_kind_of_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="after # stand two different columns") as caught:
        open_corpus(name)
    assert caught.value.hint == hint


def test_model_that_is_named_as_a_corpus_is_to_be_compared(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    run.mkdir()
    (run / "recipe.toml").write_text("")
    with pytest.raises(DataError, match="is a model or run folder, not a corpus") as caught:
        open_corpus(str(run))
    assert (caught.value.hint or "").endswith(f"mtkit compare MODEL '{run}'")


def test_missing_folder_is_told_where_names_are_read_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is no folder there") as caught:
        open_corpus("there/a.{de,en}")
    assert caught.value.hint == f"names are read from the working folder, {tmp_path}"
    with pytest.raises(DataError, match="there is no folder") as caught:
        open_corpus(f"{tmp_path}/there/a.{{de,en}}")
    assert caught.value.hint is None


def test_open_sources_gives_every_source_line(tmp_path: Path) -> None:
    name = write_two(tmp_path, b"eins\n\ndrei\n", b"one\ntwo\n\n")
    assert list(open_sources(name)) == ["eins", "", "drei"]
    assert list(open_sources(f"{tmp_path}/x.en")) == ["one", "two", ""]
    with pytest.raises(DataError, match="does not exist"):
        open_sources(f"{tmp_path}/x.fr")


# Several corpora


def test_joined_corpora_are_read_in_order_with_one_report(tmp_path: Path) -> None:
    first = write_two(tmp_path, b"eins\n\n", b"one\n\n")
    (tmp_path / "more.tsv").write_text("zwei\ttwo\n\tthree\n")
    corpus = open_corpora([first, f"{tmp_path}/more.tsv"])
    assert [pair.source for pair in corpus] == ["eins", "zwei"]
    assert (corpus.report.read, corpus.report.dropped) == (4, 2)
    assert corpus.report.places == [f"{first} row 2", f"{tmp_path}/more.tsv row 2"]
    assert corpus.languages == ("de", "en")


def test_joined_corpora_must_agree_in_their_languages(tmp_path: Path) -> None:
    write_two(tmp_path, b"eins\n", b"one\n")
    with pytest.raises(DataError, match="source"):
        open_corpora([f"{tmp_path}/x.{{de,en}}", f"{tmp_path}/x.{{en,de}}"])
    with pytest.raises(DataError, match="no corpus"):
        open_corpora([])


def test_fingerprint_follows_content_and_direction_not_names(tmp_path: Path) -> None:
    name = write_two(tmp_path, b"eins\n", b"one\n")
    (tmp_path / "copy").mkdir()
    copy = write_two(tmp_path / "copy", b"eins\n", b"one\n")
    before = open_corpus(name).fingerprint()
    assert open_corpus(copy).fingerprint() == before
    assert open_corpus(f"{tmp_path}/x.{{en,de}}").fingerprint() != before
    assert open_corpora([name, copy]).fingerprint() != before
    (tmp_path / "x.en").write_bytes(b"two\n")
    assert open_corpus(name).fingerprint() != before
    (tmp_path / "x.tsv").write_text("eins\tone\n")
    tsv = [open_corpus(f"{tmp_path}/x.tsv{c}").fingerprint() for c in ("", "#1,2", "#2,1")]
    assert tsv[0] == tsv[1] != tsv[2]
    small = [open_corpus(f"phrasebook:ko-en#size={size}").fingerprint() for size in (5, 6)]
    assert small[0] != small[1]


# Tab-separated


@pytest.mark.parametrize("suffix", [".tsv", ".tsv.gz"])
def test_tsv_takes_the_named_columns_and_keeps_quotes(tmp_path: Path, suffix: str) -> None:
    content = b'say "hi"\tsag "hallo\tCC-BY\r\n"\t\'\n\nx \t y\tz\n'
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    expected = [('say "hi"', 'sag "hallo'), ('"', "'"), ("x ", " y")]
    corpus = open_corpus(str(path))
    assert [(pair.source, pair.target) for pair in corpus] == expected
    assert corpus.report.empty_both == 1
    assert pairs_of(f"{path}#2,1") == [(target, source) for source, target in expected]


def test_tsv_row_with_too_few_columns_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\tc\nd\te\n")
    assert pairs_of(f"{tmp_path}/x.tsv") == [("a", "b"), ("d", "e")]
    error = failure(f"{tmp_path}/x.tsv#1,3")
    assert f"{tmp_path}/x.tsv, line 2: 2 columns" in error.message


# JSON lines


def write_jsonl(path: Path, *rows: object) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_jsonl_reads_nested_and_flat_objects(tmp_path: Path) -> None:
    nested = write_jsonl(
        tmp_path / "n.jsonl", {"id": "7", "translation": {"de": "eins", "en": "one"}}
    )
    flat = write_jsonl(tmp_path / "f.jsonl", {"id": 7, "de": "eins", "en": "one"})
    for name in (nested, flat):
        assert open_corpus(name).languages == ("de", "en")
        assert pairs_of(name) == [("eins", "one")]
        assert pairs_of(f"{name}#en,de") == [("one", "eins")]
        assert open_corpus(f"{name}#en,de").languages == ("en", "de")
    packed = tmp_path / "p.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(nested).read_bytes()))
    assert pairs_of(str(packed)) == [("eins", "one")]


def test_jsonl_texts_stay_on_one_line_and_nothing_is_an_empty_side(tmp_path: Path) -> None:
    name = write_jsonl(
        tmp_path / "x.jsonl",
        {"de": "zwei\nZeilen\r\nhier\u2028da", "en": "two"},
        {"de": None, "en": "three"},
    )
    corpus = open_corpus(name)
    assert list(corpus) == [Pair("zwei Zeilen hier\u2028da", "two")]
    assert corpus.report.line_breaks == 1
    assert corpus.report.empty_source == 1


def test_jsonl_with_more_text_keys_asks_which(tmp_path: Path) -> None:
    name = write_jsonl(tmp_path / "x.jsonl", {"de": "a", "en": "b", "fr": "c"})
    error = failure(name)
    assert "de, en, fr" in error.message
    assert error.hint == f"{name}#de,en"
    assert pairs_of(f"{name}#fr,de") == [("c", "a")]
    assert "cs" in failure(f"{name}#de,cs").message


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"de": "a"}', "line 2: de and en are needed"),
        ('{"de": 3, "en": "b"}', "line 2: 3 is not a text"),
        ('{"de": "\\ud800", "en": "b"}', "line 2: half of a surrogate pair"),
    ],
)
def test_jsonl_row_that_cannot_be_read_names_the_line(
    tmp_path: Path, second: str, told: str
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"de": "\\ud83d\\ude00", "en": "\\u00e9"}}\n{second}\n')
    error = failure(str(path))
    assert told in error.message
    assert len(error.message) < 300
    assert error.hint in (f"look at it: sed -n '2p' {path}", 'write {"de": "...", "en": "..."}')


# Parquet


def test_parquet_reads_struct_and_flat_columns_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtkit.data.tables.BATCH", 7)
    rows = [{"ko": f"문장 {i}", "en": f"line {i}" if i % 10 else None} for i in range(50)]
    expected = [(f"문장 {i}", f"line {i}") for i in range(50) if i % 10]
    pq.write_table(pa.table({"translation": rows}), tmp_path / "n.parquet", row_group_size=20)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    for file in ("n.parquet", "f.parquet"):
        corpus = open_corpus(f"{tmp_path}/{file}#ko,en")
        assert [(pair.source, pair.target) for pair in corpus] == expected
        assert corpus.report.empty_target == 5
        assert corpus.languages == ("ko", "en")
        assert pairs_of(f"{tmp_path}/{file}#en,ko")[0] == ("line 1", "문장 1")


def test_parquet_errors_are_one_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "c": ["z"], "n": [1]}), tmp_path / "x.parquet")
    assert failure(f"{tmp_path}/x.parquet").hint == f"{tmp_path}/x.parquet#a,b"
    assert "a, b, c" in failure(f"{tmp_path}/x.parquet#a,n").message
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing of the kind")
    assert "bad.parquet is not a Parquet file" in failure(f"{tmp_path}/bad.parquet").message


# The phrasebook and the real corpora


def test_phrasebook_is_the_same_each_time_and_takes_options() -> None:
    name = "phrasebook:ko-en:train#size=30,min_words=4,max_words=9,seed=2"
    corpus = open_corpus(name)
    assert corpus.languages == ("ko", "en")
    assert len(list(corpus)) == 30
    assert list(corpus) == list(open_corpus(name))
    assert all(4 <= len(pair.source.split()) <= 9 for pair in corpus)
    other = open_corpus(name.replace("seed=2", "seed=3"))
    assert list(other) != list(corpus)
    assert other.fingerprint() != corpus.fingerprint()


@pytest.mark.parametrize(
    ("name", "count", "languages"),
    [
        ("multi30k/train.{de,en}", 29000, ("de", "en")),
        ("multi30k/val.{cs,fr}", 1014, ("cs", "fr")),
        ("multi30k/test_2016_flickr.{en,de}", 1000, ("en", "de")),
        ("tatoeba-de-en/train.{de,en}.gz", 161832, ("de", "en")),
        ("tatoeba-de-en/valid.{de,en}", 1769, ("de", "en")),
        ("tatoeba-de-en/test.{de,en}", 1871, ("de", "en")),
        ("tatoeba-fr-en/train.{fr,en}.gz", 159039, ("fr", "en")),
        ("tatoeba-fr-en/valid.{fr,en}", 1571, ("fr", "en")),
        ("tatoeba-fr-en/test.{fr,en}", 1662, ("fr", "en")),
        ("tatoeba-ko-en/train.tsv#2,1", 3016, (None, None)),
        ("tatoeba-ko-en/valid.tsv#2,1", 186, (None, None)),
        ("tatoeba-ko-en/test.tsv#2,1", 221, (None, None)),
        ("python-docs-ko-en/train.{ko,en}.gz", 27263, ("ko", "en")),
        ("python-docs-ko-en/valid.{ko,en}", 1056, ("ko", "en")),
        ("python-docs-ko-en/test.{ko,en}", 965, ("ko", "en")),
        ("news-ko-en/dev.{ko,en}", 1000, ("ko", "en")),
        ("news-ko-en/jhe-dev.{ko,en}", 720, ("ko", "en")),
    ],
)
def test_real_corpora_have_the_counts_their_readme_states(
    shared_data: Path, name: str, count: int, languages: tuple[str | None, str | None]
) -> None:
    corpus = open_corpus(f"{shared_data}/{name}")
    assert sum(1 for _ in corpus) == count
    assert corpus.report == Report(read=count)
    assert corpus.languages == languages


def test_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("de", "en"):
        (tmp_path / f"train.{side}").write_text("a\n", encoding="utf-8")
    closed = tmp_path / "train.en"
    closed.chmod(0)
    allowed = os.access  # root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and allowed(path, mode))
    with pytest.raises(DataError, match=r"train\.en cannot be read: it is not allowed") as caught:
        open_corpora([f"{tmp_path / 'train'}.{{de,en}}"]).fingerprint()
    assert caught.value.hint == f"chmod u+r {closed}"
