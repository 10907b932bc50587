"""A plan from start to end: what is done already is kept, the rest is run, each end is written."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import open_launcher
from pairbench.experiments.launch.base import ALONE, Advanced, Ended, Execution, Job, Launcher
from pairbench.experiments.own import Chosen
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.reading import Changes, look
from pairbench.experiments.suite import Plan, Suite, plan
from pairbench.registry import preview_of
from pairbench.results.files import atomic_write
from pairbench.results.folder import Store
from pairbench.results.heartbeat import BEAT
from pairbench.results.layout import ASIDE
from pairbench.results.place import open_store
from pairbench.results.record import RunRecord, RunSpec, name_of

POLL = 0.25  # seconds between two looks at the launcher


def execute(
    plan: Plan,
    store: Store,
    launcher: Launcher,
    execution: Execution = ALONE,
    monitor: Monitor | None = None,
    *,
    close: bool = True,
    aside: bool = False,
) -> Tally:
    """Runs what a plan still lacks and returns how it went; closes the launcher if it is to.

    Each record is on disk before the monitor hears of it. Whatever ends this early (Ctrl-C, a full
    disk), the records so far and the checkpoints stay, and a second call continues from there.

    Args:
        aside: move runs out of the way, and make them anew, that read other contents than are
            within reach now, or may have.

    Raises:
        PairBenchError: runs at hand read other contents, or the results folder is in use by another
            process, or cannot be written.
    """
    monitor = monitor or Monitor()
    tally = Tally(total=len(plan.specs), workers=execution.workers or 1)
    try:
        with store.lock():
            for record in plan.skipped:
                if _clear(store, record.spec, monitor) is None:
                    store.write(record)
                tally.skipped.append(record)
            missing = []
            for spec in plan.specs:
                found = _clear(store, spec, monitor)
                if found is None:
                    missing.append(spec)
                else:
                    # the same run may go by another row's name here
                    tally.cached.append(found.model_copy(update={"row": spec.row}))
                    if store.checkpoint(spec).exists():  # of a call that was killed between the two
                        store.forget(spec)
            for task in plan.tasks_of(missing):
                task.check()
                for told in preview_of(task.kind)(task):
                    monitor.note(told)
            _look(plan, tally, store, monitor, aside)
            at_hand = {record.identity for record in tally.cached}
            missing = [spec for spec in plan.specs if spec.identity not in at_hand]
            tally.names = {spec.identity: name_of(spec) for spec in missing}
            for spec in missing:
                store.forget(spec, checkpoint=False)  # what a killed call left would look alive
                launcher.submit(
                    Job(spec, store.checkpoint(spec), execution, log=store.log(spec), url=store.url)
                )
            pulse = _Pulse(store.driver_heartbeat, tally.names)
            _tell(store, monitor)
            monitor.tick(tally)
            while tally.left:
                pulse.beat()
                for event in launcher.poll(POLL):
                    if isinstance(event, Advanced):
                        tally.running[event.identity] = event
                    else:
                        _keep(event, store, tally, monitor)
                _tell(store, monitor)
                monitor.tick(tally)
            pulse.end()
            _miss(tally, store)
    finally:
        if close:
            launcher.close()
    return tally


def run(
    suite: str | Suite | None = None,
    *,
    algorithms: Sequence[str] = (),
    tasks: Sequence[str | Chosen] = (),
    seeds: str | Sequence[int] | None = None,
    budget: Mapping[str, float] | None = None,
    protocol: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    results: Path | str = "results",
    monitor: Monitor | None = None,
    execution: Execution | None = None,
    aside: bool = False,
    task: str | Chosen | None = None,
    **how: Any,
) -> list[RunRecord]:
    """Runs a suite, or algorithms on tasks, and returns the records: finished, failed and skipped.

    The first seven arguments are those of `plan`. Runs that are in the results folder already are
    not repeated.

    Args:
        results: the results folder, or a url as s3://bucket/prefix.
        monitor: who shows how it goes.
        execution: where the runs happen, how many at a time, and what each is given.
        aside: see `execute`.
        task: one more of `tasks`, as `pairbench.prompts` returns it.
        how: fields of an `Execution`, as workers=4 or timeout=600.0, in place of `execution`.

    Raises:
        PairBenchError: something asked for is wrong, or the folder is in use or cannot be written.
    """
    planned = plan(
        suite,
        algorithms=algorithms,
        tasks=tasks if task is None else [*tasks, task],
        seeds=seeds,
        budget=budget,
        protocol=protocol,
        overrides=overrides,
    )
    sized = (execution or Execution(**how)).sized(len(planned.specs))
    return execute(
        planned, open_store(results), open_launcher(sized), sized, monitor, aside=aside
    ).records


class _Pulse:
    """Keeps the file that names this call's runs fresh, for `pairbench status`."""

    def __init__(self, path: Path, names: Mapping[str, str]) -> None:
        self._path, self._last = path, time.monotonic()
        with contextlib.suppress(OSError):
            atomic_write(path, json.dumps({"runs": names}).encode(), sync=False)

    def beat(self) -> None:
        if time.monotonic() - self._last >= BEAT:
            self._last = time.monotonic()
            with contextlib.suppress(OSError):
                self._path.touch()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _miss(tally: Tally, store: Store) -> None:
    """Says so where records were removed under this call, which would else end well with fewer."""
    ended = [*tally.cached, *tally.finished]
    if gone := [record for record in ended if not store.path(record).exists()]:
        raise PairBenchError(
            f"{len(gone)} of {len(ended)} records were removed from {store.name} while this call "
            f"ran ({name_of(gone[0])}, ...): the same command runs them again"
        )


def _look(plan: Plan, tally: Tally, store: Store, monitor: Monitor, aside: bool) -> None:
    """Says what has changed since the runs at hand were made, and puts those aside if asked to.

    Raises:
        PairBenchError: something has that makes them no results of what is asked for.
    """
    changes = look(plan, tally.cached, store)
    if aside and (changes.runs or changes.before):
        if store.url is not None:
            raise PairBenchError(f"--set-aside works in a folder, not at {store.name}")
        moved = {record.identity: record for record in changes.runs + changes.before}
        for record in moved.values():
            store.put_aside(record)
        tally.cached = [record for record in tally.cached if record.identity not in moved]
        monitor.note(f"{len(moved)} runs were set aside in {store.name}/{ASIDE}")
        changes = Changes()
    if (refusal := changes.refusal(store)) is not None:
        raise PairBenchError(refusal)
    for text in changes.remarks(store):
        monitor.note(text)


def _clear(store: Store, spec: RunSpec, monitor: Monitor) -> RunRecord | None:
    record, aside = store.find(spec)
    if aside is not None:
        monitor.note(aside)
    return record


def _tell(store: Store, monitor: Monitor) -> None:
    """Passes on what has happened at the url, which may be that this call has lost it."""
    for text in store.news():
        monitor.note(text)


def _keep(event: Ended, store: Store, tally: Tally, monitor: Monitor) -> None:
    spec = event.record.spec
    record = store.write(event.record, event.series, event.texts)
    store.forget(spec, checkpoint=not event.lost)
    tally.running.pop(spec.identity, None)
    (tally.finished if record.status == "finished" else tally.failed).append(record)
    for text in event.warnings:
        monitor.note(f"{name_of(record)}: {text}")
    monitor.ended(record, tally)
