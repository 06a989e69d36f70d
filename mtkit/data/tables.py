"""Tables whose columns have names: JSON lines and Parquet files."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mtkit.data.lines import Report, digest, read_lines, require_file, show
from mtkit.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_NESTED = "translation"
BATCH = 4096  # rows that are in memory at a time
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROW = '{"de": "...", "en": "..."}'


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the two sides stand in a row: flat, or inside the column `translation`."""

    source: str
    target: str
    nested: bool

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return language_of(self.source), language_of(self.target)


def language_of(text: str) -> str | None:
    """The text itself when it looks like a language code (`de`, `pt-BR`, `zh_Hans`)."""
    sides = {"src", "tgt", "trg", "ref", "hyp", "txt", "tok", "bpe", "spm", "raw", "out"}
    looks = re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*", text)
    return text if looks and text not in sides else None


def two_columns(name: str, text: str) -> tuple[str, str]:
    """The two columns that stand after `#` in a corpus name."""
    columns = text.split(",")
    if len(columns) != 2 or not all(columns) or columns[0] == columns[1]:
        base = name.rpartition("#")[0]
        numbered = base.removesuffix(".gz").endswith(".tsv")
        raise DataError(
            f"{name}: after # stand two different columns, source and target",
            f"{base}#{'1,2' if numbered else 'de,en'}",
        )
    return columns[0], columns[1]


def choose_columns(
    name: str, texts: Sequence[str], nested: Sequence[str], named: tuple[str, str] | None
) -> Columns:
    """Find the two sides among the flat text columns and those inside `translation`.

    `named` comes from the corpus name. Without it there must be exactly two to choose from, and
    their order in the data is the direction.
    """
    base = name.rpartition("#")[0] if named else name
    offered = list(nested) or list(texts)
    if named is None:
        if len(offered) == 2:
            return Columns(offered[0], offered[1], bool(nested))
        if len(offered) < 2:
            raise DataError(
                f"{name} needs two columns of text; it has {listed(offered)}",
                f"a row holds a source and a target, such as {_ROW}",
            )
        raise DataError(
            f"{name} has the columns {listed(offered)}: which are source and target?",
            f"{base}#{offered[0]},{offered[1]}",
        )
    for columns, inside in ((nested, True), (texts, False)):
        if all(column in columns for column in named):
            return Columns(*named, nested=inside)
    missing = [column for column in named if column not in [*nested, *texts]]
    hint = f"{base}#{offered[0]},{offered[1]}" if len(offered) > 1 else None
    raise DataError(
        f"{name}: there is no text column {' or '.join(missing) or ' beside '.join(named)}; "
        f"there are {listed([*nested, *texts])}",
        hint,
    )


def listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    return shown or "none"


def _is_line(value: object) -> bool:
    return isinstance(value, str) and "\n" not in value


def _text(value: object, report: Report, place: str) -> str:
    """One side as a single line: nothing for null, a space for each line break."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{place} {json.dumps(value, default=str)[:60]} is not a text")
    if "\n" in value:
        report.line_breaks += 1
        value = value.replace("\r\n", "\n").replace("\n", " ")
    return value


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of rows, two columns of which are the two sides."""

    name: str
    path: Path
    columns: Columns

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return self.columns.languages

    def fingerprint(self) -> str:
        return f"{digest(self.path)} {self.columns}"


class JsonLines(TableFile):
    """One JSON object a line; the first one decides where the two sides stand."""

    @classmethod
    def named(cls, name: str, path: Path, named: tuple[str, str] | None) -> Self:
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                row = _json_object(path, number, line)
                inner = row.get(_NESTED)
                texts = [key for key, value in row.items() if value is None or _is_text(value)]
                nested = list(inner) if isinstance(inner, dict) else []
                return cls(name, path, choose_columns(name, texts, nested, named))
        raise DataError(f"{path} holds no row", f"a row is a line such as {_ROW}")

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        """Every row; a blank line is a row with both sides empty."""
        for number, line in enumerate(read_lines(self.path, report), start=1):
            if not line or line.isspace():
                yield "", ""
                continue
            try:
                sides = self._sides(number, line, report)
            except DataError as error:
                error.hint = error.hint or _look(self.path, number)
                raise
            yield sides

    def _sides(self, number: int, line: str, report: Report) -> tuple[str, str]:
        columns = self.columns
        row: object = _json_object(self.path, number, line)
        if columns.nested and isinstance(row, dict):
            row = row.get(_NESTED)
        if not isinstance(row, dict) or columns.source not in row or columns.target not in row:
            held = listed(list(row)) if isinstance(row, dict) else "none"
            raise DataError(
                f"{self.path}, line {number}: {columns.source} and {columns.target} are "
                f"needed, but the keys are {held}"
            )
        place = f"{self.path}, line {number}:"
        source = _text(row[columns.source], report, place)
        target = _text(row[columns.target], report, place)
        if "\\u" in line and _SURROGATE.search(source + target):
            raise DataError(f"{place} half of a surrogate pair is not a character")
        return source, target


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = _look(path, number)
        raise DataError(f"{path}, line {number} is not JSON: {error}", hint) from None
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number} is not a JSON object", f"write {_ROW}")
    return row


def _look(path: Path, number: int) -> str:
    return f"look at it: {show(path, number, number)}"


class Parquet(TableFile):
    """One Parquet file, read a batch of rows at a time."""

    @classmethod
    def named(cls, name: str, path: Path, named: tuple[str, str] | None) -> Self:
        import pyarrow as pa
        import pyarrow.parquet as pq

        require_file(path)
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a Parquet file: {first_line(str(error))}") from error
        return cls(name, path, choose_columns(name, *text_fields(schema), named))

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sides = [self.columns.source, self.columns.target]
        wanted = [f"{_NESTED}.{side}" for side in sides] if self.columns.nested else sides
        try:
            # Without pre-buffering, only the pages being read are held, not a whole row group.
            with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 16) as file:
                batches = file.iter_batches(BATCH, columns=wanted)
                yield from table_rows(batches, self.columns, str(self.path), report)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read: {first_line(str(error))}") from error


def text_fields(schema: "pa.Schema") -> tuple[list[str], list[str]]:
    """The text columns of an Arrow schema: the flat ones, and those inside `translation`."""
    import pyarrow as pa

    def texts(fields: "Iterable[pa.Field]") -> list[str]:
        return [field.name for field in fields if _is_text_type(field.type)]

    nested = schema.field(_NESTED).type if _NESTED in schema.names else None
    return texts(schema), texts(nested) if nested and pa.types.is_struct(nested) else []


def _is_text_type(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def table_rows(
    tables: "Iterable[pa.RecordBatch | pa.Table]", columns: Columns, place: str, report: Report
) -> Iterator[tuple[str, str]]:
    """The two sides of every row of some Arrow tables; numbered from 1 in errors."""
    number = 0
    for table in tables:
        if columns.nested:
            rows = table.column(_NESTED).to_pylist()
            sources = [row and row.get(columns.source) for row in rows]
            targets = [row and row.get(columns.target) for row in rows]
        else:
            sources = table.column(columns.source).to_pylist()
            targets = table.column(columns.target).to_pylist()
        for source, target in zip(sources, targets, strict=True):
            number += 1
            yield (
                source if _is_line(source) else _text(source, report, f"{place}, row {number}:"),
                target if _is_line(target) else _text(target, report, f"{place}, row {number}:"),
            )


def first_line(message: str) -> str:
    """The first line of a library's message, without its end."""
    return message.strip().split("\n")[0].strip().rstrip(".:") or "it does not say why"
