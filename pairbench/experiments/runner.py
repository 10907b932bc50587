"""A grid from start to end: what is done already is kept, the rest is run, each end is written."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.experiments.launch.base import Advanced, Ended, Job, Launcher, open_launcher
from pairbench.experiments.progress import Monitor, Quiet, Tally
from pairbench.experiments.suite import (
    Grid,
    Row,
    Suite,
    expand,
    load_suite,
    parse_seeds,
    select,
    validated,
    with_protocol,
)
from pairbench.registry import get_task
from pairbench.results.files import atomic_write
from pairbench.results.folder import Store
from pairbench.results.heartbeat import BEAT
from pairbench.results.place import open_store
from pairbench.results.record import Protocol as RunProtocol
from pairbench.results.record import RunRecord, RunSpec, digest, name_of

POLL = 0.25  # seconds between two looks at the launcher


def plan(
    suite: str | Suite | None = None,
    *,
    algorithms: Sequence[str] = (),
    tasks: Sequence[str] = (),
    seeds: str | Sequence[int] | None = None,
    budget: Mapping[str, float] | None = None,
    protocol: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
) -> Grid:
    """Returns the runs of a suite, or of algorithms on tasks, resolved and checked.

    Args:
        suite: name, path or `Suite`; without one, `algorithms`, `tasks` and `budget` say all.
        algorithms: of a suite, its rows (by row or algorithm name) to keep.
        tasks: of a suite, the tasks to keep.
        seeds: "0-4" or numbers; replaces the suite's. Without a suite, 0 by default.
        budget: limits by name (steps, labels, gradient_steps, seconds); replaces the suite's.
        protocol: other settings of the protocol to replace (anneal, evaluations, probes).
        overrides: "target.key=value" texts.

    Raises:
        PairBenchError: something in it is wrong.
    """
    if isinstance(suite, str):
        suite = load_suite(suite)
    changes = dict(protocol or {})
    if budget:
        changes["budget"] = dict(budget)
    if suite is None:
        if not algorithms or not tasks or not budget:
            raise PairBenchError(
                "without a suite, a run needs algorithms, tasks and a budget: "
                "name a suite, or give --algorithms, --tasks and a --budget-... option"
            )
        rows = tuple(Row(name=name, algorithm=name, tasks=tuple(tasks)) for name in algorithms)
        terms = validated(RunProtocol, changes, "the protocol")
        suite = Suite(name="command line", protocol=terms, rows=rows)
    else:
        suite = select(suite, algorithms, tasks) if algorithms or tasks else suite
        if changes:
            suite = with_protocol(suite, changes)
    chosen = parse_seeds(seeds) if isinstance(seeds, str) else seeds
    return expand(suite, overrides, chosen)


def execute(
    grid: Grid,
    store: Store,
    launcher: Launcher,
    *,
    workers: int = 1,
    threads: int = 1,
    checkpoint_seconds: float = 20.0,
    timeout: float | None = None,
    gpus: float = 0.0,
    memory_gb: float | None = None,
    monitor: Monitor | None = None,
) -> Tally:
    """Runs what a grid still lacks and returns how it went; closes the launcher.

    Each record is on disk before the monitor hears of it. Whatever ends this early (Ctrl-C, a full
    disk), the records so far and the checkpoints stay, and a second call continues from there.

    Raises:
        PairBenchError: the results folder is in use by another process, or cannot be written.
    """
    monitor = monitor or Quiet()
    tally = Tally(total=len(grid.specs), workers=workers)
    try:
        with store.lock():
            for record in grid.skipped:
                if _clear(store, record.spec, monitor) is None:
                    store.write(record)
                tally.skipped.append(record)
            missing = []
            for spec in grid.specs:
                found = _clear(store, spec, monitor)
                if found is None:
                    missing.append(spec)
                else:
                    # the same run may go by another row's name here
                    tally.cached.append(found.model_copy(update={"row": spec.row}))
            _check_tasks(missing)
            _check_data(tally.cached, store)
            tally.names = {spec.identity: name_of(spec) for spec in missing}
            for spec in missing:
                store.forget(spec, checkpoint=False)  # what a killed call left would look alive
                launcher.submit(
                    Job(
                        spec,
                        store.checkpoint(spec),
                        threads,
                        checkpoint_seconds,
                        log=store.log(spec),
                        timeout=timeout,
                        gpus=gpus,
                        memory_gb=memory_gb,
                        url=store.url,
                    )
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
    workers: int | None = None,
    threads: int = 1,
    checkpoint_seconds: float = 20.0,
    timeout: float | None = None,
    gpus: float = 0.0,
    memory_gb: float | None = None,
    backend: str = "local",
    backend_options: Mapping[str, str] | None = None,
    monitor: Monitor | None = None,
) -> list[RunRecord]:
    """Runs a grid and returns its records: finished, failed and skipped.

    The first seven arguments are those of `plan`. Runs that are in the results folder already are
    not repeated.

    Args:
        results: the results folder, or a url as s3://bucket/prefix.
        workers: runs at a time; by default one per available core, on a cluster all.
        threads: threads of each run's simulator.
        checkpoint_seconds: least time between two checkpoints of a run.
        timeout: seconds after which a run is killed.
        gpus: that each run needs, for a cluster's scheduler.
        memory_gb: that each run needs, likewise.
        backend: where it runs: "local", on this machine; "ray" or "slurm", on a cluster.
        backend_options: see the modules `ray` and `slurm` beside `launch.base`.
        monitor: who shows how it goes.

    Raises:
        PairBenchError: something asked for is wrong, or the folder is in use or cannot be written.
    """
    grid = plan(
        suite,
        algorithms=algorithms,
        tasks=tasks,
        seeds=seeds,
        budget=budget,
        protocol=protocol,
        overrides=overrides,
    )
    options = backend_options or {}
    cluster = backend == "slurm" or "address" in options
    everything = max(1, len(grid.specs)) if cluster else available_cores()
    count = everything if workers is None else workers
    if count < 1:
        raise PairBenchError(f"workers = {count} is out of range: it must be at least 1")
    tally = execute(
        grid,
        open_store(results),
        open_launcher(backend, count, options),
        workers=count,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        timeout=timeout,
        gpus=gpus,
        memory_gb=memory_gb,
        monitor=monitor,
    )
    return tally.records


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


def available_cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_tasks(specs: Iterable[RunSpec]) -> None:
    """Asks each task once whether what it needs is within reach."""
    for spec in {(s.task, digest(s.task_config)): s for s in specs}.values():
        task = get_task(spec.task)
        task(task.Config(**spec.task_config)).check()


def _check_data(records: Iterable[RunRecord], store: Store) -> None:
    """Refuses to go on where results at hand were made from other data than the task has now."""
    for record in {(r.task, digest(r.task_config)): r for r in records}.values():
        about = record.provenance.get("task")
        then = about.get("data_sha256") if isinstance(about, Mapping) else None
        if then is None:
            continue
        task = get_task(record.task)
        try:
            now = task(task.Config(**record.task_config)).data_sha256()
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
