"""Files that are whole or absent, whatever moment a process is killed at."""

from __future__ import annotations

import os
from pathlib import Path


def atomic_write(path: Path, data: bytes, sync: bool = True) -> None:
    """Writes `data` to a temporary file in the same folder, syncs it and renames it to `path`.

    Without `sync` a reader still sees all or nothing, but a power cut may take the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames an unusable file to the first free `<name>.damaged-<n>` and returns that."""
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    os.replace(path, target)
    return target
