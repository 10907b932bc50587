"""Marks of a results folder: which runs were rebuilt from their records, and how they came back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from pairbench.errors import PairBenchError
from pairbench.results.files import append, read_untrusted, strict_json
from pairbench.results.place import is_url

Verdict = Literal["equal", "close", "different"]


MARKS = "reproductions.jsonl"
"""The file of a results folder that keeps what was rebuilt, a line each."""


class Reproduction(BaseModel):
    """One rebuilt run.

    Attributes:
        identity: the run's.
        name: row, task and seed, for people.
        verdict: see the module.
        detail: where the first difference is, or what was compared.
        iterations: how many were compared where only the beginning was, else None.
        changed: what of code, versions, machine, data and models is not as it was, one a line.
        date: of the check, UTC, ISO 8601.
        cpu: the processor it was made on.
        record_sha256: `RunRecord.sha256` of the record; "" of older marks. The mark says nothing of
            a record of other content.
        read: what the new run read, as `RunRecord.read`.
    """

    identity: str
    name: str
    verdict: Verdict
    detail: str
    iterations: int | None = None
    changed: list[str] = []
    date: str
    cpu: str
    record_sha256: str = ""
    read: dict[str, str] = {}


def keep(mark: Reproduction, results: Path | str) -> None:
    """Adds a line to the results folder's `MARKS`, whole or not at all.

    A url keeps none, nor does a folder that is not there.

    Raises:
        PairBenchError: the folder cannot be written.
    """
    place = Path(results) / MARKS
    if is_url(results) or not place.parent.is_dir():
        return
    line = mark.model_dump_json() + "\n"
    try:
        append(place, line.encode())
    except OSError as error:
        raise PairBenchError(
            f"{place} cannot be written ({error.strerror}): the verdict above is not kept"
        ) from error


def marks(results: Path) -> list[Reproduction]:
    """Returns what was rebuilt of a results folder; a line that is none is left out."""
    found = []
    try:
        lines = read_untrusted(results / MARKS).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PairBenchError(f"{results / MARKS} cannot be read: {error.strerror}") from error
    for line in lines:
        try:
            found.append(Reproduction.model_validate(strict_json(line)))
        except ValueError:  # pydantic's own error is one, too
            continue
    return found
