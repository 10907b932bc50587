"""The models that are kept on this machine: each a folder, whole or absent.

A folder is written under another name and renamed when it is whole. Its card holds the hash of
every file; a folder that does not match its card is set aside and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from pairbench.errors import PairBenchError
from pairbench.places import CARD, hashes
from pairbench.results.files import set_aside
from pairbench.results.read import of_files


def cache_folder() -> Path:
    """Returns the folder of models: PAIRBENCH_CACHE, else `pairbench` in the user's cache."""
    if told := os.environ.get("PAIRBENCH_CACHE"):
        return Path(told).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "pairbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "pairbench"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pairbench"
    return Path.home() / ".cache" / "pairbench"


def cached(name: str, recipe: dict[str, Any], make: Callable[[Path], dict[str, Any]]) -> Path:
    """Returns the cached folder `name`, made by `make` unless it is there and whole.

    Several processes that ask at once make it once.

    Args:
        name: of the folder within `cache_folder()`.
        recipe: what the model is made from, for the card.
        make: fills an empty folder and returns further facts for the card.

    Raises:
        PairBenchError: nothing can be written there.
    """
    base = cache_folder()
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PairBenchError(
            f"models cannot be kept in {base} ({error.strerror}): set PAIRBENCH_CACHE to a folder "
            "that can be written"
        ) from error
    folder = base / name
    with FileLock(base / f"{name}.lock"):
        if folder.exists():
            if _whole(folder):
                return folder
            set_aside(folder)
        work = base / f".{name}.tmp"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with quiet():
                facts = make(work)
            hashes = {path.name: file_sha256(path) for path in sorted(work.iterdir())}
            card = {**recipe, **facts, "sha256": hashes}
            (work / CARD).write_text(json.dumps(card, indent=2) + "\n")
            for path in work.iterdir():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    """Returns whether every file that the card names is there with its hash."""
    try:
        hashes = json.loads((folder / CARD).read_text())["sha256"]
        return bool(hashes) and all(file_sha256(folder / name) == h for name, h in hashes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_of_folder(folder: Path) -> dict[str, str]:
    """Returns what a model's folder is known by: its revision, in the hub's cache, or its files."""
    if folder.parent.name == "snapshots":  # the hub's cache names a folder by its revision
        return {"model": folder.name}
    return of_files(hashes(folder))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars off a terminal that is ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
