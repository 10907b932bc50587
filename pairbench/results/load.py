"""The records of a results folder, and what in it is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pairbench.errors import PairBenchError
from pairbench.results.files import without_garbage_collection
from pairbench.results.layout import COMPACT, json_files, places
from pairbench.results.place import results_folder
from pairbench.results.record import RunRecord
from pairbench.results.record_file import Unreadable, parse_record, read_record
from pairbench.text import did_you_mean


class Records(NamedTuple):
    """What a results folder holds.

    Attributes:
        records: finished and skipped ones, and the last failure of each run that has not finished,
            ordered by task, row and seed.
        problems: one sentence per file that is not a readable record.
    """

    records: list[RunRecord]
    problems: list[str]


def load_records(root: Path | str = "results", task: str | None = None) -> Records:
    """Returns the records of a results folder and one sentence for each file that is none.

    Args:
        root: the folder, or a url. What `pairbench compact` keeps of it is read instead of the
            files that have not changed since.
        task: records of this task only.

    Raises:
        PairBenchError: there is no such folder, or it is a url that cannot be read.
    """
    folder, left_out = results_folder(root)
    found = _load(folder, places(folder), task)
    return Records(found.records, left_out + found.problems)


def load_by_task(root: Path | str = "results", task: str | None = None) -> Iterator[Records]:
    """Yields the records of a compacted folder one task after another, so that memory is bounded.

    The sentences come with the first. Of a folder that is not compacted all records come at once,
    since no file says whose task it is of before it is read.

    Raises:
        PairBenchError: there is no such folder, or no record of `task` in one that is compacted.
    """
    folder, problems = results_folder(root)
    if not (folder / COMPACT).is_dir():
        found = load_records(folder)
        yield Records(found.records, problems + found.problems)
        return
    homes: dict[str, list[Path]] = {}
    for place in places(folder):
        for name in sorted(_tasks(folder, place, problems)):
            homes.setdefault(name, []).append(place)
    if task is not None and task not in homes:
        hint = did_you_mean(task, homes) or ": there are no records, run something first"
        raise PairBenchError(f"no task {task!r} in these results{hint}")
    if not homes:
        yield Records([], problems)
    for name in sorted(homes) if task is None else [task]:
        yield Records(_load(folder, homes[name], name).records, problems)
        problems = []


def _tasks(folder: Path, place: Path, problems: list[str]) -> set[str]:
    """The tasks of the records in a place; appends what is wrong there."""
    from pairbench.results.cache import rows

    kept, wrong = rows(folder, place, texts=False)
    problems += wrong
    tasks = set()
    for path in json_files(place):
        row = kept.get(path.relative_to(folder).as_posix())
        if row is not None and row.is_of(path):
            tasks.add(row.task)
            continue
        with suppress(FileNotFoundError):
            try:
                tasks.add(read_record(path).task)
            except Unreadable as error:
                problems.append(f"{path} is not used: {error}")
    return tasks


@without_garbage_collection()
def _load(folder: Path, inside: Sequence[Path], task: str | None) -> Records:
    records: dict[str, RunRecord] = {}
    failures: dict[str, tuple[int, RunRecord]] = {}
    problems: list[str] = []
    for path, record in _read_all(folder, inside, task, problems):
        if record.status == "failed":
            number = path.stem.rpartition("-")[2]
            attempt = int(number) if number.isdigit() else 0
            if attempt >= failures.get(record.identity, (0, None))[0]:
                failures[record.identity] = attempt, record
        else:
            records[record.identity] = record
    for identity, (_, record) in failures.items():
        records.setdefault(identity, record)
    ordered = sorted(records.values(), key=lambda r: (r.task, r.row, r.seed, r.identity))
    return Records(ordered, problems)


def _read_all(
    folder: Path, inside: Sequence[Path], task: str | None, problems: list[str]
) -> Iterator[tuple[Path, RunRecord]]:
    """Yields the records of some places, each with its file; appends what is wrong there."""
    from pairbench.results.cache import rows

    compacted = (folder / COMPACT).is_dir()
    for place in inside:
        kept, wrong = rows(folder, place, task) if compacted else ({}, [])
        problems += wrong
        for path in json_files(place):
            row = kept.pop(path.relative_to(folder).as_posix(), None) if kept else None
            record = None
            if row is not None and row.is_of(path):
                if task is not None and row.task != task:
                    continue
                with suppress(Unreadable):
                    record = parse_record(row.text or "", path.name)
            try:
                record = record or read_record(path)
            except Unreadable as error:
                problems.append(f"{path} is not used: {error}")
                continue
            except FileNotFoundError:  # renamed by a running writer since it was listed
                continue
            if task is None or record.task == task:
                yield path, record
