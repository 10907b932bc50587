"""What the runs at hand have read, beside what a run would read now; said before the first run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.experiments.suite import Plan
from pairbench.registry import get_algorithm
from pairbench.results.folder import Store
from pairbench.results.layout import ASIDE
from pairbench.results.load import load_records
from pairbench.results.marks import marks
from pairbench.results.read import BEFORE, MADE_HERE, Joined, read_of, source_of
from pairbench.results.record import RunRecord, canonical


@dataclass
class Changes:
    """How the runs at hand differ from what would be run now.

    Attributes:
        runs: all that read other contents under one of the names.
        foreign: how many, by the sentence that names it: a plug-in, data, models, judges.
        ours: the same of PairBench's own code, and of models that it has trained here.
        before: runs that were made before sources were recorded.
    """

    runs: list[RunRecord] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)
    ours: Counter[str] = field(default_factory=Counter)
    before: list[RunRecord] = field(default_factory=list)

    def refusal(self, store: Store) -> str | None:
        """Returns one sentence on why to go on would be wrong, or None."""
        if not self.foreign:
            return None
        return (
            f"{_since(self.foreign, store)}: run again with --set-aside to keep the old records "
            f"in {store.name}/{ASIDE} and run anew, or give another --results folder"
        )

    def remarks(self, store: Store) -> list[str]:
        """Returns what is to be said and stops nothing, a line each."""
        lines = []
        for what, of in (
            (_since(self.ours, store), self.runs),
            (
                f"{len(self.before)} of the runs found in {store.name} were made before sources "
                "were recorded",
                self.before,
            ),
        ):
            if of and (self.ours or of is self.before):
                lines.append(
                    f"{what}: they are shown apart from runs made now, until one of a row has come "
                    f"back equal, as by `pairbench reproduce --mark {store.path(of[0])}`; "
                    "--set-aside makes them anew"
                )
        return lines


def look(plan: Plan, records: Iterable[RunRecord], store: Store) -> Changes:
    """Compares what finished runs have read with what is within reach now.

    Where something is out of reach it is left out: runs that need it have said so.
    """
    found = Changes()
    now: dict[Any, tuple[dict[str, str], set[str]]] = {}
    joined: Joined | None = None
    for record in records:
        try:
            read, ours = _read_now(plan, record, now)
        except PairBenchError:
            continue
        then = read_of(record)
        if not Joined().changed(then, read):
            continue
        joined = joined or _joined(store)
        changed = joined.changed(then, read)
        unknown = {name for name in changed if then[name].startswith(BEFORE)}
        if unknown:
            found.before.append(record)
        if changed.keys() > unknown:
            found.runs.append(record)
        for name in changed.keys() - unknown:
            (found.ours if name in ours else found.foreign)[changed[name]] += 1
    return found


def _read_now(
    plan: Plan, record: RunRecord, known: dict[Any, tuple[dict[str, str], set[str]]]
) -> tuple[dict[str, str], set[str]]:
    """What a run of a record's settings would read now, and what of it is PairBench's own."""
    from pairbench.training.engine import get_engine  # loads torch
    from pairbench.training.sources import sources  # likewise

    method, engine = get_algorithm(record.algorithm), get_engine(record.protocol.engine)
    needs = method(method.Config(**record.algorithm_config)).needs
    key = method, engine, record.task, canonical(record.task_config), needs
    if key not in known:
        (task,) = plan.tasks_of([record])
        parts = [part for part in (method, type(task), engine) if part is not None]
        ours = {source_of(p.name) for p in parts if p.__module__.startswith("pairbench.")}
        read = sources(*parts) | dict(task.read(needs))
        known[key] = read, ours | {source_of("pairbench"), MADE_HERE}
    return known[key]


def _joined(store: Store) -> Joined:
    kept = marks(store.root)
    return Joined(load_records(store.root).records if any(m.read for m in kept) else (), kept)


def refuse_mixed(records: Iterable[RunRecord], study: Path) -> None:
    """Refuses to add trials to a study whose own were made by other code, or of other data.

    Raises:
        PairBenchError: they were; what has changed is named.
    """
    store = Store(study)
    changes = look(Plan([]), records, store)
    if changed := changes.foreign + changes.ours:
        raise PairBenchError(
            f"{_since(changed, store)}: trials of two kinds are not compared, so take another name "
            "with --study"
        )


def _since(counts: Counter[str], store: Store) -> str:
    return "; ".join(
        f"{text} since {count} run{'s' * (count > 1)} in {store.name} "
        f"{'were' if count > 1 else 'was'} made"
        for text, count in sorted(counts.items())
    )
