"""Tables whose columns have names: JSON lines, Parquet files and Hugging Face datasets."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mtkit.data.lines import Report, digest, read_lines, require_file
from mtkit.errors import DataError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_NESTED = "translation"
_BATCH = 4096
_SURROGATE = re.compile("[\ud800-\udfff]")


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
        raise DataError(
            f"{name}: after # stand two different columns, source and target",
            f"{name.rpartition('#')[0]}#de,en",
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
            raise DataError(f"{name} needs two columns of text; it has {_listed(offered)}")
        raise DataError(
            f"{name} has the columns {_listed(offered)}: which are source and target?",
            f"{base}#{offered[0]},{offered[1]}",
        )
    for columns, inside in ((nested, True), (texts, False)):
        if all(column in columns for column in named):
            return Columns(*named, nested=inside)
    missing = [column for column in named if column not in [*nested, *texts]]
    hint = f"{base}#{offered[0]},{offered[1]}" if len(offered) > 1 else None
    raise DataError(
        f"{name}: there is no text column {' or '.join(missing) or ' beside '.join(named)}; "
        f"there are {_listed([*nested, *texts])}",
        hint,
    )


def _listed(columns: Sequence[str]) -> str:
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
class JsonLines:
    """One JSON object a line; the first one decides where the two sides stand."""

    name: str
    path: Path
    columns: Columns

    @classmethod
    def named(cls, name: str, path: Path, named: tuple[str, str] | None) -> "JsonLines":
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                row = _json_object(path, number, line)
                inner = row.get(_NESTED)
                texts = [key for key, value in row.items() if value is None or _is_text(value)]
                nested = list(inner) if isinstance(inner, dict) else []
                return cls(name, path, choose_columns(name, texts, nested, named))
        raise DataError(f"{path} holds no row")

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return self.columns.languages

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        """Every row; a blank line is a row with both sides empty."""
        columns = self.columns
        for number, line in enumerate(read_lines(self.path, report), start=1):
            if not line or line.isspace():
                yield "", ""
                continue
            row: object = _json_object(self.path, number, line)
            if columns.nested and isinstance(row, dict):
                row = row.get(_NESTED)
            if not isinstance(row, dict) or columns.source not in row or columns.target not in row:
                held = _listed(list(row)) if isinstance(row, dict) else "none"
                raise DataError(
                    f"{self.path}, line {number}: {columns.source} and {columns.target} are "
                    f"needed, but the keys are {held}"
                )
            place = f"{self.path}, line {number}:"
            source = _text(row[columns.source], report, place)
            target = _text(row[columns.target], report, place)
            if "\\u" in line and _SURROGATE.search(source + target):
                raise DataError(f"{place} half of a surrogate pair is not a character")
            yield source, target

    def fingerprint(self) -> str:
        return f"{digest(self.path)} {self.columns}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {number} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number} is not a JSON object", 'write {"de": "...", "en": "..."}'
        )
    return row


@dataclass(frozen=True, slots=True)
class Parquet:
    """One Parquet file, read a batch of rows at a time."""

    name: str
    path: Path
    columns: Columns

    @classmethod
    def named(cls, name: str, path: Path, named: tuple[str, str] | None) -> "Parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        require_file(path)
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a Parquet file: {_first_line(str(error))}") from error
        return cls(name, path, choose_columns(name, *_text_fields(schema), named))

    @property
    def languages(self) -> tuple[str | None, str | None]:
        return self.columns.languages

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sides = [self.columns.source, self.columns.target]
        wanted = [f"{_NESTED}.{side}" for side in sides] if self.columns.nested else sides
        try:
            # Without pre-buffering, only the pages being read are held, not a whole row group.
            with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 16) as file:
                batches = file.iter_batches(_BATCH, columns=wanted)
                yield from _table_rows(batches, self.columns, str(self.path), report)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} cannot be read: {_first_line(str(error))}") from error

    def fingerprint(self) -> str:
        return f"{digest(self.path)} {self.columns}"


def _text_fields(schema: "pa.Schema") -> tuple[list[str], list[str]]:
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


def _table_rows(
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


class HubDataset:
    """One split of a dataset, loaded by the `datasets` library when it is first needed.

    A path that starts with `.`, `~` or `/` is a local folder: one that `save_to_disk` wrote, or
    one of data files. Where the Hub is, and where the cache, is the library's own business.
    """

    def __init__(self, name: str, *, streaming: bool = False) -> None:
        body, mark, tail = name.removeprefix("hf:").partition("#")
        path, _, self._split = body.partition(":")
        self._named = two_columns(name, tail) if mark else None
        if not path.strip("/"):
            raise DataError(f"{name} names no dataset", "for example hf:owner/name:train")
        self.name = name
        self._streaming = streaming
        self._folder = Path(path).expanduser() if path[0] in "./~" else None
        if self._folder and not self._folder.is_dir():
            raise DataError(f"{name}: there is no folder {self._folder}")
        parts = [path] if self._folder else path.split("/", 2)
        self._repository = "/".join(parts[:2])
        self._config = parts[2] if len(parts) > 2 else None

    @property
    def languages(self) -> tuple[str | None, str | None]:
        if self._named:
            return language_of(self._named[0]), language_of(self._named[1])
        return self._loaded.columns.languages

    def read(self, report: Report) -> Iterator[tuple[str, str]]:
        """Every row of the split."""
        loaded = self._loaded
        with self._one_sentence():
            tables = loaded.dataset.with_format("arrow").iter(batch_size=_BATCH)
            yield from _table_rows(tables, loaded.columns, self.name, report)

    def fingerprint(self) -> str:
        """The revision on the Hub, or the bytes of a local folder; with split and columns."""
        loaded = self._loaded
        if self._folder:
            content = [file for file in sorted(self._folder.rglob("*")) if file.is_file()]
            revision = digest(*content)
        else:
            revision = f"{self._repository} {loaded.revision}"
        return f"{revision} {self._split} {loaded.columns}"

    @cached_property
    def _loaded(self) -> "_Loaded":
        with _quiet(), self._one_sentence():
            saved = self._folder and any(
                (self._folder / file).is_file() for file in ("state.json", "dataset_dict.json")
            )
            dataset, revision = self._saved() if saved else self._built()
            if dataset.features is not None:
                schema = dataset.features.arrow_schema
            elif first := next(iter(dataset.with_format("arrow").iter(batch_size=1)), None):
                schema = first.schema
            else:
                raise DataError(f"{self.name} holds no row")
            return _Loaded(
                dataset,
                choose_columns(self.name, *_text_fields(schema), self._named),
                revision,
            )

    def _saved(self) -> "tuple[datasets.Dataset, str]":
        import datasets

        found = datasets.load_from_disk(str(self._folder))
        if isinstance(found, datasets.DatasetDict):
            self._require_split(list(found))
            return found[self._split], ""
        if self._split and self._split != str(found.split):
            self._require_split([str(found.split)] if found.split else [])
        return found, ""

    def _built(self) -> "tuple[datasets.Dataset | datasets.IterableDataset, str]":
        import datasets

        path = str(self._folder.resolve()) if self._folder else self._repository
        if not self._folder:
            self._require_connection()
        builder = datasets.load_dataset_builder(path, self._config)
        splits = builder.config.data_files or builder.info.splits
        if splits:
            self._require_split([str(split) for split in splits])
        if self._streaming:
            return builder.as_streaming_dataset(self._split), str(builder.hash)
        builder.download_and_prepare()
        return builder.as_dataset(self._split), str(builder.hash)

    def _require_connection(self) -> None:
        """Fail at once where the library would try for half a minute: no Hub and no cache."""
        import datasets
        from huggingface_hub import constants, get_session

        cached = Path(datasets.config.HF_DATASETS_CACHE) / self._repository.replace("/", "___")
        if not cached.is_dir():
            get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)

    def _require_split(self, splits: list[str]) -> None:
        """Raise a `DataError` unless the named split, or each part of `a+b[:10]`, is there."""
        if self._streaming and "[" in self._split:
            raise DataError(
                f"{self.name}: streaming reads whole splits, not {self._split}",
                "--set data.streaming=false",
            )
        named = re.sub(r"\[[^\]]*\]", "", self._split).split("+")
        if named == ["all"] or all(split.strip() in splits for split in named):
            return
        told = f"has no split {self._split}" if self._split else "needs a split"
        raise DataError(
            f"{self._with(split='')} {told}; there are {_listed(splits)}",
            self._with(split=splits[0] if splits else ""),
        )

    def _with(self, *, split: str, config: str | None = None) -> str:
        """The name of this corpus with another split, and another configuration if given."""
        config = config or self._config
        path = f"{self._repository}/{config}" if config else self._repository
        columns = f"#{','.join(self._named)}" if self._named and split else ""
        return f"hf:{path}{':' if split else ''}{split}{columns}"

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Say in a `DataError` what the library fails with."""
        from datasets.exceptions import DatasetsError
        from huggingface_hub.errors import HfHubHTTPError

        # Its first base is the root of the HTTP client's errors, whichever client it is.
        client: type[Exception] = HfHubHTTPError.__bases__[0]
        try:
            yield
        except (OSError, ValueError, RuntimeError, KeyError, DatasetsError, client) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> DataError:
        from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
        from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
        from huggingface_hub.errors import HfHubHTTPError

        name, where, message = self.name, self._folder or self._repository, str(error)
        if "scripts are no longer supported" in message:
            return DataError(
                f"{name}: {where} is a loading script, and the datasets library runs none",
                "name a dataset of data files, or download the texts and name the files",
            )
        if isinstance(error, DatasetNotFoundError):
            return DataError(
                f"{name}: {ENDPOINT} has no dataset {where} that you may read",
                "check the name; for a gated or private one: hf auth login",
            )
        configs = re.search(r"(?:configs|Available): *\[(.*?)\]", message, re.DOTALL)
        if configs:
            known = re.findall(r"['\"](.*?)['\"]", configs[1])
            told = f"no configuration {self._config}" if self._config else "several configurations"
            return DataError(
                f"{name}: {where} has {told}; there are {_listed(known)}",
                self._with(split=self._split or "train", config=known[0]) if known else None,
            )
        unreachable = isinstance(error, ConnectionError | HfHubHTTPError.__bases__[0])
        if unreachable and HF_HUB_OFFLINE:
            return DataError(
                f"{name}: {where} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
                "unset HF_HUB_OFFLINE",
            )
        if unreachable:
            return DataError(
                f"{name}: {ENDPOINT} cannot be reached, and {where} is not in the cache",
                "check the network and HF_ENDPOINT",
            )
        if isinstance(error, DatasetGenerationError) and error.__cause__:
            message = str(error.__cause__)
        page = f"{ENDPOINT}/datasets/{where}"
        return DataError(
            f"{name} cannot be loaded: {_first_line(message)}",
            f"see what is there: {f'ls -R {where}' if self._folder else page}",
        )


@dataclass(frozen=True, slots=True)
class _Loaded:
    dataset: "datasets.Dataset | datasets.IterableDataset"
    columns: Columns
    revision: str


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and warnings where no terminal shows them."""
    if sys.stderr.isatty():
        yield
        return
    import datasets
    import huggingface_hub.utils as hub

    talks = datasets.utils.logging, hub.logging
    levels = [talk.get_verbosity() for talk in talks]
    shown = [library for library in (datasets, hub) if not library.are_progress_bars_disabled()]
    for talk in talks:
        talk.set_verbosity_error()
    for library in shown:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for talk, level in zip(talks, levels, strict=True):
            talk.set_verbosity(level)
        for library in shown:
            library.enable_progress_bars()


def _first_line(message: str) -> str:
    """The first line of a library's message, without its end."""
    return message.strip().split("\n")[0].strip().rstrip(".:") or "it does not say why"
