"""What a run leaves beside the records while it is under way: a sign of life and a log.

Both are hidden files of the results folder, so that any machine that sees the folder can tell how
a grid goes: `<run>.json`, replaced every `BEAT` seconds and gone when the run ends, and
`<run>.jsonl`, a line of JSON per event, which stays. They name the machine and the process; no
record does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pairbench.results.files import atomic_write, read_file, strict_json
from pairbench.results.record import RunSpec

if TYPE_CHECKING:
    from pairbench.training.run import Progress

BEAT = 2.0  # seconds between two signs of life
LINE = 60.0  # seconds between two lines on progress, where nothing was evaluated meanwhile


class Diary:
    """Keeps the two files of one run; a full or read-only disk costs them, never the run."""

    def __init__(self, path: Path | None, spec: RunSpec) -> None:
        self._path = path
        self._about = {
            "identity": spec.identity,
            "row": spec.row,
            "task": spec.task,
            "seed": spec.seed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._began = self._moved = time.monotonic()
        self._told = float("-inf")
        self._last: Progress | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self.note("started", **self._about)
        if self._path is not None:
            self._write()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._path is not None:
            self._thread.join()
            with contextlib.suppress(OSError):
                sign_of_life(self._path).unlink(missing_ok=True)

    def advanced(self, progress: Progress) -> None:
        """Takes a sign of progress; a new evaluation, or a minute without one, makes a line."""
        now = time.monotonic()
        if self._last is None and progress.iteration:
            self.note("resumed", iteration=progress.iteration)
        evaluated = self._last is None or self._last.reward != progress.reward
        self._last, self._moved = progress, now
        if evaluated or now - self._told >= LINE:
            self._told = now
            self.note("advanced", **vars(progress))

    def note(self, event: str, **details: Any) -> None:
        """Adds a line to the log."""
        if self._path is None:
            return
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": when, "event": event, **details}) + "\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.write(line.encode())

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            self._write()

    def _write(self) -> None:
        assert self._path is not None
        now = time.monotonic()
        progress = vars(self._last) if self._last is not None else {}
        state = {
            **self._about,
            **progress,
            "lasts": round(now - self._began, 1),
            "idle": round(now - self._moved, 1),
        }
        with contextlib.suppress(OSError):
            atomic_write(sign_of_life(self._path), json.dumps(state).encode(), sync=False)


def sign_of_life(diary: Path) -> Path:
    """Returns the file that a run with this log replaces while it is under way."""
    return diary.with_suffix(".json")


def read_state(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file, None where there is none that can be read."""
    try:
        state = strict_json(read_file(path))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def read_log(diary: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's log; one that its writer's death cut off is left out."""
    lines = []
    with contextlib.suppress(OSError):
        for line in read_file(diary).splitlines():
            with contextlib.suppress(ValueError):
                lines.append(strict_json(line))
    return [line for line in lines if isinstance(line, dict)]
