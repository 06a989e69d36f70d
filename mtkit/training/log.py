"""The log that a run keeps of itself."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from mtkit.training.events import Event, Preparing, Progressed

SECONDS = 10.0


class Log:
    """Every event as a line of JSON in the run folder; progress at most every ten seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Preparing):
            return
        now = time.monotonic()
        if isinstance(event, Progressed):
            if now - self.last < SECONDS:
                return
            self.last = now
        table = {"event": type(event).__name__.lower(), "time": time.time(), **asdict(event)}
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(table, ensure_ascii=False, default=str) + "\n")
