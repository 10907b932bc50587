"""Records and series as tables that answer SQL."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairbench.errors import PairBenchError
from pairbench.results.layout import record_path
from pairbench.results.load import load_records
from pairbench.results.parquet import rows_of
from pairbench.results.place import at_hand
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json

if TYPE_CHECKING:
    import duckdb


OPTIONS = ", filename=true, file_row_number=true, union_by_name=true"

OURS = frozenset({"identity", "row", "algorithm", "task", "seed", "iteration"})
"""Columns of the table of series that no file may have."""


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
        os.path.abspath(path): record
        for record in records
        if (path := record_path(folder, record).with_suffix(".parquet")).exists()
    }
    if usable := _usable(connection, files):
        connection.execute("CREATE TABLE files (filename VARCHAR, identity VARCHAR)")
        connection.executemany(
            "INSERT INTO files VALUES (?, ?)", [(name, files[name].identity) for name in usable]
        )
        connection.execute(
            f"CREATE VIEW series AS SELECT r.identity, r.row, r.algorithm, r.task, r.seed, "
            f"s.file_row_number AS iteration, s.* EXCLUDE (filename, file_row_number) "
            f"FROM {rows_of(connection, usable, OPTIONS, kind='numbers')} s "
            f"JOIN files USING (filename) JOIN records r USING (identity)"
        )
    try:
        return connection.sql(sql)
    except duckdb.Error as error:
        raise PairBenchError(
            f"the query cannot be answered: {' '.join(str(error).split())}"
        ) from error


def _usable(connection: duckdb.DuckDBPyConnection, files: Iterable[str]) -> list[str]:
    """Those of the files that are series; one that is none stops no question."""
    import duckdb

    def fit(names: list[str]) -> bool:
        try:
            table = rows_of(connection, names, OPTIONS, kind="numbers")
            columns = [
                row[0].casefold() for row in connection.execute(f"DESCRIBE FROM {table}").fetchall()
            ]
        except (duckdb.Error, OSError):
            return False
        return OURS.isdisjoint(columns)

    names = list(files)
    return names if not names or fit(names) else [name for name in names if fit([name])]


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
