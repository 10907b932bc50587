"""The runs of a study's trials in two files, once they have ended.

    trials.jsonl      their records, one a line, ordered by identity
    series.parquet    their series, a row an iteration: identity, iteration, what was measured
    texts.parquet     likewise the texts of their last evaluations, where a task has any

A call of `pairbench tune` writes runs into a results folder of the study's own, as any other call
does, and `fold` moves them here when it ends. Nothing is lost: a line is a record's file without
its indents, and in the columns NULL says that a run has no such column, NaN that it measured
nothing there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pairbench.errors import PairBenchError
from pairbench.results.files import atomic_write, read_untrusted, strict_json
from pairbench.results.layout import record_files
from pairbench.results.parquet import MOST_BYTES, connect, rows_of, write
from pairbench.results.record import RunRecord
from pairbench.results.record_file import Unreadable, parse_record

if TYPE_CHECKING:
    import duckdb

RECORDS, SERIES, TEXTS = "trials.jsonl", "series.parquet", "texts.parquet"


def read_records(study: Path) -> list[RunRecord]:
    """Returns the records of a study's folder, by identity; the attempts of one run in their order.

    Raises:
        PairBenchError: the file of records is none.
    """
    return [record for _, record in _lines(study / RECORDS)]


def fold(study: Path, runs: Path) -> None:
    """Moves what has ended in a results folder into the files of a study's folder.

    Files that are no records stay where they are. A call that is killed here leaves nothing half
    done: the runs go last, and the next call folds what it finds of them.

    Raises:
        PairBenchError: a file of the study cannot be read, or something cannot be written.
    """
    moved = list(_ended(runs))
    if moved:
        lines = {text: record.identity for text, record in _lines(study / RECORDS)}
        lines |= {text: record.identity for _, text, record in moved}
        try:
            for name, end in ((SERIES, ".parquet"), (TEXTS, ".texts.parquet")):
                beside = {
                    record.identity: file
                    for path, _, record in moved
                    if record.status == "finished" and (file := path.with_suffix(end)).is_file()
                }
                _add(study / name, beside)
            ordered = sorted(lines.items(), key=lambda item: item[1])  # stable: attempts stay
            atomic_write(study / RECORDS, "".join(f"{text}\n" for text, _ in ordered).encode())
            for path, _, _ in moved:
                for end in (".parquet", ".texts.parquet", ".json"):
                    path.with_suffix(end).unlink(missing_ok=True)
        except OSError as error:
            raise PairBenchError(
                f"{study} cannot be written ({error.strerror or error}): every run is kept in "
                f"{runs}; make room, and call again"
            ) from error
    _sweep(runs)


def _ended(runs: Path) -> Iterator[tuple[Path, str, RunRecord]]:
    """The records of a results folder, each with its file and its line, attempts in their order."""
    if not runs.is_dir():
        return
    for path in sorted(record_files(runs), key=lambda path: (len(path.name), path.name)):
        with suppress(Unreadable, OSError):
            data = read_untrusted(path, follow=False)
            record, line = parse_record(data, path.name), json.dumps(json.loads(data))
            if as_file(line) == data:
                yield path, line, record


def as_file(line: str) -> bytes:
    """Returns the file of a record that is a line of `RECORDS`."""
    return (json.dumps(json.loads(line), indent=1, allow_nan=False) + "\n").encode()


def _lines(path: Path) -> Iterator[tuple[str, RunRecord]]:
    """The lines of a file of records, each with the record that it is."""
    try:
        lines = read_untrusted(path, MOST_BYTES).decode().splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise PairBenchError(
            f"{path} cannot be read as the records of a study ({error})"
        ) from error
    for number, line in enumerate(lines, 1):
        try:
            raw = strict_json(line)
            yield line, parse_record(line, str(raw.get("identity")))
        except (AttributeError, ValueError, Unreadable) as error:
            raise PairBenchError(f"{path}, line {number}, is no record: {error}") from error


def _add(path: Path, files: dict[str, Path]) -> None:
    """Adds the columns of some runs, by identity, to a file of columns."""
    import duckdb

    if not files:
        return
    try:
        with connect() as connection:
            parts = []
            for identity, file in sorted(files.items()):
                table = rows_of(connection, [file], ", file_row_number=true")
                parts.append(
                    f"SELECT '{identity}' AS identity, file_row_number AS iteration, "
                    f"{_measured(connection, table)} FROM {table}"
                )
            if path.exists():
                new = ", ".join(f"'{identity}'" for identity in files)
                parts.append(f"FROM {rows_of(connection, [path])} WHERE identity NOT IN ({new})")
            union = " UNION ALL BY NAME ".join(parts)
            write(connection, f"(SELECT * FROM ({union}) ORDER BY identity, iteration)", path)
    except duckdb.Error as error:
        why = " ".join(str(error).split())[:200]
        raise PairBenchError(f"{path} cannot be written ({why})") from error


def _measured(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """The columns of a file, as SQL that leaves no NULL in those of numbers."""
    texts = []
    described = connection.execute(f"DESCRIBE SELECT * EXCLUDE file_row_number FROM {table}")
    for name, kind, *_ in described.fetchall():
        column = '"' + name.replace('"', '""') + '"'
        filled = f"coalesce({column}, 'nan'::FLOAT)" if kind == "FLOAT" else column
        texts.append(f"{filled} AS {column}")
    return ", ".join(texts)


def _sweep(runs: Path) -> None:
    """Removes a results folder that holds nothing but what a writer leaves behind."""
    if not runs.is_dir() or any(runs.glob(".checkpoints/*.safetensors")):
        return
    kept = (path for path in runs.rglob("*") if path.is_file())
    if all(path.relative_to(runs).parts[0].startswith(".") for path in kept):
        shutil.rmtree(runs, ignore_errors=True)
