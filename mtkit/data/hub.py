"""Datasets of the Hugging Face Hub, and folders that the `datasets` library reads."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from mtkit.data.lines import Report, digest
from mtkit.data.tables import (
    BATCH,
    Columns,
    choose_columns,
    first_line,
    language_of,
    listed,
    table_rows,
    text_fields,
    two_columns,
)
from mtkit.errors import DataError

if TYPE_CHECKING:
    import datasets


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
            raise DataError(
                f"{name}: there is no folder {self._folder}",
                f"see what is there: ls {quote(str(self._folder.parent))}",
            )
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
            tables = loaded.dataset.with_format("arrow").iter(batch_size=BATCH)
            yield from table_rows(tables, loaded.columns, self.name, report)

    def fingerprint(self) -> str:
        """Configuration and revision on the Hub, or a local folder's bytes; split and columns."""
        loaded = self._loaded
        if self._folder:
            content = [file for file in sorted(self._folder.rglob("*")) if file.is_file()]
            revision = digest(*content)
        else:
            revision = f"{self._repository} {self._config or ''} {loaded.revision}"
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
                raise DataError(
                    f"{self.name} holds no row", "name another split, such as hf:owner/name:train"
                )
            return _Loaded(
                dataset,
                choose_columns(self.name, *text_fields(schema), self._named),
                revision,
            )

    def _saved(self) -> "tuple[datasets.Dataset, str]":
        import datasets

        found = datasets.load_from_disk(str(self._folder))
        if isinstance(found, datasets.DatasetDict):
            splits = dict(found)
        elif self._split:
            splits = {str(found.split): found} if found.split else {}
        else:
            return found, ""
        if self._split in splits:  # it may have been saved as train[:1000] or a+b
            return splits[self._split], ""
        self._require_split(list(splits))
        wanted = "+".join(splits) if self._split == "all" else self._split
        sizes = {name: len(split) for name, split in splits.items()}
        parts = datasets.ReadInstruction.from_spec(wanted).to_absolute(sizes)
        return datasets.concatenate_datasets(
            [splits[part.splitname].select(range(part.from_, part.to)) for part in parts]
        ), ""

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
            f"{self._with(split='')} {told}; there are {listed(splits)}",
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
                f"{name}: {where} has {told}; there are {listed(known)}",
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
            f"{name} cannot be loaded: {first_line(message)}",
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
