"""A record as a file of JSON: written in one way, and read as what others may have made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from pairbench.results.files import read_untrusted, strict_json
from pairbench.results.layout import folder_name
from pairbench.results.record import SCHEMA_VERSION, RunFields, RunRecord, RunSpec

LARGEST = 1e100
"""Of what is measured, so that sums of its squares are numbers, too."""

LONGEST_NAME = 200
"""Bytes of a name that is a folder's: file systems take 255, some less."""

THREADS = ("torch_threads", "simulation_threads")

PROVENANCE: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("started", "git_commit", "source_sha256", "python"), (str,)),
    **dict.fromkeys(("platform", "cpu", "device"), (str,)),
    **dict.fromkeys(("cores", *THREADS), (int,)),
    **dict.fromkeys(("packages", "task"), (dict,)),
}
"""What its entries are that somebody reads here, where they are set."""


class Unreadable(Exception):
    """A file in a record's place is none that this version can use; the message says why."""


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
        Unreadable: it is no ordinary file, too large, cut short, foreign, of a newer schema, or not
            the run it says it is.
    """
    try:
        data = read_untrusted(path, follow=False)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror})") from error
    return parse_record(data, path.name)


def parse_record(data: bytes | str, name: str) -> RunRecord:
    """Returns the record that is in a file of this name.

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
        record = RunRecord.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise Unreadable(f"{where}: {message}" if where else message) from error
    if not name.startswith(record.identity[:16]):
        raise Unreadable("its name is not that of its identity")
    if flaw := next(_flaws(record), None):
        raise Unreadable(flaw)
    return record


def refuse_unreadable(run: RunSpec) -> None:
    """Refuses a run whose record nobody would read.

    Raises:
        ValueError: a name or a text of it is too long, or a number too large.
    """
    strict_json(run.model_dump_json())
    if flaw := next(_long_names(run), None):
        raise ValueError(flaw)


def _long_names(run: RunFields) -> Iterator[str]:
    for name in (run.algorithm, run.task):
        if len(name) > 50 and len(folder_name(name).encode()) > LONGEST_NAME:
            yield f"the name {name[:40]}... has more than {LONGEST_NAME} bytes"


def _measured(record: RunRecord) -> Iterator[float]:
    for part in (record.evaluation, *record.curve):
        if part is not None:
            yield from part.measures.values()
    if record.evaluation is not None:
        yield from chain.from_iterable(record.evaluation.scores.values())
    for point in record.curve:
        yield point.reward
        yield from point.means.values()
    yield from (number for number in vars(record.stability).values() if number is not None)
    yield from vars(record.cost).values()


def _flaws(record: RunRecord) -> Iterator[str]:
    """What no record of ours is like, and what readers need not expect."""
    yield from _long_names(record)
    if record.evaluation is not None:
        lengths = {len(scores) for scores in record.evaluation.scores.values()}
        if not lengths or 0 in lengths:
            yield "its evaluation has no scores"
    if max(map(abs, _measured(record)), default=0) > LARGEST:
        yield f"it has measured more than {LARGEST:g}"
    if any(number < 0 for number in vars(record.cost).values()):
        yield "it says that it cost less than nothing"
    for key, kinds in PROVENANCE.items():
        value = record.provenance.get(key)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            yield f"provenance.{key} is no {' or '.join(kind.__name__ for kind in kinds)}"
    for threads in (record.provenance.get(key, 1) for key in THREADS):
        if not 0 < (threads or 1) <= 2**16:
            yield f"it had {threads} threads"
