"""The results folder: one JSON file per run, its series in Parquet beside it, nothing to execute.

    <results>/<task>/<algorithm>/<first 16 hex of the identity>.json       the record
    <results>/<task>/<algorithm>/<first 16 hex of the identity>.parquet    its series
    <results>/<task>/<algorithm>/<first 16 hex of the identity>.texts.parquet
    <results>/<task>/<algorithm>/<first 16 hex of the identity>.failed-1.json
    <results>/.checkpoints/<first 16 hex of the identity>.safetensors      a run in progress
    <results>/.runs/<first 16 hex of the identity>.json                    its sign of life
    <results>/.runs/<first 16 hex of the identity>.jsonl                   its log
    <results>/.compact/                                                    `pairbench compact`
    <results>/judgements/<first 16 hex of the judge's digest>.jsonl        `pairbench judge`
    <results>/tuning/<study>/                                              `pairbench tune`

The folder may be one that stands in for a url (`pairbench.results.url`), whose objects have
these names.

A record's path follows from its identity. A finished record is never overwritten, a failure record
never counts as one, and a file that cannot be read is renamed to `<name>.damaged-<n>` when a run
needs its place. Readers take no lock and change nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from pairbench.errors import PairBenchError
from pairbench.results.files import (
    atomic_write,
    check_parquet,
    read_file,
    set_aside,
    strict_json,
    uncollected,
)
from pairbench.results.heartbeat import sign_of_life
from pairbench.results.record import SCHEMA_VERSION, RunRecord, RunSpec

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    from pairbench.results.url.sync import Mirror


PAGES = "leaderboards"
"""Folder of generated tables and pages, which hold JSON of their own."""

MOST_BYTES = 2**28
"""What a file of series or texts may unpack to: a hundred times what the longest of ours does."""

RUNS = ".runs"
"""Folder of the runs' logs and signs of life."""


COMPACT = ".compact"
"""Folder of what `pairbench compact` keeps."""


TUNING = "tuning"
"""Folder of the studies of `pairbench tune`, each with a results folder of its own."""


LEFTOVER = re.compile(
    r"\.([0-9a-f]{16}(\.failed-\d+)?(\.texts)?\.(json|parquet|safetensors)|\.pid\.lock|grid\.json)\.\d+\.tmp"
)
"""Names of the temporary files that `atomic_write` makes of what is kept here."""


class Records(NamedTuple):
    """What a results folder holds.

    Attributes:
        records: finished and skipped ones, and the last failure of each run that has not finished,
            ordered by task, row and seed.
        problems: one sentence per file that is not a readable record.
    """

    records: list[RunRecord]
    problems: list[str]


class Unreadable(Exception):
    """A file in a record's place is none that this version can use; the message says why."""


def folder_name(name: str) -> str:
    """Returns a name as that of one folder, which is neither hidden nor the one above.

    A task's variant may be the name of a model, or its folder.
    """
    return re.sub(r"^\.+", "--", re.sub(r"[^\w.@+-]+", "--", name)) or "--"


def is_url(place: Path | str) -> bool:
    """Whether results are named by a url, and not by a folder."""
    return isinstance(place, str) and "://" in place


def at_hand(place: Path | str) -> tuple[Path, list[str]]:
    """Returns a folder to read results from, and one sentence for each object left out of it.

    Raises:
        PairBenchError: it is a url that is out of reach, or that holds no results.
    """
    if not is_url(place):
        return Path(place), []
    from pairbench.results.url.sync import Mirror

    return Mirror(str(place)).show()


class Store:
    """A results folder that runs are written to.

    Attributes:
        root: the folder.
        mirror: what carries it to a url, if results are there.
        name: the folder or the url, for people.
    """

    def __init__(self, root: Path, mirror: Mirror | None = None) -> None:
        self.root = root
        self.mirror = mirror
        self.name = mirror.url if mirror is not None else str(root)

    @classmethod
    def at(cls, place: Path | str) -> Store:
        """Returns the store of a folder, or of a url.

        Raises:
            PairBenchError: the url cannot be used.
        """
        if not is_url(place):
            return cls(Path(place))
        from pairbench.results.url.sync import Mirror

        mirror = Mirror(str(place), new=True)
        return cls(mirror.folder, mirror)

    def path(self, run: RunSpec | RunRecord) -> Path:
        """Returns the place of a run's record."""
        return (
            self.root
            / folder_name(run.task)
            / folder_name(run.algorithm)
            / f"{run.identity[:16]}.json"
        )

    def checkpoint(self, spec: RunSpec) -> Path:
        """Returns the place of a run's checkpoint."""
        return self.root / ".checkpoints" / f"{spec.identity[:16]}.safetensors"

    def find(self, spec: RunSpec) -> tuple[RunRecord | None, str | None]:
        """Returns the finished record of a run, if any, and what was set aside from its place."""
        path = self.path(spec)
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
            if not path.parent.resolve().is_relative_to(self.root.resolve()):
                raise PairBenchError(
                    f"{path.parent} is a link out of the results folder: remove the link"
                )
            if series and len(next(iter(series.values()))):
                written.append(path.with_suffix(".parquet"))
                sha256 = write_series(written[-1], series)
                record = record.model_copy(update={"series_sha256": sha256})
            if texts:
                written.append(path.with_suffix(".texts.parquet"))
                sha256 = write_texts(written[-1], texts)
                record = record.model_copy(update={"texts_sha256": sha256})
            data = as_json(record)
            if not (record.status == "skipped" and path.exists() and path.read_bytes() == data):
                atomic_write(path, data)
                written.append(path)
        if self.mirror is not None:
            for path in written:
                self.mirror.send(path)
        return record

    @property
    def grid(self) -> Path:
        """The file in which the call at work here names its runs; touched while it lives."""
        return self.root / RUNS / "grid.json"

    def diary(self, spec: RunSpec) -> Path:
        """Returns the place of a run's log; its sign of life is beside it."""
        return self.root / RUNS / f"{spec.identity[:16]}.jsonl"

    def forget(self, spec: RunSpec, checkpoint: bool = True) -> None:
        """Removes the sign of life of a run that has ended, and the checkpoint it needs no more."""
        sign = sign_of_life(self.diary(spec))
        for path in (sign, self.checkpoint(spec)) if checkpoint else (sign,):
            path.unlink(missing_ok=True)
            if self.mirror is not None and (checkpoint or self.mirror.held(path)):
                self.mirror.remove(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for one writing process.

        Raises:
            PairBenchError: another process holds it (its number is named), or it is not writable,
                or the same of the url, or at the end something could not be sent there.
        """
        from filelock import FileLock, Timeout

        holder = self.root / ".pid.lock"
        with writing_to(self.root):
            (self.root / ".checkpoints").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                who = holder.read_text().strip() if holder.exists() else "of unknown number"
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
                if LEFTOVER.fullmatch(leftover.name):
                    leftover.unlink(missing_ok=True)
        try:
            with self.mirror.session() if self.mirror is not None else nullcontext():
                yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


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


def as_json(record: RunRecord) -> bytes:
    """Returns the one way a record is written: an indent of one, a final newline.

    Keys keep their order, since the first way of acting in `evaluation.scores` is what ranks.
    """
    tree = record.model_dump(mode="json")
    return (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode()


def read_record(path: Path) -> RunRecord:
    """Returns the record in a file.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is cut short, foreign, of a newer schema, or not the run it says it is.
    """
    return parse_record(record_bytes(path), path.name)


def record_bytes(path: Path) -> bytes:
    """Returns what is in a record's place.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: it is no ordinary file, or too large, or not to be read.
    """
    try:
        return read_file(path, follow=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})") from error


def parse_record(data: bytes | str, name: str) -> RunRecord:
    """Returns the record that a file of this name holds.

    Raises:
        Unreadable: as `read_record`.
    """
    try:
        raw = strict_json(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Unreadable("it is not complete JSON, perhaps cut short") from error
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if not isinstance(raw, dict) or type(raw.get("schema_version")) is not int:
        raise Unreadable("it is no PairBench record")
    if raw["schema_version"] > SCHEMA_VERSION:
        raise Unreadable(
            f"its schema version {raw['schema_version']} is newer than {SCHEMA_VERSION}, "
            "the newest that this PairBench reads"
        )
    try:
        record = RunRecord.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise Unreadable(f"{where}: {message}" if where else message) from error
    if not name.startswith(record.identity[:16]):
        raise Unreadable("its name is not that of its identity")
    return record


def results_folder(root: Path | str) -> tuple[Path, list[str]]:
    """Returns a results folder to read from, as `at_hand` does.

    Raises:
        PairBenchError: there is no such folder, or it is a url that cannot be read.
    """
    folder, problems = at_hand(root)
    if not folder.is_dir():
        raise PairBenchError(f"there is no results folder {folder}: run something first")
    return folder, problems


def places(folder: Path) -> list[Path]:
    """Returns what a results folder has records in, in a fixed order: folders, and files in it."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name not in (PAGES, TUNING)
    ]


def json_files(place: Path) -> list[Path]:
    """Returns the files of a place that may be records, in a fixed order."""
    found = [str(place)] if place.suffix == ".json" else []
    for inside, folders, files in os.walk(place) if not place.is_symlink() else ():
        found += [
            os.path.join(inside, name)
            for name in (*files, *folders)
            if name.endswith(".json") and not name.startswith(".")
        ]
        folders[:] = [name for name in folders if not name.startswith(".")]
    return [Path(name) for name in sorted(found, key=lambda name: name.split(os.sep))]


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
        from pairbench.text import unknown

        raise PairBenchError(unknown("task", task, sorted(homes), "in these results"))
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


@uncollected()
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


def write_series(path: Path, series: Mapping[str, np.ndarray]) -> str:
    """Writes columns of equal length as float32 Parquet (zstd), atomically; returns its SHA-256.

    A value that was not measured (NaN) becomes NULL.
    """
    import numpy as np

    return write_columns(
        path, {name: np.asarray(column, dtype=np.float32) for name, column in series.items()}
    )


def write_texts(path: Path, texts: Mapping[str, list[str]]) -> str:
    """Writes columns of text of equal length likewise; returns the file's SHA-256."""
    import numpy as np

    return write_columns(
        path, {name: np.array(column, dtype=object) for name, column in texts.items()}
    )


def read_texts(path: Path) -> dict[str, list[str]]:
    """Returns the columns of a file of texts.

    Raises:
        PairBenchError: it is not there, or it is no such file.
    """
    columns = _read_columns(path, "texts of a run")
    return {name: [str(text) for text in column] for name, column in columns.items()}


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> str:
    import duckdb

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("columns", dict(columns))
            connection.execute(
                f"COPY columns TO {_quoted(temporary)} (FORMAT parquet, COMPRESSION zstd)"
            )
        data = temporary.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)
    atomic_write(path, data)
    return hashlib.sha256(data).hexdigest()


def read_series(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a series file as float32, NaN where nothing was measured.

    Raises:
        PairBenchError: it is not there, or it is no such file.
    """
    columns = _read_columns(path, "the series of a run")
    try:
        return {name: _filled(column) for name, column in columns.items()}
    except (TypeError, ValueError) as error:
        raise PairBenchError(
            f"{path} cannot be read as the series of a run (it holds other things than numbers)"
        ) from error


def load_series(root: Path | str, records: Sequence[RunRecord]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the series of those records whose files a results folder has, by identity.

    A file that is no series is left out.
    """
    import duckdb
    import numpy as np

    store = Store(at_hand(root)[0])
    files = {
        str(path): record.identity
        for record in records
        if record.series_sha256 and (path := store.path(record).with_suffix(".parquet")).is_file()
    }
    if not files:
        return {}
    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as connection:
            for name in files:
                check_parquet(connection, Path(name), MOST_BYTES)
            columns = connection.execute(  # all in one go, which takes a tenth of the time
                f"FROM read_parquet([{', '.join(map(_quoted, files))}], filename=true, "
                "file_row_number=true, union_by_name=true) ORDER BY filename, file_row_number"
            ).fetchnumpy()
    except (duckdb.Error, OSError):
        found = {}
        for name, identity in files.items():
            with suppress(PairBenchError):
                found[identity] = read_series(Path(name))
        return found
    names = np.asarray(columns.pop("filename"), dtype=object)
    del columns["file_row_number"]
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]])).tolist()
    filled = {name: _filled(column) for name, column in columns.items()}
    return {
        files[names[start]]: {name: column[start:end] for name, column in filled.items()}
        for start, end in zip(starts, [*starts[1:], len(names)], strict=True)
    }


def _filled(column: Any) -> np.ndarray:
    import numpy as np

    return np.ma.filled(np.ma.asarray(column, dtype=np.float32), np.nan)


def _read_columns(path: Path, what: str) -> Mapping[str, Any]:
    """The columns of a Parquet file that others may have made, unless they would fill the memory.

    A small file may unpack to a large one, so what it says of itself is read first, and DuckDB
    stops at a limit whatever it said.
    """
    import duckdb

    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as connection:
            check_parquet(connection, path, MOST_BYTES)
            return connection.execute("FROM read_parquet(?)", [str(path)]).fetchnumpy()
    except (duckdb.Error, OSError) as error:
        raise PairBenchError(
            f"{path} cannot be read as {what} ({' '.join(str(error).split())[:200]})"
        ) from error


def query(sql: str, root: Path | str = "results") -> duckdb.DuckDBPyRelation:
    """Returns the answer to a question in SQL about the records of a folder.

    The tables are `records` (a row per run: its row, algorithm, task, seed, status, final reward,
    cost and stability, and the whole record as JSON in `record`) and `series` (a row per iteration:
    the run's identity, row, algorithm, task and seed, and the measured columns).

    Raises:
        PairBenchError: there is no such folder, or the SQL is wrong.
    """
    import duckdb

    folder, _ = at_hand(root)
    records = load_records(folder).records
    store = Store(folder)
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE records (identity VARCHAR, row VARCHAR, algorithm VARCHAR, task VARCHAR, "
        "task_version VARCHAR, seed BIGINT, status VARCHAR, reason VARCHAR, reward DOUBLE, "
        "steps BIGINT, scores BIGINT, comparisons BIGINT, gradient_steps BIGINT, seconds DOUBLE, "
        "gradient_noise DOUBLE, kl_std DOUBLE, kl_max DOUBLE, drawdown DOUBLE, record JSON)"
    )
    if records:
        marks = ", ".join("?" * 19)
        connection.executemany(f"INSERT INTO records VALUES ({marks})", [_flat(r) for r in records])
    files = {
        str(path): record
        for record in records
        if (path := store.path(record).with_suffix(".parquet")).exists()
    }
    if files:
        connection.execute("CREATE TABLE files (filename VARCHAR, identity VARCHAR)")
        connection.executemany(
            "INSERT INTO files VALUES (?, ?)", [(name, r.identity) for name, r in files.items()]
        )
        paths = ", ".join(map(_quoted, files))
        connection.execute(
            f"CREATE VIEW series AS SELECT r.identity, r.row, r.algorithm, r.task, r.seed, "
            f"s.file_row_number AS iteration, s.* EXCLUDE (filename, file_row_number) "
            f"FROM read_parquet([{paths}], filename=true, file_row_number=true, "
            f"union_by_name=true) s "
            f"JOIN files USING (filename) JOIN records r USING (identity)"
        )
    try:
        return connection.sql(sql)
    except duckdb.Error as error:
        raise PairBenchError(
            f"the query cannot be answered: {' '.join(str(error).split())}"
        ) from error


def _flat(record: RunRecord) -> Sequence[Any]:
    cost, stability = record.cost, record.stability
    return (
        record.identity, record.row, record.algorithm, record.task, record.task_version,
        record.seed, record.status, record.reason,
        record.evaluation.reward if record.evaluation else None,
        cost.steps, cost.scores, cost.comparisons, cost.gradient_steps, cost.seconds,
        stability.gradient_noise, stability.kl_std, stability.kl_max, stability.drawdown,
        as_json(record).decode(),
    )  # fmt: skip


def _quoted(path: Path | str) -> str:
    return "'" + str(path).replace("'", "''") + "'"


@contextmanager
def writing_to(root: Path) -> Iterator[None]:
    """Turns what the file system refuses into one sentence."""
    cause: BaseException
    try:
        yield
    except OSError as error:
        cause = error
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is full" if full else f"cannot be written ({error.strerror or error})"
    except Exception as error:
        # DuckDB reports a full disk in its own words
        if type(error).__module__.partition(".")[0] not in ("duckdb", "_duckdb"):
            raise
        cause = error
        text = " ".join(str(error).split())
        what = "is full" if os.strerror(errno.ENOSPC) in text else f"cannot be written ({text})"
    else:
        return
    raise PairBenchError(
        f"results folder {root} {what}: every run that ended before is kept; "
        "make room, or give another --results folder"
    ) from cause


def pages_folder(results: Path) -> Path:
    """Returns where pages go: leaderboards/ beside results/, or inside a folder of another name."""
    return results.parent / PAGES if results.name == "results" else results / PAGES
