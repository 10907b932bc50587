"""Columns in Parquet beside a record: the series of a run, and the texts of its last evaluation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairbench.errors import PairBenchError
from pairbench.results.files import atomic_write, refuse_large_parquet

if TYPE_CHECKING:
    import numpy as np


MOST_BYTES = 2**28
"""What a file of series or texts may unpack to: a hundred times what the longest of ours does."""


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
    import duckdb

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("columns", dict(columns))
            connection.execute(
                f"COPY columns TO {quoted(temporary)} (FORMAT parquet, COMPRESSION zstd)"
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


def read_texts(path: Path) -> dict[str, list[str]]:
    """Returns the columns of a file of texts.

    Raises:
        PairBenchError: it is not there, or it is no such file.
    """
    columns = _read_columns(path, "texts of a run")
    return {name: [str(text) for text in column] for name, column in columns.items()}


def read_several(files: Mapping[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the columns of series files; one that is no such file is left out.

    Args:
        files: paths, each with the name that its series get.
    """
    import duckdb
    import numpy as np

    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as connection:
            for name in files:
                refuse_large_parquet(connection, Path(name), MOST_BYTES)
            columns = connection.execute(  # all in one go, which takes a tenth of the time
                f"FROM read_parquet([{', '.join(map(quoted, files))}], filename=true, "
                "file_row_number=true, union_by_name=true) ORDER BY filename, file_row_number"
            ).fetchnumpy()
    except (duckdb.Error, OSError):
        found = {}
        for path, name in files.items():
            with suppress(PairBenchError):
                found[name] = read_series(Path(path))
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
            refuse_large_parquet(connection, path, MOST_BYTES)
            return connection.execute("FROM read_parquet(?)", [str(path)]).fetchnumpy()
    except (duckdb.Error, OSError) as error:
        raise PairBenchError(
            f"{path} cannot be read as {what} ({' '.join(str(error).split())[:200]})"
        ) from error


def quoted(path: Path | str) -> str:
    """Returns a path as SQL writes a text."""
    return "'" + str(path).replace("'", "''") + "'"
