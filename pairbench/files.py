"""Files that are whole or absent, whatever moment a process is killed at."""

from __future__ import annotations

import os
from pathlib import Path

from pairbench.errors import PairBenchError


def atomic_write(path: Path, data: bytes) -> None:
    """Writes `data` to a temporary file in the same folder, syncs it and renames it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, what: str) -> Path:
    """Writes `what`, as `atomic_write` does, and returns its path.

    Raises:
        PairBenchError: the place cannot be written.
    """
    try:
        atomic_write(path, text.encode())
    except OSError as error:
        raise PairBenchError(
            f"cannot write {what} to {path} ({error.strerror}): name a place that can be written"
        ) from error
    return path


def set_aside(path: Path) -> Path:
    """Renames an unusable file to the first free `<name>.damaged-<n>` and returns that."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    os.replace(path, target)
    return target
