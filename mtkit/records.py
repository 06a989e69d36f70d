"""Records as JSON that every reader takes: numbers that are none become null."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

_HALF = re.compile("[\ud800-\udfff]")


def json_text(record: object, *, indent: int | None = None) -> str:
    """A record (dataclass, mapping or list of them) as JSON text, without a line end."""
    plain = _plain(record)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent)
    if _HALF.search(text):  # half a surrogate pair, which JSON can write and UTF-8 cannot
        text = json.dumps(plain, allow_nan=False, indent=indent)
    return text


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
