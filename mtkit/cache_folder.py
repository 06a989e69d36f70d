"""Where mtkit keeps what it can make again: prepared corpora and compiled functions."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """What MTKIT_CACHE names, else `mtkit` in the user's cache folder."""
    if named := os.environ.get("MTKIT_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtkit"
