"""The files of one run at a url, kept in step by the process that runs it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from pairbench.errors import PairBenchError
from pairbench.results.folder import RunFiles
from pairbench.results.heartbeat import heartbeat_path
from pairbench.results.layout import RUNS
from pairbench.results.url import objects
from pairbench.results.url.objects import Objects, is_later


class UrlRunFiles(RunFiles):
    """A run's checkpoint, log and heartbeat, in a node's working folder and at the url.

    It begins with what the url holds of the checkpoint and the log, where that is later than what
    is here, and removes the heartbeat at the end.

    Args:
        url: of the results.
        checkpoint: the file's name.
        log: likewise.

    Raises:
        PairBenchError: the url cannot be used at all, as its package is missing here.
    """

    log: Path

    def __init__(self, url: str, checkpoint: str, log: str) -> None:
        self._objects = Objects(url)
        self._folder = self._objects.home / "work"
        super().__init__(self._folder / ".checkpoints" / checkpoint, self._folder / RUNS / log)
        self._sent: dict[Path, tuple[int, ...]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_in_step, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._fetch()
        except PairBenchError as error:  # of the url for now, or of the disk: no reason to stop
            self.warning = str(error)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        self._over.set()
        self._thread.join()
        with suppress(PairBenchError):
            self._send(self.log, *([] if kind is None else [self.checkpoint]))
            self._objects.delete(f"{RUNS}/{heartbeat_path(self.log).name}")
        if kind is None and self.checkpoint in self._sent:
            self.checkpoint.unlink(missing_ok=True)  # the url's goes when the record is there

    def _fetch(self) -> None:
        for path in (self.checkpoint, self.log):
            name = path.relative_to(self._folder).as_posix()
            about = self._objects.stat(name)
            if about is not None and not is_later(path, about):
                self._objects.fetch_all({name: about}, self._folder)
                self._sent[path] = _signature(path)

    def _keep_in_step(self) -> None:
        while not self._over.wait(objects.SYNC):
            with suppress(PairBenchError):  # the next look tries again
                self._send(self.checkpoint, self.log, heartbeat_path(self.log))

    def _send(self, *paths: Path) -> None:
        """Sends those of the files that have changed since they were sent."""
        for path in paths:
            now = _signature(path)
            if now and now != self._sent.get(path):
                name = path.relative_to(self._folder).as_posix()
                self._objects.put(name, path)
                if path == self.checkpoint:
                    now = self._dated(name, now)
                self._sent[path] = now

    def _dated(self, name: str, before: tuple[int, ...]) -> tuple[int, ...]:
        """Gives a file that was put the url's time, so that nobody fetches it back from there.

        Returns its signature, or that of `before` if another file has taken its place.
        """
        path, about = self._folder / name, self._objects.stat(name)
        with suppress(FileNotFoundError):
            if about is not None and _signature(path) == before:
                os.utime(path, (about.moment, about.moment))
                now = _signature(path)
                return now if now[:2] == before[:2] else before
        return before  # it has changed since, and is sent again


def _signature(path: Path) -> tuple[int, ...]:
    try:
        now = path.stat()
    except OSError:
        return ()
    return now.st_ino, now.st_size, now.st_mtime_ns
