"""The paper's tables against the records at hand: orders, paired verdicts, what noise costs.

A verdict is that of the 95% interval of two rows' difference of interquartile means over the seeds
they share, which from six seeds on the swap test must confirm: "agrees" if it lies on the paper's
side of zero, "contradicts" if on the other, else "undecided", as with fewer than two shared seeds
or a seed that failed; "no runs" where the rows share none. Which runs count follows from the
suites: a record of other settings is none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np
from pydantic import BaseModel

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.experiments.suite import plan
from pairbench.leaderboard.build import caveats, distinct
from pairbench.leaderboard.rank import shared_ranks
from pairbench.leaderboard.rows import Rate, Reward, rate
from pairbench.papers.replication.paper import Paper, Ratings, Sweep, Table, load_paper
from pairbench.results.record import RunRecord, RunSpec, Stability
from pairbench.statistics import Array, Estimate

Verdict = Literal["agrees", "undecided", "contradicts", "no runs"]
Loss = Literal["loses less", "undecided", "loses more", "no runs"]
VERDICTS: tuple[Verdict, ...] = ("agrees", "undecided", "contradicts", "no runs")


class Line(BaseModel):
    """A row of the paper's table and ours.

    Attributes:
        paper: the paper's number; None where it gives an order alone.
        paper_rank: its place by the paper, from 1.
        rank: its place by ours, shared as on a board; None without an interval, or if a seed
            failed.
        ours: interquartile mean over seeds with its 95% interval; None without a run.
        also: other measures, likewise.
        n_seeds, asked, failed: seeds that are in, that the suite asks for, and that failed.
    """

    row: str
    paper: float | None
    paper_rank: int
    rank: int | None = None
    ours: Reward | None = None
    also: dict[str, Reward] = {}
    n_seeds: int
    asked: int
    failed: int


class Pair(BaseModel):
    """Whether `better`, which the paper has above `worse`, is above it here.

    `difference`, of interquartile means, is in the direction of the paper's claim: positive agrees.
    """

    better: str
    worse: str
    n_seeds: int
    difference: Rate | None = None
    p_value: float | None = None
    verdict: Verdict


class Correlation(BaseModel):
    """Kendall's tau of a seed's order with the paper's, mean over the seeds that all rows share."""

    tau: Rate
    rows: int
    n_seeds: int


class Replicated(BaseModel):
    """A table of the paper's beside ours, best of the paper's first."""

    table: Table
    lines: list[Line]
    pairs: list[Pair]
    correlation: Correlation | None = None
    caveats: list[str] = []


class Curve(BaseModel):
    """What a row keeps of its noise-free gain as noise grows.

    Attributes:
        gain: reward above the untrained policy's without noise, mean over seeds.
        kept: share of that gain left, by level.
        loss: share of it lost per unit of noise: the slope of the least-squares line through the
            noise-free point.
    """

    row: str
    n_seeds: int
    asked: int
    gain: Rate | None = None
    kept: dict[str, Rate] = {}
    loss: Rate | None = None


class Robustness(BaseModel):
    """Whether `row` loses less per unit of noise than `than`: loss of `than` less loss of `row`."""

    row: str
    than: str
    n_seeds: int
    difference: Rate | None = None
    verdict: Loss


class Swept(BaseModel):
    """A sweep: curves, the most robust first, and the pairs that are asked about."""

    sweep: Sweep
    curves: list[Curve]
    pairs: list[Robustness]


class Replication(BaseModel):
    """Everything: the paper's tables beside ours, and the sweeps over noise."""

    paper: str
    title: str
    evidence: str
    reasons: list[str]
    counts: dict[str, int]
    tables: list[Replicated]
    ratings: Ratings
    sweeps: list[Swept]


Runs = dict[str, dict[int, RunRecord | None]]
"""By row, the record of each seed that a suite asks for: finished or failed, or None."""


def replicate(records: Iterable[RunRecord], paper: Paper | None = None) -> Replication:
    """Returns a paper's tables beside what the records say; missing runs are told, not guessed.

    Args:
        paper: whose tables; `load_paper()` by default.

    Raises:
        PairBenchError: a table names a row that its suite does not have on its task.
    """
    paper = paper or load_paper()
    known = {record.identity: record for record in distinct(records)}
    tables = [_replicated(table, known) for table in paper.tables]
    found = Counter(pair.verdict for one in tables for pair in one.pairs)
    return Replication(
        paper=paper.paper,
        title=paper.title,
        evidence=paper.evidence,
        reasons=list(paper.reasons),
        counts={verdict: found[verdict] for verdict in VERDICTS},
        tables=tables,
        ratings=paper.ratings,
        sweeps=[_swept(sweep, known) for sweep in paper.sweeps],
    )


def verdict(difference: Rate | None, p_value: float = 0.0) -> Verdict:
    """Returns what a difference in the paper's direction, and its test if any, say of a claim."""
    if difference is None or not statistics.told_apart(difference.low, difference.high, p_value):
        return "undecided"
    return "agrees" if difference.estimate > 0 else "contradicts"


def quantity(record: RunRecord, name: str) -> float | None:
    """Returns "score", a field of `Stability` or a measure of a finished run; None without it."""
    if record.evaluation is None:
        return None
    if name == "score":
        return record.evaluation.reward
    if name in Stability.model_fields:
        value: float | None = getattr(record.stability, name)
        return value
    return record.evaluation.measures.get(name)


@cache
def _asked(suite: str, task: str) -> list[RunSpec]:
    """Returns the runs that a suite asks for on a task."""
    return plan(suite, tasks=[task]).specs


def _runs(suite: str, task: str, known: Mapping[str, RunRecord]) -> Runs:
    runs: Runs = {}
    asked = _asked(suite, task)
    here = not asked or any(run.identity in known for run in asked)
    older = {} if here else _before(asked[0], known)
    for run in asked:
        runs.setdefault(run.row, {})[run.seed] = known.get(run.identity) or older.get(
            (run.row, run.seed)
        )
    return runs


def _versions(runs: Sequence[RunRecord], asked: Sequence[RunSpec]) -> list[str]:
    """Says so where runs are of another version of their task than would be run today."""
    found, today = ({run.task_version for run in some} for some in (runs, asked))
    return [
        f"These are runs of version {version} of {runs[0].task}; a run today is of version "
        f"{', '.join(today)}, of which there is no record here yet."
        for version in sorted(found - today)
    ]


def _before(asked: RunSpec, known: Mapping[str, RunRecord]) -> dict[tuple[str, int], RunRecord]:
    """Returns the runs that an older version of a task had of the same budget, by row and seed."""
    found = [
        run
        for run in known.values()
        if run.task == asked.task
        and run.task_version != asked.task_version
        and run.protocol.budget == asked.protocol.budget
        and run.tuning is None
    ]
    newest = max((run.task_version for run in found), key=lambda v: (len(v), v), default="")
    return {(run.row, run.seed): run for run in found if run.task_version == newest}


def _check(row: str, known: Iterable[str], where: str) -> None:
    if row not in known:
        raise PairBenchError(f"{where} names the row {row!r}, which its suite does not have")


def _values(runs: Mapping[int, RunRecord | None], name: str) -> dict[int, float]:
    """Returns a quantity of a row's finished runs, by seed."""
    found = {seed: quantity(run, name) for seed, run in runs.items() if run is not None}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}


def _failed(runs: Mapping[int, RunRecord | None]) -> int:
    return sum(run is not None and run.status == "failed" for run in runs.values())


def _shared(rows: Sequence[Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(row) for row in rows)))


def _replicated(table: Table, known: Mapping[str, RunRecord]) -> Replicated:
    runs = _runs(table.suite, table.task, known)
    merit = table.merit
    for row in merit:
        _check(row, runs, f"table {table.id}")
    values = {row: _values(runs[row], table.quantity) for row in merit}
    lines = [
        Line(
            row=row,
            paper=table.values.get(row),
            paper_rank=place,
            ours=_iqm(values[row]),
            also={
                name: Reward(iqm=found.iqm, low=found.low, high=found.high)
                for name in table.also
                if (found := _iqm(_values(runs[row], name))) is not None
            },
            n_seeds=len(values[row]),
            asked=len(runs[row]),
            failed=_failed(runs[row]),
        )
        for place, row in enumerate(merit, 1)
    ]
    _rank(lines, 1.0 if table.better == "more" else -1.0)
    failed = {line.row for line in lines if line.failed}
    rows = list(merit)
    pairs = [
        _pair(table, a, b, values[a], values[b], not failed.isdisjoint((a, b)))
        for k, a in enumerate(rows)
        for b in rows[k + 1 :]
    ]
    mine = [run for row in merit for run in runs[row].values() if run is not None]
    return Replicated(
        table=table,
        lines=lines,
        pairs=pairs,
        correlation=_correlation(table, {row: own for row, own in values.items() if own}),
        caveats=[*caveats(mine), *_versions(mine, _asked(table.suite, table.task))],
    )


def _iqm(values: Mapping[int, float]) -> Reward | None:
    if not values:
        return None
    found = rate(statistics.iqm_interval(list(values.values())))
    return Reward(iqm=found.estimate, low=found.low, high=found.high)


def _rank(lines: Sequence[Line], sign: float) -> None:
    """Sets shared ranks by ours, as on a board; where less is better, of what is less."""
    having = [
        (line, Reward(iqm=sign * own.iqm, low=min(ends), high=max(ends)))
        for line in lines
        if (own := line.ours) is not None
        and not line.failed
        and own.low is not None
        and own.high is not None
        and (ends := (sign * own.low, sign * own.high))
    ]
    having.sort(key=lambda item: (-item[1].iqm, item[0].row))
    for (line, _), rank in zip(having, shared_ranks([own for _, own in having]), strict=True):
        line.rank = rank


def _pair(
    table: Table,
    better: str,
    worse: str,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    failed: bool,
) -> Pair:
    seeds = _shared([ours, theirs])
    if not seeds:
        return Pair(better=better, worse=worse, n_seeds=0, verdict="no runs")
    sign = 1.0 if table.better == "more" else -1.0
    a, b = (sign * np.array([own[seed] for seed in seeds]) for own in (ours, theirs))
    difference = rate(statistics.paired_iqm_difference(a, b))
    p_value = float(f"{statistics.swap_p_value(a, b):.6g}")
    testable = statistics.least_p_value(len(seeds)) <= 0.05
    return Pair(
        better=better,
        worse=worse,
        n_seeds=len(seeds),
        difference=difference,
        p_value=p_value,
        verdict="undecided" if failed else verdict(difference, p_value if testable else 0.0),
    )


def _correlation(table: Table, values: Mapping[str, Mapping[int, float]]) -> Correlation | None:
    """Of at least three rows: two have no order to correlate."""
    if len(values) < 3 or not (seeds := _shared(list(values.values()))):
        return None
    sign = 1.0 if table.better == "more" else -1.0
    scores = sign * np.array([[own[seed] for own in values.values()] for seed in seeds])
    paper = [table.merit[row] for row in values]
    tau = rate(statistics.rank_correlation(scores, paper))
    return Correlation(tau=tau, rows=len(values), n_seeds=len(seeds))


def _swept(sweep: Sweep, known: Mapping[str, RunRecord]) -> Swept:
    runs = {task: _runs(sweep.suite, task, known) for task in sweep.levels}
    rows = [row for row in next(iter(runs.values())) if all(row in of for of in runs.values())]
    levels = np.array(list(sweep.levels.values()))
    asked = {row: min(len(of[row]) for of in runs.values()) for row in rows}
    gains = {row: _gains(sweep, [of[row] for of in runs.values()]) for row in rows}
    for row in (row for pair in sweep.pairs for row in pair):
        _check(row, rows, f"sweep {sweep.id}")
    curves = [_curve(row, gains[row], asked[row], list(sweep.levels.values())) for row in rows]
    curves.sort(key=lambda c: (c.loss is None, c.loss.estimate if c.loss else 0.0, c.row))
    return Swept(
        sweep=sweep,
        curves=curves,
        pairs=[_robustness(a, b, gains[a], gains[b], levels) for a, b in sweep.pairs],
    )


def _gains(
    sweep: Sweep, runs: Sequence[Mapping[int, RunRecord | None]]
) -> dict[int, tuple[float, ...]]:
    """Returns, by seed, the reward above the floor at each level; seeds that have them all."""
    values = [_values(of_level, "score") for of_level in runs]
    gains = {}
    for seed in _shared(values):
        floors = []
        for of_level in runs:
            run = of_level[seed]
            assert run is not None
            floors.append(float(run.provenance["task"][sweep.floor]))
        gains[seed] = tuple(own[seed] - floor for own, floor in zip(values, floors, strict=True))
    return gains


def _loss(gains: Array, levels: Array) -> Array:
    """Returns the share of the noise-free gain lost per unit of noise, gains (R, n, levels)."""
    mean = gains.mean(axis=1)
    free = mean[:, levels == 0]
    lost = 1.0 - mean / free
    return np.asarray((lost @ levels) / (levels @ levels))


def _curve(
    row: str, gains: Mapping[int, tuple[float, ...]], asked: int, levels: Sequence[float]
) -> Curve:
    curve = Curve(row=row, n_seeds=len(gains), asked=asked)
    if not gains:
        return curve
    table, at = np.array(list(gains.values())), np.array(levels)

    def over_seeds(statistic: Callable[[Array], Array]) -> Rate:
        return rate(statistics.bootstrap([table], lambda strata: statistic(strata[0])))

    zero = levels.index(0)
    curve.gain = over_seeds(lambda g: g[..., zero].mean(axis=1))
    for k, level in enumerate(levels):
        if level:
            curve.kept[f"{level:g}"] = over_seeds(
                lambda g, k=k: g[..., k].mean(axis=1) / g[..., zero].mean(axis=1)  # type: ignore[misc]
            )
    curve.loss = over_seeds(lambda g: _loss(g, at))
    return curve


def _robustness(
    row: str,
    than: str,
    ours: Mapping[int, tuple[float, ...]],
    theirs: Mapping[int, tuple[float, ...]],
    levels: Array,
) -> Robustness:
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return Robustness(row=row, than=than, n_seeds=0, verdict="no runs")
    table = np.array([[ours[seed], theirs[seed]] for seed in seeds])
    found = statistics.bootstrap(
        [table],
        lambda strata: _loss(strata[0][:, :, 1], levels) - _loss(strata[0][:, :, 0], levels),
    )
    words: dict[Verdict, Loss] = {"agrees": "loses less", "contradicts": "loses more"}
    difference = rate(Estimate(*found))
    said = words.get(verdict(difference), "undecided")
    return Robustness(row=row, than=than, n_seeds=len(seeds), difference=difference, verdict=said)
