"""What a run writes beside the records while it is under way: a heartbeat and a log.

Both are hidden files of the results folder, so that any machine that sees the folder can tell how
its runs go. The heartbeat, `<run>.json`, is replaced every `BEAT` seconds and gone when the run
ends. The log, `<run>.jsonl`, has a line of JSON for each event, and stays. They name the machine
and the process; no record does.
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
from typing import Any, Self

from pairbench.results.files import append, atomic_write, read_untrusted, strict_json
from pairbench.results.record import RunSpec
from pairbench.secrets import shown

BEAT = 2.0  # seconds between two heartbeats
LINE = 60.0  # seconds between two lines on progress, where nothing was evaluated meanwhile


class RunLog:
    """Keeps the log and the heartbeat of one run.

    A full or read-only disk costs these files, never the run.

    Args:
        path: of the log; None: neither is kept.
        spec: the run.
    """

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
        self._progress: dict[str, float | None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self.note("started", **self._about)
        if self._path is not None:
            self._write()
            self._thread.start()
        return self

    def __exit__(self, *about: object) -> None:
        self._stop.set()
        if self._path is not None:
            self._thread.join()
            with contextlib.suppress(OSError):
                heartbeat_path(self._path).unlink(missing_ok=True)

    def advanced(self, spent: float, iteration: int, reward: float | None, seconds: float) -> None:
        """Takes how far the run is; a new evaluation, or a minute without one, makes a line.

        Args:
            spent: share of its budget.
            iteration: that has ended last.
            reward: last evaluated.
            seconds: that it has taken.
        """
        now = time.monotonic()
        if not self._progress and iteration:
            self.note("resumed", iteration=iteration)
        evaluated = not self._progress or self._progress["reward"] != reward
        self._progress = {
            "spent": spent, "iteration": iteration, "reward": reward, "seconds": seconds,
        }  # fmt: skip
        self._moved = now
        if evaluated or now - self._told >= LINE:
            self._told = now
            self.note("advanced", **self._progress)

    def note(self, event: str, **details: Any) -> None:
        """Adds a line to the log."""
        if self._path is None:
            return
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {
            key: shown(text) if isinstance(text, str) else text for key, text in details.items()
        }
        line = json.dumps({"time": when, "event": event, **told}) + "\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append(self._path, line.encode())

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            self._write()

    def _write(self) -> None:
        assert self._path is not None
        now = time.monotonic()
        state = {
            **self._about,
            **self._progress,
            "lasts": round(now - self._began, 1),
            "idle": round(now - self._moved, 1),
        }
        with contextlib.suppress(OSError):
            atomic_write(heartbeat_path(self._path), json.dumps(state).encode(), sync=False)


def heartbeat_path(log: Path) -> Path:
    """Returns the heartbeat of the run with this log."""
    return log.with_suffix(".json")


def read_log(log: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's log; one that its writer's death cut off is left out."""
    lines = []
    with contextlib.suppress(OSError):
        for line in read_untrusted(log).splitlines():
            with contextlib.suppress(ValueError):
                lines.append(strict_json(line))
    return [line for line in lines if isinstance(line, dict)]
