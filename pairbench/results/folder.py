"""A results folder that runs are written to, by one process at a time.

A finished record is never overwritten, a failure record never counts as one, and a file that
cannot be read is renamed to `<name>.aside-<n>` when a run needs its place. Readers take no lock
and change nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pairbench.errors import PairBenchError
from pairbench.results.columns import write_series, write_texts
from pairbench.results.files import atomic_write, read_untrusted, refuse_link_out, set_aside
from pairbench.results.heartbeat import heartbeat_path
from pairbench.results.layout import ASIDE, DRIVER, LEFTOVER, RUNS, record_path
from pairbench.results.record import Failure, RunRecord, RunSpec, name_of
from pairbench.results.record_file import Unreadable, as_json, parse_record, read_record
from pairbench.secrets import shown
from pairbench.text import printable

if TYPE_CHECKING:
    import numpy as np


class RunFiles:
    """The files that a run's own process keeps, as a context to run it in.

    Attributes:
        checkpoint: the file that it resumes from and saves to.
        log: its heartbeat is beside it; None: it keeps neither.
        warning: what went wrong at the beginning, if anything; the run goes on.
    """

    warning: str | None = None

    def __init__(self, checkpoint: Path, log: Path | None) -> None:
        self.checkpoint = checkpoint
        self.log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *about: object) -> None:
        """A folder's files stay as they are."""


class Store:
    """A results folder that runs are written to, and what another kind of store can do, too.

    Attributes:
        root: the folder.
        name: of the store, for people.
        url: where a run's own process keeps its files, if not in the folder.
    """

    url: str | None = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def path(self, run: RunSpec | RunRecord) -> Path:
        """Returns the place of a run's record."""
        return record_path(self.root, run)

    def checkpoint(self, spec: RunSpec) -> Path:
        """Returns the place of a run's checkpoint."""
        return self.root / ".checkpoints" / f"{spec.identity[:16]}.safetensors"

    def find(self, spec: RunSpec) -> tuple[RunRecord | None, str | None]:
        """Returns the finished record of a run, if any, and what was set aside from its place."""
        path = self.path(spec)
        refuse_link_out(self.root, path.parent)
        try:
            record = read_record(path)
            if record.identity != spec.identity:
                raise Unreadable("it is the record of another run")
        except FileNotFoundError:
            return None, None
        except Unreadable as error:
            with writing_to(self.root):
                aside = _set_aside(path)
            return None, f"{path} was set aside as {aside.name}: {error}"
        return (record if record.status == "finished" else None), None

    def write(
        self,
        record: RunRecord,
        series: Mapping[str, np.ndarray] | None = None,
        texts: Mapping[str, list[str]] | None = None,
    ) -> RunRecord:
        """Writes a record, its series and texts first, and returns it with their hashes.

        A failure goes to the next free `.failed-<n>` name.

        Raises:
            PairBenchError: the folder is not writable or the disk is full, or a finished record is
                there already.
        """
        try:
            parse_record(as_json(record), record.identity)
        except Unreadable as error:  # a number has grown without end
            if record.status == "failed":
                raise PairBenchError(f"{name_of(record)} cannot be kept: {error}") from error
            reason = f"what it came to cannot be kept: {error}"
            failure = Failure(kind="Unreadable", message=reason)
            about = {**record.spec.model_dump(), "identity": record.identity, "reason": reason}
            return self.write(RunRecord(**about, status="failed", failure=failure))
        path = self.path(record)
        written = []
        with writing_to(self.root):
            if record.status == "failed":
                number = 1
                while (failed := path.with_suffix(f".failed-{number}.json")).exists():
                    number += 1
                path = failed
            elif _status(path) == "finished":
                raise PairBenchError(f"{path} holds a finished run, which is never overwritten")
            path.parent.mkdir(parents=True, exist_ok=True)
            refuse_link_out(self.root, path.parent)
            hashes = {}
            if series and len(next(iter(series.values()))):
                written.append(path.with_suffix(".parquet"))
                hashes["series_sha256"] = write_series(written[-1], series)
            if texts:
                written.append(path.with_suffix(".texts.parquet"))
                hashes["texts_sha256"] = write_texts(written[-1], texts)
            record = _discreet(record).model_copy(update=hashes)
            data = as_json(record)
            if not (record.status == "skipped" and path.exists() and path.read_bytes() == data):
                atomic_write(path, data)
                written.append(path)
        for path in written:
            self._send(path)
        return record

    def put_aside(self, record: RunRecord) -> None:
        """Moves a record and what lies beside it to `ASIDE`, where nothing is read.

        Raises:
            PairBenchError: the folder cannot be written.
        """
        path = self.path(record)
        number = 1
        while (place := self.root / ASIDE / str(number) / path.relative_to(self.root)).exists():
            number += 1
        with writing_to(self.root):
            place.parent.mkdir(parents=True, exist_ok=True)
            for end in (".parquet", ".texts.parquet", ".json"):
                if (file := path.with_suffix(end)).exists():
                    os.replace(file, place.with_suffix(end))

    def _send(self, path: Path) -> None:
        """Takes a file that was written; in a folder it is where it belongs."""

    def news(self) -> list[str]:
        """Returns what a user should know that has happened since the last call."""
        return []

    @property
    def driver_heartbeat(self) -> Path:
        """The file in which the call at work here names its runs; touched while it lives."""
        return self.root / RUNS / DRIVER

    def log(self, spec: RunSpec) -> Path:
        """Returns the place of a run's log; its heartbeat is beside it."""
        return self.root / RUNS / f"{spec.identity[:16]}.jsonl"

    def forget(self, spec: RunSpec, checkpoint: bool = True) -> None:
        """Removes the heartbeat of a run that has ended, and the checkpoint it needs no more."""
        for path in self._of_run(spec, checkpoint):
            path.unlink(missing_ok=True)

    def _of_run(self, spec: RunSpec, checkpoint: bool) -> list[Path]:
        heartbeat = heartbeat_path(self.log(spec))
        return [heartbeat, self.checkpoint(spec)] if checkpoint else [heartbeat]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for one writing process.

        Raises:
            PairBenchError: another process holds it (its number is named), or it is not writable.
        """
        from filelock import FileLock, Timeout

        holder = self.root / ".pid.lock"
        with writing_to(self.root):
            for folder in (".checkpoints", RUNS):
                refuse_link_out(self.root, self.root / folder)
            (self.root / ".checkpoints").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                who = "of unknown number"
                with suppress(OSError):
                    who = printable(read_untrusted(holder, 99, follow=False).decode().strip())
                raise PairBenchError(
                    f"results folder {self.name} is in use by process {who}: "
                    "wait for it to end, or give another --results folder"
                ) from error
            try:
                atomic_write(holder, f"{os.getpid()}\n".encode())
            except BaseException:
                lock.release()
                raise
        for folder in (".", ".checkpoints", RUNS, "*/*"):  # of writers that were killed
            for leftover in self.root.glob(f"{folder}/.*.tmp"):
                inside = leftover.resolve().is_relative_to(self.root.resolve())
                if inside and LEFTOVER.fullmatch(leftover.name):
                    leftover.unlink(missing_ok=True)
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _discreet(record: RunRecord) -> RunRecord:
    """A record whose failure, which may be of foreign code, tells no secret."""
    if record.failure is None:
        return record
    failure = record.failure.model_copy(update={"message": shown(record.failure.message)})
    return record.model_copy(update={"failure": failure, "reason": shown(record.reason or "")})


def _status(path: Path) -> str | None:
    """The status of the record at a path, None where there is none; a damaged one is set aside."""
    try:
        return read_record(path).status
    except FileNotFoundError:
        return None
    except Unreadable:
        _set_aside(path)
        return None


def _set_aside(path: Path) -> Path:
    """Renames an unusable record, and what lies beside it; returns the record's new place."""
    for beside in (path.with_suffix(".parquet"), path.with_suffix(".texts.parquet")):
        if beside.exists():
            set_aside(beside)
    return set_aside(path)


@contextmanager
def writing_to(root: Path) -> Iterator[None]:
    """Turns what the file system refuses into one sentence."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            text = str(error.strerror or error)
        elif type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb"):
            text = " ".join(str(error).split())  # DuckDB reports a full disk in its own words
            full = os.strerror(errno.ENOSPC) in text
        else:
            raise
        what = "is full" if full else f"cannot be written ({text})"
        raise PairBenchError(
            f"results folder {root} {what}: every run that ended before is kept; "
            "make room, or give another --results folder"
        ) from error
