"""How far the runs of a results folder are, from what they leave in it; nothing is written.

A run is "running" while its heartbeat is fresh, "stalled" where that has stopped (its process or
machine is gone; the same command continues it) or no iteration has ended for long, "waiting" while
the call that is to run it lives, and "finished" or "failed" by its record.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from tabulate import tabulate

from pairbench.results.files import read_json_object
from pairbench.results.folder import Store
from pairbench.results.heartbeat import read_log
from pairbench.results.load import load_records
from pairbench.results.record import RunRecord, name_of
from pairbench.text import duration, printable

SILENT = 30.0
"""Seconds without a heartbeat after which a process is taken for dead; one comes every two."""

IDLE = 900.0
"""Seconds without an iteration after which a live run is taken to hang."""

State = Literal["running", "waiting", "stalled", "failed", "finished"]


class RunState(BaseModel):
    """One run that has not finished.

    Attributes:
        spent: share of its budget, None where it is not known.
        detail: where it runs, why it is stalled, or what it failed of.
    """

    identity: str
    name: str
    state: State
    spent: float | None = None
    reward: float | None = None
    seconds: float | None = None
    detail: str = ""


class Status(BaseModel):
    """How many runs are in each state, and those that have not finished."""

    counts: dict[State, int]
    runs: list[RunState]


def look(results: Path) -> Status:
    """Returns how far the runs of a folder are.

    Raises:
        PairBenchError: there is no such folder.
    """
    store = Store(results)
    states: dict[str, RunState] = {}
    driver = store.driver_heartbeat
    at_work = read_json_object(driver) if abs(_age(driver)) < SILENT else None
    asked = (at_work or {}).get("runs")
    for identity, name in asked.items() if isinstance(asked, dict) else ():
        states[identity] = RunState(identity=identity, name=str(name), state="waiting")
    heartbeats = {path: read_json_object(path) for path in driver.parent.glob("*.json")}
    # records last: what ends meanwhile is seen here or there
    records = load_records(results).records
    for record in records:
        if record.status == "failed" and record.identity not in states:
            states[record.identity] = _failed(record)
    for path, last in heartbeats.items():
        if last is not None and path != driver and "identity" in last:
            states[str(last["identity"])] = _under_way(last, _age(path))
    over = [record.identity for record in records if record.status == "finished"]
    for identity in over:
        states.pop(identity, None)
    counts = Counter(state.state for state in states.values())
    counts["finished"] = len(over)
    order: tuple[State, ...] = ("running", "waiting", "stalled", "failed", "finished")
    runs = sorted(states.values(), key=lambda run: (order.index(run.state), run.name))
    return Status(counts={state: counts[state] for state in order}, runs=runs)


def render(status: Status) -> str:
    """Returns the numbers in one line, and a table of the runs that have not finished."""
    line = ", ".join(f"{count} {state}" for state, count in status.counts.items())
    if not status.runs:
        return f"{line}\n"
    rows = [
        (
            run.state,
            printable(run.name),
            "" if run.spent is None else f"{run.spent:.0%}",
            "" if run.reward is None else f"{run.reward:.4g}",
            "" if run.seconds is None else duration(run.seconds),
            printable(run.detail),
        )
        for run in status.runs
    ]
    headers = ("state", "run", "budget", "reward", "time", "")
    return f"{line}\n\n{tabulate(rows, headers, 'plain', disable_numparse=True)}\n"


def profiles(records: list[RunRecord], results: Path) -> str:
    """Returns a table of what the seconds of runs went into, of those whose logs say so.

    Of a run that was interrupted, it is the time since it was started last.
    """
    store = Store(results)
    found = []
    for record in records:
        ends = [line for line in read_log(store.log(record.spec)) if line.get("event") == "ended"]
        told = ends[-1].get("spent_on") if ends else None
        spent_on = {
            part: seconds
            for part, seconds in (told.items() if isinstance(told, dict) else ())
            if isinstance(seconds, int | float) and seconds >= 0
        }
        if sum(spent_on.values()) > 0:
            found.append((name_of(record), spent_on))
    if not found:
        return "no run has left a profile\n"
    parts = list(dict.fromkeys(part for _, spent_on in found for part in spent_on))
    rows = []
    for name, spent_on in found:
        total = sum(spent_on.values())
        shares = [f"{spent_on[part] / total:.0%}" if part in spent_on else "" for part in parts]
        rows.append((printable(name), f"{total:.1f}", *shares))
    headers = ("run", "seconds", *map(printable, parts))
    return f"{tabulate(rows, headers, 'plain', disable_numparse=True)}\n"


def _under_way(heartbeat: dict[str, Any], age: float) -> RunState:
    """The state of a run by its heartbeat, `age` seconds old."""

    def number(name: str) -> float | None:
        value = heartbeat.get(name)
        return float(value) if isinstance(value, int | float) else None

    where = f"process {heartbeat.get('pid')} on {heartbeat.get('host')}"
    idle = (number("idle") or 0.0) + max(0.0, age)
    state: State = "running"
    if age >= SILENT:
        state, where = "stalled", f"{where} has been silent for {duration(age)}: run it again"
    elif age <= -SILENT:  # it would look alive for as long as that clock is ahead
        state, where = "stalled", f"{where} wrote last {duration(-age)} from now, by its clock"
    elif idle >= IDLE:
        state, where = "stalled", f"{where} has ended no iteration for {duration(idle)}"
    return RunState(
        identity=str(heartbeat["identity"]),
        name=f"{heartbeat.get('row')} on {heartbeat.get('task')}, seed {heartbeat.get('seed')}",
        state=state,
        spent=number("spent"),
        reward=number("reward"),
        seconds=number("seconds"),
        detail=where,
    )


def _failed(record: RunRecord) -> RunState:
    return RunState(
        identity=record.identity,
        name=name_of(record),
        state="failed",
        seconds=record.cost.seconds,
        detail=record.reason or "",
    )


def _age(path: Path) -> float:
    """Seconds since a file was written; negative where a clock went back, or another is ahead."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
