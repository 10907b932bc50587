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
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.suite import Plan, Suite, plan
from pairbench.results.files import atomic_write
from pairbench.results.folder import Store
from pairbench.results.heartbeat import BEAT
from pairbench.results.place import open_store
from pairbench.results.record import RunRecord, RunSpec, digest, name_of

POLL = 0.25  # seconds between two looks at the launcher


def execute(
    plan: Plan,
    store: Store,
    launcher: Launcher,
    execution: Execution = ALONE,
    monitor: Monitor | None = None,
    *,
    close: bool = True,
) -> Tally:
    """Runs what a plan still lacks and returns how it went; closes the launcher if it is to.

    Each record is on disk before the monitor hears of it. Whatever ends this early (Ctrl-C, a full
    disk), the records so far and the checkpoints stay, and a second call continues from there.

    Raises:
        PairBenchError: the results folder is in use by another process, or cannot be written.
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
            for task in plan.tasks_of(missing):
                task.check()
            _check_data(plan, tally.cached, store)
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
    finally:
        if close:
            launcher.close()
    return tally


def run(
    suite: str | Suite | None = None,
    *,
    algorithms: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: str | Sequence[int] | None = None,
    budget: Mapping[str, float] | None = None,
    protocol: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    results: Path | str = "results",
    monitor: Monitor | None = None,
    execution: Execution | None = None,
    **how: Any,
) -> list[RunRecord]:
    """Runs a suite, or algorithms on tasks, and returns the records: finished, failed and skipped.

    The first seven arguments are those of `plan`. Runs that are in the results folder already are
    not repeated.

    Args:
        results: the results folder, or a url as s3://bucket/prefix.
        monitor: who shows how it goes.
        execution: where the runs happen, how many at a time, and what each is given.
        how: fields of an `Execution`, as workers=4 or timeout=600.0, in place of `execution`.

    Raises:
        PairBenchError: something asked for is wrong, or the folder is in use or cannot be written.
    """
    planned = plan(
        suite,
        algorithms=algorithms,
        tasks=tasks,
        seeds=seeds,
        budget=budget,
        protocol=protocol,
        overrides=overrides,
    )
    sized = (execution or Execution(**how)).sized(len(planned.specs))
    return execute(planned, open_store(results), open_launcher(sized), sized, monitor).records


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


def _check_data(plan: Plan, records: Iterable[RunRecord], store: Store) -> None:
    """Refuses to go on where results at hand were made from other data than the task has now."""
    for record in {(r.task, digest(r.task_config)): r for r in records}.values():
        about = record.provenance.get("task")
        then = about.get("data_sha256") if isinstance(about, Mapping) else None
        if then is None:
            continue
        try:
            (task,) = plan.tasks_of([record])
            now = task.data_sha256()
        except PairBenchError:
            continue  # nothing to compare with; runs that need the data have said so
        if now != then:
            raise PairBenchError(
                f"the results of {record.task} in {store.name} were made from other data "
                f"({str(then)[:12]}) than are within reach now ({str(now)[:12]}): give the data "
                "they began with, or another --results folder"
            )


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
    monitor.ended(record, tally)
