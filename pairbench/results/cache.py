"""Many records in few files: what `pairbench compact` keeps beside the records of a large folder.

    <results>/.compact/<first 16 hex of the SHA-256 of a folder's name>-<n>.parquet

Each holds up to 10,000 records of one folder of the results (as a rule a task's): a row is the
record's file, that file's size and time of change, its task, its text and the text's SHA-256. The
JSON files stay the truth. A row counts only while its file is there with that size and time, its
text is checked as a file's is, and what is new or has changed is read from its file; so any of
these files may be missing, old or removed, and boards are the same. Thousands of files are opened
instead of millions, and a board needs the records of its own task alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pairbench.errors import PairBenchError
from pairbench.results.columns import MOST_BYTES, write_columns
from pairbench.results.files import refuse_large_parquet
from pairbench.results.folder import writing_to
from pairbench.results.layout import COMPACT, json_files, places
from pairbench.results.place import is_url, results_folder
from pairbench.results.record_file import Unreadable, parse_record, record_bytes

ROWS, TEXT = 10_000, 2**26
"""The most records, and the bytes of text after which no more are added, of one file."""

PART = re.compile(r"[0-9a-f]{16}-\d+\.parquet")


class Row(NamedTuple):
    """A record that is kept: its file as it was then, its task and, if asked for, its text."""

    size: int
    mtime_ns: int
    task: str
    text: str | None

    def is_of(self, path: Path) -> bool:
        """Whether the file is still what it was."""
        return _state(path) == (self.size, self.mtime_ns)


class Compacted(NamedTuple):
    """What `compact` has done: records kept, files they are in, and files that are no records."""

    records: int
    files: int
    problems: list[str]


def compact(root: Path | str = "results") -> Compacted:
    """Keeps the records of a results folder in few files beside them; folders as kept stay so.

    Raises:
        PairBenchError: there is no such folder, it cannot be written, another call is at it, or it
            is a url, whose copy here is brought up to date file by file.
    """
    if is_url(root):
        raise PairBenchError(f"records at {root} cannot be compacted: give a folder")
    folder, _ = results_folder(root)
    records = 0
    problems: list[str] = []
    parts: set[Path] = set()
    with _lock(folder):
        for place in places(folder):
            if place.is_symlink() or not place.is_dir():
                continue
            files = {_name(folder, path): path for path in json_files(place)}
            kept, wrong = rows(folder, place, texts=False)
            same = kept.keys() == files.keys() and all(
                kept[name].is_of(files[name]) for name in kept
            )
            if wrong or not same:
                records += _rewrite(folder, place, list(files.values()), problems)
            else:
                records += len(kept)
            parts.update(_parts(folder, place))
        for path in (folder / COMPACT).iterdir():  # of folders that are gone
            if PART.fullmatch(path.name) and path not in parts:
                path.unlink(missing_ok=True)
    return Compacted(records, len(parts), problems)


def rows(
    folder: Path, place: Path, task: str | None = None, texts: bool = True
) -> tuple[dict[str, Row], list[str]]:
    """Returns what is kept of a folder's records, by file, and a sentence per unusable file of it.

    Args:
        folder: the results folder.
        place: the folder in it.
        task: texts of this task's records only.
        texts: whether texts are read at all, which takes most of the memory and time.
    """
    found: dict[str, Row] = {}
    problems = []
    for part in _parts(folder, place):
        try:
            found |= _read(part, task, texts)
        except FileNotFoundError:  # replaced by another call since it was listed
            continue
        except OSError as error:
            problems.append(
                f"{part} is not used, records are read from their own files: {error.strerror} "
                "(`pairbench compact` writes it again)"
            )
    return found, problems


def _read(part: Path, task: str | None, texts: bool) -> dict[str, Row]:
    """Raises OSError, its reason in words, if a file is none of ours or would fill the memory."""
    import duckdb

    if not stat.S_ISREG(os.lstat(part).st_mode):
        raise OSError(None, "it is no ordinary file")
    wanted = "coalesce(task = ?, true)" if texts else "false"
    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as connection:
            refuse_large_parquet(connection, part, MOST_BYTES)
            found = connection.execute(
                f"SELECT path, size, mtime_ns, task, CASE WHEN {wanted} THEN record::VARCHAR END, "
                "sha256::VARCHAR FROM read_parquet(?) WHERE path IS NOT NULL AND task IS NOT NULL",
                [*([task] if texts else []), str(part)],
            ).fetchall()
    except duckdb.Error as error:
        raise OSError(None, " ".join(str(error).split())[:200]) from error
    if found and list(map(type, found[0][:4])) != [str, int, int, str]:
        raise OSError(None, "it holds other things than records")
    if any(text is not None and _sha256(text) != sha256 for *_, text, sha256 in found):
        raise OSError(None, "a record in it is not what was written")
    return {path: Row(*row) for path, *row, _ in found}


def _rewrite(folder: Path, place: Path, files: Sequence[Path], problems: list[str]) -> int:
    """Writes what is kept of a folder again, and returns how many records that are."""
    records = number = size = 0
    batch: list[tuple[str, Row]] = []
    for name, row in _records(folder, files, problems):
        batch.append((name, row))
        records, size = records + 1, size + row.size
        if len(batch) == ROWS or size > TEXT:
            write_part(folder, place, number, batch)
            batch, number, size = [], number + 1, 0
    if batch:
        write_part(folder, place, number, batch)
        number += 1
    for part in _parts(folder, place)[number:]:
        part.unlink(missing_ok=True)
    return records


def _records(folder: Path, files: Sequence[Path], problems: list[str]) -> Iterator[tuple[str, Row]]:
    for path in files:
        before = _state(path)
        try:
            data = record_bytes(path)
            record = parse_record(data, path.name)
        except FileNotFoundError:  # renamed by a running writer since it was listed
            continue
        except Unreadable as error:
            problems.append(f"{path} is not used: {error}")
            continue
        with suppress(UnicodeDecodeError):  # JSON in another encoding stays in its file
            if before is not None and before == _state(path):
                yield _name(folder, path), Row(*before, record.task, data.decode())


def write_part(folder: Path, place: Path, number: int, batch: Sequence[tuple[str, Row]]) -> None:
    """Writes records of a folder as its file of that number."""
    import numpy as np

    names, found = [name for name, _ in batch], [row for _, row in batch]
    write_columns(
        folder / COMPACT / f"{_key(place)}-{number}.parquet",
        {
            "path": np.array(names, dtype=object),
            "size": np.array([row.size for row in found], dtype=np.int64),
            "mtime_ns": np.array([row.mtime_ns for row in found], dtype=np.int64),
            "task": np.array([row.task for row in found], dtype=object),
            "record": np.array([row.text for row in found], dtype=object),
            "sha256": np.array([_sha256(row.text or "") for row in found], dtype=object),
        },
    )


def _parts(folder: Path, place: Path) -> list[Path]:
    """The files of a folder, by number."""
    found = [
        path
        for path in (folder / COMPACT).glob(f"{_key(place)}-*.parquet")
        if PART.fullmatch(path.name)
    ]
    return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))


def _key(place: Path) -> str:
    return _sha256(os.fsencode(place.name))[:16]


def _sha256(text: str | bytes) -> str:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _state(path: Path) -> tuple[int, int] | None:
    """The size and time of change of a file, unless it is a link or no file at all."""
    with suppress(OSError):
        about = os.lstat(path)
        if stat.S_ISREG(about.st_mode):
            return about.st_size, about.st_mtime_ns
    return None


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds what is kept for one writing process; runs may go on, and boards be read."""
    from filelock import FileLock, Timeout

    with writing_to(folder):
        (folder / COMPACT).mkdir(exist_ok=True)
        if (folder / COMPACT).is_symlink():
            raise PairBenchError(f"{folder / COMPACT} is a link: remove it")
        lock = FileLock(folder / COMPACT / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise PairBenchError(
                f"another `pairbench compact` is at {folder}: wait for it to end"
            ) from error
        try:
            for leftover in (folder / COMPACT).glob(".*.tmp"):  # of one that was killed
                leftover.unlink(missing_ok=True)
            yield
        finally:
            lock.release()
