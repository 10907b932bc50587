"""Files and folders that settings name: by path on this machine, by name and content anywhere else.

A setting marked `PLACE` may hold a path. In a run's identity, and in all that is written, it is
"pairs.jsonl+0123456789abcdef": the file's name and the beginning of its content's SHA-256. Which
path that is on this machine, this process and those that it starts are told by the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError

PLACES = "PAIRBENCH_PLACES"
"""The environment variable with a JSON object of paths by what is known by them."""

PLACE: dict[str, Any] = {"place": []}
"""Marks a setting (`json_schema_extra`) as one that may hold a path, or several."""

NAMED = re.compile(r"[\w.-]+\+[0-9a-f]{16}")
"""What a file or folder is called by name and content."""

READ = (".safetensors", ".json", ".txt", ".model", ".jinja")
"""Ends of the names of a model's files that are read."""


def declare(value: str) -> str:
    """Returns what a path is known by, and keeps where it is; what is no path stays as it is."""
    path = Path(value).absolute()
    if not value or NAMED.fullmatch(value) or not path.exists():
        return value
    known = _known_by(path)
    os.environ[PLACES] = json.dumps(_there() | {known: str(path)})
    return known


def find(value: str) -> str:
    """Returns the path of what was declared; anything else stays as it is.

    What was declared elsewhere is looked for by its name here, and in the folder of the data.

    Raises:
        PairBenchError: no file or folder of this name and content is at hand.
    """
    if not NAMED.fullmatch(value):
        return value
    name = value.rpartition("+")[0]
    folders = [Path(), *([Path(data)] if (data := os.environ.get("PAIRBENCH_DATA")) else [])]
    there = [Path(path)] if (path := _there().get(value)) else []
    for found in (*there, *(folder / name for folder in folders)):
        if found.exists() and _known_by(found.absolute()) == value:
            return str(found)
    raise PairBenchError(
        f"{value} is not at hand: name the folder that holds a {name} of that content with "
        "--data-dir, or call from there"
    )


def named(text: str) -> str:
    """Returns text in which declared paths are called by name and content."""
    for known, path in sorted(_there().items(), key=lambda item: -len(item[1])):
        text = text.replace(path, known)
    return text


def hashes(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 (hex) by name of a folder's files: a model's, if it is one's, or all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if any(path.suffix == ".safetensors" for path in files):
        files = [p for p in files if p.parent == folder and p.suffix in READ and p.name != CARD]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


CARD = "card.json"
"""What PairBench writes beside a model, of which nothing depends."""


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hex; of one that stays as it is, read once."""
    about = path.stat()
    return _sha256(path, about.st_mtime_ns, about.st_size)


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known_by(path: Path) -> str:
    content = sha256(path) if path.is_file() else json.dumps(hashes(path), sort_keys=True)
    if path.is_dir():
        content = hashlib.sha256(content.encode()).hexdigest()
    name = re.sub(r"[^\w.-]+", "-", path.name)
    return f"{name}+{content[:16]}"


def _there() -> dict[str, str]:
    try:
        return dict(json.loads(os.environ.get(PLACES, "{}")))
    except ValueError:
        return {}


def keep(name: str, path: str) -> None:
    """Keeps, for this process and those that it starts, where what is called `name` is."""
    os.environ[PLACES] = json.dumps(_there() | {name: path})


def kept(name: str) -> str | None:
    """Returns where it is, if that was kept."""
    return _there().get(name)
