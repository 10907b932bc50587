"""Parquet files as others may have made them: looked at first, then read by what is in them alone.

DuckDB takes a folder called `lr=5` for a column of every file in it, and waits for a pipe until
somebody writes. So there is one way to read a file here, and all readers take it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pairbench.results.files import atomic_write, refuse_unusual

if TYPE_CHECKING:
    import duckdb

MOST_BYTES = 2**28
"""What a file of series or texts may unpack to: a hundred times what the longest of ours does."""

NUMBERS = "'BOOLEAN', 'DOUBLE', 'FLOAT', 'BIGINT', 'INTEGER', 'SMALLINT', 'TINYINT'"
KINDS = {"numbers": NUMBERS, "texts": f"'VARCHAR', {NUMBERS}"}


def connect() -> duckdb.DuckDBPyConnection:
    """Returns a connection that stops at a limit of memory, whatever a file says of itself."""
    import duckdb

    return duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})


def rows_of(
    connection: duckdb.DuckDBPyConnection,
    files: Iterable[Path | str],
    options: str = "",
    *,
    kind: Literal["numbers", "texts"] | None = None,
    most: int = MOST_BYTES,
    follow: bool = False,
) -> str:
    """Returns the SQL of the rows of files; a column `filename` then holds their absolute paths.

    Args:
        options: of `read_parquet`, each with a comma before it.
        kind: of all columns, if it matters.
        most: bytes that each file may unpack to, by its own word, at four bytes a value, and, of
            columns of texts, in letters.
        follow: whether a file may be a link.

    Raises:
        OSError: a file is not there, no ordinary one, too large, or of another kind.
        duckdb.Error: a file is no Parquet file.
    """
    names = [os.path.abspath(file) for file in files]
    for name in names:
        refuse_unusual(name, follow)
    size = (
        "SELECT max(count), max(size) FROM (SELECT sum(num_values) AS count, "
        "sum(total_uncompressed_size) AS size FROM parquet_metadata(?) GROUP BY file_name)"
    )
    count, size = connection.execute(size, [names]).fetchone() or (0, 0)
    if max(4 * (count or 0), size or 0) > most:
        raise OSError(errno.EFBIG, f"it unpacks to {count} values in {size} bytes")
    table = f"read_parquet([{', '.join(map(_quoted, names))}], hive_partitioning=false{options})"
    if kind is not None:
        others = f"SELECT count(*) FROM parquet_schema(?) WHERE duckdb_type NOT IN ({KINDS[kind]})"
        if (connection.execute(others, [names]).fetchone() or (0,))[0]:
            raise OSError(errno.EINVAL, f"it holds other things than {kind}")
    if kind == "texts":  # a file may say a long text once and mean it a million times
        lengths = connection.execute(
            f"SELECT sum(strlen(COLUMNS(*)::VARCHAR)) FROM {table}"
        ).fetchone()
        if (letters := sum(length or 0 for length in lengths or ())) > most:
            raise OSError(errno.EFBIG, f"it unpacks to {letters} letters")
    return table


def write(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> bytes:
    """Writes the rows of a table, or of SQL in brackets, to a file (zstd); returns what is in it.

    The file is there whole or not at all.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        connection.execute(
            f"COPY {table} TO {_quoted(os.path.abspath(temporary))} "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
        data = temporary.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)
    atomic_write(path, data)
    return data


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
