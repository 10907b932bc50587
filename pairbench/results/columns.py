"""Columns in Parquet beside a record: the series of a run, and the texts of its last evaluation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pairbench.errors import PairBenchError
from pairbench.results.parquet import connect, rows_of, write

if TYPE_CHECKING:
    import numpy as np


def write_series(path: Path, series: Mapping[str, np.ndarray]) -> str:
    """Writes columns of equal length as float32 Parquet (zstd), atomically; returns its SHA-256.

    A value that was not measured (NaN) becomes NULL.
    """
    import numpy as np

    return _write_columns(
        path, {name: np.asarray(column, dtype=np.float32) for name, column in series.items()}
    )


def write_texts(path: Path, texts: Mapping[str, list[str]]) -> str:
    """Writes columns of text of equal length likewise; returns the file's SHA-256."""
    import numpy as np

    return _write_columns(
        path, {name: np.array(column, dtype=object) for name, column in texts.items()}
    )


def _write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> str:
    with connect() as connection:
        connection.register("columns", dict(columns))
        return hashlib.sha256(write(connection, "columns", path)).hexdigest()


def read_series(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a series file as float32, NaN where nothing was measured.

    Raises:
        PairBenchError: it is not there, or it is no such file.
    """
    columns = _read_columns(path, "the series of a run", "numbers")
    return {name: _filled(column) for name, column in columns.items()}


def read_texts(path: Path) -> dict[str, list[str]]:
    """Returns the columns of a file of texts.

    Raises:
        PairBenchError: it is not there, or it is no such file.
    """
    columns = _read_columns(path, "texts of a run", "texts")
    return {name: [str(text) for text in column] for name, column in columns.items()}


def read_several(files: Mapping[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the columns of series files; one that is no such file is left out.

    Args:
        files: paths, each with the name that its series get.
    """
    import duckdb
    import numpy as np

    options = ", filename=true, file_row_number=true, union_by_name=true"
    try:
        with connect() as connection:
            table = rows_of(connection, files, options, kind="numbers")
            columns = connection.execute(  # all in one go, which takes a tenth of the time
                f"SELECT * EXCLUDE (filename, file_row_number) FROM {table} "
                "ORDER BY filename, file_row_number"
            ).fetchnumpy()
            # a name beside each row would take forty times the memory of a number
            sizes = connection.execute(
                f"SELECT filename, count(*) FROM {table} GROUP BY filename ORDER BY filename"
            ).fetchall()
    except (duckdb.Error, OSError):
        found = {}
        for path, name in files.items():
            with suppress(PairBenchError):
                found[name] = read_series(Path(path))
        return found
    called = {os.path.abspath(path): name for path, name in files.items()}
    ends = np.cumsum([size for _, size in sizes]).tolist()
    filled = {name: _filled(column) for name, column in columns.items()}
    return {
        called[path]: {name: column[end - size : end] for name, column in filled.items()}
        for (path, size), end in zip(sizes, ends, strict=True)
    }


def _filled(column: Any) -> np.ndarray:
    import numpy as np

    return np.ma.filled(np.ma.asarray(column, dtype=np.float32), np.nan)


def _read_columns(path: Path, what: str, kind: Literal["numbers", "texts"]) -> Mapping[str, Any]:
    """The columns of a file that others may have made, unless they would fill the memory."""
    import duckdb

    try:
        with connect() as connection:
            return connection.execute(f"FROM {rows_of(connection, [path], kind=kind)}").fetchnumpy()
    except (duckdb.Error, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise PairBenchError(
            f"{path} cannot be read as {what} ({' '.join(why.split())[:200]})"
        ) from error
