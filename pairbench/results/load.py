"""The records of a results folder with their series, and what in it is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pairbench.errors import PairBenchError
from pairbench.results.columns import read_several
from pairbench.results.files import without_garbage_collection
from pairbench.results.layout import record_files, record_path
from pairbench.results.place import at_hand
from pairbench.results.record import RunRecord
from pairbench.results.record_file import Unreadable, read_record

if TYPE_CHECKING:
    import numpy as np


class Records(NamedTuple):
    """What a results folder holds.

    Attributes:
        records: finished and skipped ones, and the last failure of each run that has not finished,
            ordered by task, row and seed.
        problems: one sentence per file that is not a readable record.
    """

    records: list[RunRecord]
    problems: list[str]


@without_garbage_collection()
def load_records(root: Path | str = "results", task: str | None = None) -> Records:
    """Returns the records of a results folder and one sentence for each file that is none.

    Args:
        root: the folder, or a url.
        task: records of this task only; no others are kept in memory.

    Raises:
        PairBenchError: there is no such folder, or it is a url that cannot be read.
    """
    folder, problems = at_hand(root)
    if not folder.is_dir():
        raise PairBenchError(f"there is no results folder {folder}: run something first")
    records: dict[str, RunRecord] = {}
    places: dict[str, Path] = {}
    failures: dict[str, tuple[int, RunRecord]] = {}
    for path in record_files(folder):
        try:
            record = read_record(path)
        except Unreadable as error:
            problems.append(f"{path} is not used: {error}")
            continue
        except FileNotFoundError:  # renamed by a running writer since it was listed
            continue
        if task is not None and record.task != task:
            continue
        if record.status != "failed":
            before = places.get(record.identity)
            # the file in a run's own place is its record, wherever others of the name lie
            if before is not None and path != record_path(folder, record):
                problems.append(f"{path} is not used: {before} is the record of the same run")
                continue
            if before is not None:
                problems.append(f"{before} is not used: {path} is the record of the same run")
            records[record.identity], places[record.identity] = record, path
            continue
        number = path.stem.rpartition("-")[2]
        attempt = int(number) if number.isdigit() else 0
        if attempt >= failures.get(record.identity, (0, None))[0]:
            failures[record.identity] = attempt, record
    for identity, (_, record) in failures.items():
        records.setdefault(identity, record)
    ordered = sorted(records.values(), key=lambda r: (r.task, r.row, r.seed, r.identity))
    return Records(ordered, problems)


def load_series(root: Path | str, records: Sequence[RunRecord]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the series of those records whose files a results folder has, by identity.

    A file that is no series is left out.
    """
    folder, _ = at_hand(root)
    files = {
        str(path): record.identity
        for record in records
        if record.series_sha256
        and (path := record_path(folder, record).with_suffix(".parquet")).is_file()
    }
    return read_several(files) if files else {}
