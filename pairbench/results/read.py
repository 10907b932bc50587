"""What a run read, known by content: code, data, models, judges; and whether two read the same.

`RunRecord.read` maps a name for people ("source of grpo", "data", "model", a judge's name) to a
digest. Sources that differ in text may be the same in effect. That is known where a record was
rebuilt whole and equal: the mark says which record, by its content, and what the new run read, and
the sources of the two are taken for one from then on (`Joined`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pairbench.results.marks import Reproduction
from pairbench.results.record import RunRecord, digest

BEFORE = "not recorded"
"""The source of runs that were made before sources were recorded, on one board."""

MADE_HERE = "model trained here"
"""The initial model that PairBench itself makes: its bits are those of one machine."""

TOKENIZER = re.compile(
    r"tokenizer.*|special_tokens.*|added_tokens.*|vocab.*|merges.*|.*\.(jinja|model)"
)
"""Files of a model's folder that turn text into ids."""


def source_of(name: str) -> str:
    """Returns what the source of an algorithm, task or engine is called."""
    return f"source of {name}"


def of_files(hashes: Mapping[str, str]) -> dict[str, str]:
    """Returns what a model's folder is known by, from the hash of each file by its name."""
    parts = {
        "model": {name: h for name, h in hashes.items() if not TOKENIZER.fullmatch(name)},
        "tokenizer": {name: h for name, h in hashes.items() if TOKENIZER.fullmatch(name)},
    }
    return {what: digest(files) for what, files in parts.items() if files}


def read_of(record: RunRecord) -> dict[str, str]:
    """Returns what a record says it read.

    One of schema version 1 or 2 says it of its data, and of its model where that was kept by hash.
    Its sources are called by its board, so that marks may join them.
    """
    if record.schema_version > 2 or record.status != "finished":
        return dict(record.read)
    about = record.provenance.get("task")
    task: Mapping[str, Any] = about if isinstance(about, Mapping) else {}
    before = f"{BEFORE} ({record.board})"
    names = (record.algorithm, record.task.partition("@")[0], "pairbench")
    found = {source_of(name): before for name in names}
    if isinstance(data := task.get("data_sha256"), str):
        found["data"] = data
    model = task.get("model")
    if isinstance(model, Mapping) and isinstance(hashes := model.get("sha256"), Mapping):
        files = of_files(hashes)
        made = model.get("source") == "trained here"
        found |= {MADE_HERE: digest(files)} if made else files
    return found


def short(value: str | None) -> str:
    """Returns as much of a digest as tells two apart."""
    return BEFORE if value is None or value.startswith(BEFORE) else value[:8]


class Joined:
    """Which contents are the same: those that are equal, and sources that marks have joined.

    Args:
        records: of the results folder.
        marks: of the same; one of another content than the record at hand joins nothing.
    """

    def __init__(
        self, records: Iterable[RunRecord] = (), marks: Iterable[Reproduction] = ()
    ) -> None:
        self._joined: dict[tuple[str, str], str] = {}
        shown: dict[str, list[Reproduction]] = {}
        for mark in marks:
            if mark.verdict == "equal" and mark.iterations is None and mark.read:
                shown.setdefault(mark.identity, []).append(mark)
        for record in records if shown else ():
            for mark in shown.get(record.identity, ()):
                if mark.record_sha256 == record.sha256:
                    for name, value in read_of(record).items():
                        if name in mark.read and name.startswith(source_of("")):
                            self._join(name, value, mark.read[name])

    def _join(self, name: str, one: str, other: str) -> None:
        first, last = sorted((self.of(name, one), self.of(name, other)))
        if first != last:
            self._joined[name, last] = first

    def of(self, name: str, value: str) -> str:
        """Returns one of the contents that are the same as this."""
        while (name, value) in self._joined:
            value = self._joined[name, value]
        return value

    def of_record(self, record: RunRecord) -> dict[str, str]:
        """Returns what a record read, each by one of the contents that are the same."""
        return {name: self.of(name, value) for name, value in read_of(record).items()}

    def changed(self, then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
        """Returns "the data changed: a to b", by name, of each content that is another now."""
        return {
            name: f"the {name} changed: {short(old)} to {short(now[name])}"
            for name, old in then.items()
            if name in now and self.of(name, old) != self.of(name, now[name])
        }
