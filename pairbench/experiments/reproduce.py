"""Does a result come back from its record alone? Rebuilds a run and says how its bits compare.

Three answers: "equal", every number of the series, the curve and the evaluation and the final
weights are the same bits; "close", they differ but by no more than `TOLERANCE`; "different". What
changed since the run (versions, processor, code, data, models, judges) is named beside the answer.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from pairbench.errors import PairBenchError
from pairbench.experiments.launch.base import Ended, Execution, Job, Launcher
from pairbench.experiments.launch.local import Local
from pairbench.experiments.settings import validated
from pairbench.registry import get_task
from pairbench.results.columns import read_series
from pairbench.results.find import find_record
from pairbench.results.marks import Reproduction, Verdict, keep
from pairbench.results.place import at_hand
from pairbench.results.read import Joined, read_of
from pairbench.results.record import RunRecord, name_of

if TYPE_CHECKING:
    import numpy as np


TOLERANCE = 1e-3
"""Of a number against the larger of the two and the largest of its column, to count as close."""

LEAST = 1e-6
"""Absolute differences of a measured number that count as close, be it as near zero as it may."""


UNTELLING = frozenset(
    {"started", "git_commit", "git_changed", "source_sha256", "data_sha256", "cores", "seconds"}
)
"""Fields of the provenance on which no number depends, or which `RunRecord.read` tells in full."""


def reproduce(
    records: Sequence[str | Path],
    results: Path | str = "results",
    *,
    iterations: int | None = None,
    mark: bool = False,
    told: Callable[[Reproduction], None] = lambda verdict: None,
) -> list[Reproduction]:
    """Runs records again, one after another on this machine, and says how they compare.

    Args:
        records: their files, or the first characters of their identities.
        results: the results folder, or a url.
        iterations: compare the first so many only; None for whole runs.
        mark: keep the verdicts in the results folder, if it is one.
        told: hears each verdict as it comes.

    Raises:
        PairBenchError: as `find_record` and `rebuild`, or a verdict cannot be kept.
    """
    folder, _ = at_hand(results)
    verdicts = []
    found = [find_record(str(name), folder) for name in records]
    with workplace() as (launcher, scratch):
        for record, path in found:
            columns = path.with_suffix(".parquet")
            series = read_series(columns) if columns.is_file() else None
            verdict = rebuild(record, series, launcher, scratch, iterations)
            verdicts.append(verdict)
            told(verdict)
            if mark:
                keep(verdict, results)
    return verdicts


@contextmanager
def workplace() -> Iterator[tuple[Launcher, Path]]:
    """A worker process, and a folder for its checkpoints; both are gone afterwards."""
    with closing(Local(1)) as launcher, tempfile.TemporaryDirectory() as scratch:
        yield launcher, Path(scratch)


def rebuild(
    record: RunRecord,
    series: Mapping[str, np.ndarray] | None,
    launcher: Launcher,
    scratch: Path,
    iterations: int | None = None,
) -> Reproduction:
    """Runs a record's specification again, in a process of its own, and compares.

    Args:
        series: its columns, one value an iteration; None if they are not at hand.
        launcher: where it runs; it is not closed.
        scratch: a folder for the checkpoint of the new run.
        iterations: compare the first so many only; None for the whole run.

    Raises:
        PairBenchError: the record is not of a finished run, its settings name code to run, its
            task is of another version here, only its beginning was asked for where it has no
            series, or the new run failed.
    """
    if record.status != "finished":
        raise PairBenchError(
            f"{name_of(record)} is {record.status}, and only finished runs can be rebuilt: "
            "choose another record"
        )
    task = get_task(record.task)
    validated(task.Config, record.task_config, f"task {record.task}, as the record has it,")
    if code := task.code(record.task_config):
        raise PairBenchError(
            f"{name_of(record)} names code to run ({', '.join(map(str, code))}), which is not done "
            "on the word of a record: run its settings anew and compare"
        )
    if iterations is not None and not (series and len(next(iter(series.values())))):
        raise PairBenchError(
            f"{name_of(record)} has no series to compare the beginning of: leave --quick out"
        )
    execution = Execution(threads=int(record.provenance.get("simulation_threads", 1)))
    place = scratch / f"{record.identity[:16]}.safetensors"
    launcher.submit(Job(record.spec, place, execution, iterations))
    again: Ended | None = None
    while again is None:
        for event in launcher.poll(0.5):
            if isinstance(event, Ended) and event.record.identity == record.identity:
                again = event
    if again.record.status == "failed":
        why = again.record.reason
        raise PairBenchError(f"{name_of(record)} failed when it was run again: {why}")
    if again.record.status == "finished":
        iterations = None
    verdict, detail = compare(record, series, again, iterations)
    return Reproduction(
        identity=record.identity,
        name=name_of(record),
        verdict=verdict,
        detail=detail,
        iterations=iterations,
        changed=[
            *Joined().changed(read_of(record), again.record.read).values(),
            *changes(record.provenance, again.record.provenance),
        ],
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=str(again.record.provenance.get("cpu", "unknown")),
        record_sha256=record.sha256,
        read=again.record.read,
    )


def compare(
    record: RunRecord,
    series: Mapping[str, np.ndarray] | None,
    again: Ended,
    iterations: int | None = None,
) -> tuple[Verdict, str]:
    """Returns how a run compares with what was kept of it, and where they first differ.

    Series come first, iteration by iteration, then the learning curve, the final evaluation, what
    was spent and the weights; with `iterations`, the series' first so many and the points of the
    curve that the shorter run has.
    """
    worst: Verdict = "equal"
    first = ""

    def found(verdict: Verdict, where: str) -> None:
        nonlocal worst, first
        order = ("equal", "close", "different")
        worst = max(worst, verdict, key=order.index)
        first = first or (where if verdict != "equal" else "")

    if series:
        found(*_of_series(series, again.series, iterations))
    whole = iterations is None
    points = None if whole else len(again.record.curve)
    theirs = _measured(again.record, points, whole)
    for name, values in _measured(record, points, whole, told=True).items():
        found(_closeness(values, theirs.get(name, [])), name)
    if whole and worst == "equal" and record.weights_sha256 != again.record.weights_sha256:
        found("different", "the final weights, though no measured number differs")
    if worst == "equal":
        compared = "the whole run"
        if iterations is not None:
            compared = f"{iterations} iteration{'s' * (iterations > 1)}"
            if points:
                compared += f", {points} point{'s' * (points > 1)} of the learning curve"
        return worst, f"bit for bit equal: {compared}"
    if worst == "close":
        return worst, f"within a relative {TOLERANCE:g}; the first difference is in {first}"
    return worst, f"the first difference is in {first}"


def _of_series(
    kept: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray], iterations: int | None
) -> tuple[Verdict, str]:
    import numpy as np

    names = [name for name in kept if name in again]
    if not names:
        return "different", "the series: they have no column in common"
    old, new = (
        np.stack([np.asarray(columns[name], np.float64)[:iterations] for name in names], 1)
        for columns in (kept, again)
    )
    rows = min(len(old), len(new))
    same = (old[:rows] == new[:rows]) | (np.isnan(old[:rows]) & np.isnan(new[:rows]))
    if same.all():
        if len(old) != len(new):
            return "different", f"the series' length: {len(old)} and {len(new)} iterations"
        return "equal", ""
    at = int(np.flatnonzero(~same.all(1))[0])
    columns = [name for name, equal in zip(names, same[at], strict=True) if not equal]
    where = f"iteration {at}, series {', '.join(columns)}"
    with np.errstate(invalid="ignore"):
        scale = np.nanmax(np.abs(old), axis=0, initial=0.0)
        near = np.abs(old[:rows] - new[:rows]) <= TOLERANCE * np.maximum(scale, 1e-12)
    close = len(old) == len(new) and bool((near | same).all())
    return ("close" if close else "different"), where


def _measured(
    record: RunRecord, points: int | None, whole: bool, told: bool = False
) -> dict[str, list[float]]:
    """Returns all that a record says was measured but the seconds, by what it is.

    That is the learning curve's first `points`, or all; of a whole run also the final scores,
    measures, stability and cost. With `told`, what an older record does not name is left out.
    """
    columns: dict[str, list[float]] = defaultdict(list)
    for point in record.curve[:points]:
        for name, value in _numbers(point, told):
            columns[f"the learning curve ({name})"].append(value)
    if not whole:
        return columns
    if record.evaluation is not None:
        for way, scores in record.evaluation.scores.items():
            columns[f"the final scores ({way})"] = scores
        for name, value in record.evaluation.measures.items():
            columns[f"the final {name}"] = [value]
    for what, part in (("stability", record.stability), ("cost", record.cost)):
        for name, value in _numbers(part, told):
            if name != "seconds":
                columns[f"the {what} ({name})"] = [value]
    return columns


def _numbers(part: BaseModel, told: bool) -> Iterator[tuple[str, float]]:
    for name, value in part.model_dump(exclude_unset=told).items():
        if isinstance(value, Mapping):
            yield from value.items()
        elif value is not None:
            yield name, value


def _closeness(old: Sequence[float], new: Sequence[float]) -> Verdict:
    if list(old) == list(new):
        return "equal"
    scale = max((abs(value) for value in old), default=0.0)
    near = len(old) == len(new) and all(
        abs(a - b) <= max(TOLERANCE * scale, LEAST) for a, b in zip(old, new, strict=True)
    )
    return "close" if near else "different"


def changes(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns "name: old -> new" for each field of the provenance that numbers may depend on."""
    lines = []
    for name in sorted({*then, *now} - UNTELLING):
        old, new = then.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += changes(old, new, f"{prefix}{name}.")
        elif old != new:
            lines.append(f"{prefix}{name}: {_short(old)} -> {_short(new)}")
    return lines


def _short(value: Any) -> str:
    text = "not recorded" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
