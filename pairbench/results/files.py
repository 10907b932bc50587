"""Files: written whole or not at all, and read without trust in who made them.

A process may be killed at any moment, so nothing is written in place. A results folder may come
from a stranger, so what is read from it is bounded in size and checked, and never executed.
"""

from __future__ import annotations

import errno
import gc
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pairbench.errors import PairBenchError

JSON_BYTES = 2**26
"""The largest file of JSON or TOML that is read: the largest of ours has a thousandth of it."""

LONGEST = 10_000
"""Characters of a text in JSON: the longest of ours has a fortieth of it."""

DEEPEST = 32
"""Levels of objects and lists in JSON: ours have six."""

NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

NUMBERS = frozenset({int, float, bool, type(None)})


def atomic_write(path: Path, data: bytes, sync: bool = True) -> None:
    """Writes `data` to a temporary file in the same folder, syncs it and renames it to `path`.

    Without `sync` a reader still sees all or nothing, but a power cut may take the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb") as file:  # never through a link that somebody put there
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def append(path: Path, data: bytes, sync: bool = False) -> None:
    """Adds `data` to the end of a file, which begins with it if there was none.

    Raises:
        OSError: it cannot be written, or is a link, a pipe or a device.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    with os.fdopen(_opened(path, flags, follow=False), "wb", buffering=0) as file:
        file.write(data)  # one call, so that lines of two writers stay whole
        if sync:
            os.fsync(file.fileno())


def refuse_unusual(path: Path | str, follow: bool = False) -> None:
    """Refuses what is no ordinary file, for readers that open it themselves.

    Raises:
        OSError: it is not there, a folder, a pipe, a device, or a link that is not to be followed.
    """
    os.close(_opened(Path(path), os.O_RDONLY, follow))


def refuse_link_out(root: Path, folder: Path) -> None:
    """Refuses a folder that a link has taken out of another one.

    Raises:
        PairBenchError: it is elsewhere.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        raise PairBenchError(f"{folder} is a link out of {root}: remove the link")


def _opened(path: Path, flags: int, follow: bool) -> int:
    """A file, if it is an ordinary one: a pipe would wait for whoever is at its other end."""
    try:
        links = 0 if follow else os.O_NOFOLLOW
        descriptor = os.open(path, flags | os.O_NONBLOCK | links, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a link, which is not followed") from error
        if error.errno == errno.ENXIO:  # a pipe that nobody reads
            raise OSError(error.errno, "it is no ordinary file") from error
        raise
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no ordinary file")


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
    """Renames a file to the first free `<name>.aside-<n>`, as damaged or of other code."""
    number = 1
    while (target := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    os.replace(path, target)
    return target


def read_untrusted(path: Path, most: int = JSON_BYTES, follow: bool = True) -> bytes:
    """Returns what is in a file that others may have made.

    Raises:
        OSError: it cannot be read, is a pipe or a device, has more than `most` bytes, or is a link
            where those are not to be followed.
    """
    with os.fdopen(_opened(path, os.O_RDONLY, follow), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than {most}")
        data = file.read(most + 1)  # it may have grown meanwhile
        if len(data) > most:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes")
        return data


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Holds off the search for cyclic garbage while much is made that has none.

    It would look through ever more records, which takes a third of the time of loading them.
    """
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def strict_json(data: bytes | str) -> Any:
    """Returns the value of JSON that says one thing only, in bounds that keep all after it quick.

    Raises:
        ValueError: it is no JSON, names a key twice, is nested too deeply, or holds a number that
            is not finite or too large, a text that is too long, or half a character.
    """
    try:
        found = json.loads(
            data,
            object_pairs_hook=_once,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_moderate,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not _within(data.encode(errors="replace") if isinstance(data, str) else data):
        _check(found, 0)
    return found


def _within(data: bytes) -> bool:
    """Whether text of JSON is sure to keep all bounds, in a tenth of the time of `_check`."""
    brackets = data.translate(None, NO_BRACKETS)
    for _ in range(DEEPEST):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return not brackets and len(data) <= LONGEST and b"\\u" not in data


def _check(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise ValueError(f"a text in it has {len(value)} characters, more than {LONGEST}")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("a text in it has half a character (a lone surrogate)")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth + 1)
    elif isinstance(value, list) and not {*map(type, value)} <= NUMBERS:
        for item in value:
            _check(item, depth + 1)


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Returns the JSON object in a file, None where there is none that can be read."""
    try:
        found = strict_json(read_untrusted(path))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:80]!r} stands in it twice")
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} stands in it, which is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:80]} is too large")
    return number


def _moderate(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (number := int(text)) < 2**63:
        raise ValueError(f"the number {text[:40]} is too large")
    return number
