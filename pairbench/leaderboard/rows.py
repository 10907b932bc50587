"""A row of a board: the types of its numbers, and the numbers, from the records of its seeds.

Numbers are rounded to six significant digits, so that the same records give the same bytes
anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.evaluation import Measure
from pairbench.results.marks import Reproduction, Verdict
from pairbench.results.record import CurvePoint, RunRecord, Tuning

Status = Literal["finished", "partial", "failed", "skipped"]
Scores = dict[int, statistics.Array]
Rates = dict[int, float]
"""By seed, as `Scores`."""

Quantity = tuple[Literal["reward", "way", "measure", "curve"], str | int]
"""The rewards, another way's, a measure, or the rewards at a point of the curve."""


class Frozen(BaseModel):
    """What is built once and never changed."""

    model_config = ConfigDict(frozen=True)


class Reward(Frozen):
    """Interquartile mean over seeds of the mean score on the held-out contexts, 95% interval."""

    iqm: float
    low: float | None = None
    high: float | None = None


class Rate(Frozen):
    """A share or difference, averaged over seeds, with its 95% interval."""

    estimate: float
    low: float | None = None
    high: float | None = None

    @property
    def includes_zero(self) -> bool:
        """Whether the interval holds zero; it is taken to, where there is none."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


class RowStability(Frozen):
    """Interquartile means over seeds of gradient noise and KL deviation; the worst of the rest."""

    gradient_noise: float | None = None
    kl_std: float | None = None
    kl_max: float | None = None
    drawdown: float | None = None


class RowReliability(Frozen):
    """How steadily a row's runs learn and how badly they go, in score units (Chan et al. 2020).

    Attributes:
        dispersion_time: interquartile range of a run's changes between evaluations, interquartile
            mean over seeds.
        risk_time: a run's worst change between evaluations, likewise.
        dispersion_runs: interquartile range over seeds, mean over the evaluations.
        risk_runs: mean final reward of the worst 5% of the runs: of up to 20 the worst one's.
    """

    dispersion_time: float | None = None
    risk_time: float | None = None
    dispersion_runs: float | None = None
    risk_runs: float | None = None


class RowCost(Frozen):
    """What one run spent, averaged over seeds."""

    steps: float
    labels: float
    gradient_steps: float
    iterations: float
    gradient_steps_per_iteration: float | None
    evaluation_steps: float
    seconds: float


class CurveBand(Frozen):
    """A point of a row's learning curve: interquartile mean over seeds with its 95% interval.

    `along` are other quantities at that point, means over seeds: the distance to the untrained
    policy and the other scores, where the task measures that distance.
    """

    steps: float
    labels: float
    iqm: float
    low: float | None = None
    high: float | None = None
    along: dict[str, float] = Field(default={}, exclude_if=lambda along: not along)


class AtKL(Frozen):
    """What a row's runs had reached when their distance to the untrained policy passed a value.

    Interpolated linearly in the distance between evaluations, the untrained policy being the first
    of them; only where all finished seeds got there.
    """

    reward: Reward
    win_rate: Reward | None = None


class Reproduced(Frozen):
    """How many of a row's runs were rebuilt whole, the worst verdict, last date, and machines."""

    runs: int
    verdict: Verdict
    date: str
    cpus: list[str]


class Row(Frozen):
    """One row of a board: an algorithm with settings, over its seeds.

    `status` is "finished", "partial" (some seeds failed: shown, not ranked, since a mean over the
    survivors would flatter it), "failed" (no seed finished) or "skipped". `rewards` are by seed;
    `behind` is the paired difference to the first trained row, where a seed is a problem;
    `date` is of the last run, `other_sources` are rows of older code and the same settings, and
    `environments` are the machines and versions its runs had.
    """

    rank: int | None = None
    row: str
    algorithm: str
    regime: str
    status: Status
    reason: str | None = None
    floor: bool = False
    n_seeds: int
    seeds: list[int]
    failed_seeds: list[int]
    reward: Reward | None = None
    other_rewards: dict[str, Reward] = {}
    rewards: dict[int, float] = {}
    behind: Rate | None = Field(default=None, exclude_if=lambda gap: gap is None)
    win_rate: Rate | None = None
    head_to_head: Rate | None = None
    median: float | None = None
    seed_sd: float | None = None
    stability: RowStability | None = None
    reliability: RowReliability | None = None
    measures: dict[str, Reward] = {}
    cost: RowCost | None = None
    curve: list[CurveBand] = []
    at_kl: dict[str, AtKL] = Field(default={}, exclude_if=lambda at_kl: not at_kl)
    reproduced: Reproduced | None = Field(default=None, exclude_if=lambda mark: mark is None)
    tuning: Tuning | None = Field(default=None, exclude_if=lambda tuning: tuning is None)
    other_sources: list[str] = Field(default=[], exclude_if=lambda others: not others)
    date: str | None = None
    environments: list[str] = []
    configuration: str
    config: dict[str, Any]
    runs: dict[int, str]

    @property
    def other_sources_said(self) -> str | None:
        """One sentence on the rows of the same settings whose algorithm had another source."""
        if not self.other_sources:
            return None
        return (
            f"{self.row} has the same settings as {' and '.join(self.other_sources)}, and another "
            "source of the algorithm: they are not known to be the same method."
        )


def row_of(
    name: str,
    records: list[RunRecord],
    *,
    floor: bool,
    untrained: list[RunRecord],
    measures: Mapping[str, Measure],
    win_rate: Rate | None,
    head_to_head: Rate | None,
    reached: Mapping[Quantity, Reward],
    rebuilt: Sequence[Reproduction] = (),
    others: Sequence[str] = (),
) -> Row:
    """Returns one row, not yet ranked.

    Args:
        name: as the board calls it.
        records: of its seeds, in their order.
        floor: see `Row`, as are `win_rate` and `head_to_head`.
        untrained: the records of the untrained policy, none where the board has no such row.
        measures: what the board's measures mean, by name.
        reached: the intervals of what `quantities` lists of it.
        rebuilt: what came of rebuilding its runs, one each.
        others: rows of the same settings and another source.
    """
    done = finished(records)
    failed = [r for r in records if r.status == "failed"]
    status: Status = "finished" if done else "failed" if failed else "skipped"
    if done and failed:
        status = "partial"
    known = Row(
        row=name,
        algorithm=records[0].algorithm,
        regime=(done or records)[0].regime,
        status=status,
        reason=_reason(status, records),
        floor=floor,
        n_seeds=len(done),
        seeds=[r.seed for r in done],
        failed_seeds=[r.seed for r in failed],
        tuning=records[0].tuning,
        other_sources=list(others),
        configuration=records[0].configuration,
        config=records[0].algorithm_config,
        runs={r.seed: r.identity for r in records},
    )
    if not done:
        return known
    rewards = [r.evaluation.reward for r in done if r.evaluation is not None]
    points = zip(*(record.curve for record in done), strict=False)
    distance, wins = with_role(measures, "distance"), with_role(measures, "win rate")
    curve = [_band(several, reached["curve", k], distance) for k, several in enumerate(points)]
    numbers: dict[str, Any] = {
        "reward": reached["reward", 0],
        "other_rewards": {str(name): own for (kind, name), own in reached.items() if kind == "way"},
        "measures": {str(name): own for (kind, name), own in reached.items() if kind == "measure"},
        "curve": curve,
        "rewards": {r.seed: rounded(x) for r, x in zip(done, rewards, strict=True)},
        "date": max(str(r.provenance.get("started", ""))[:10] for r in done) or None,
        "environments": sorted({text for r in done if (text := _environment(r.provenance))}),
        "win_rate": win_rate,
        "head_to_head": head_to_head,
        "median": rounded(float(statistics.median(rewards))),
        "seed_sd": _deviation(rewards),
        "stability": _stability(done),
        "reliability": _reliability(done, rewards),
        "cost": _cost(done),
        "at_kl": _at_distance(done, untrained, distance, wins) if distance else {},
    }
    if rebuilt and status == "finished":
        order = ("equal", "close", "different")
        numbers["reproduced"] = Reproduced(
            runs=len(rebuilt),
            verdict=max((mark.verdict for mark in rebuilt), key=order.index),
            date=max(mark.date for mark in rebuilt),
            cpus=sorted({mark.cpu for mark in rebuilt}),
        )
    return known.model_copy(update=numbers)


def finished_scores(records: Iterable[RunRecord]) -> Scores:
    """Returns the primary scores of the finished records by seed."""
    return {r.seed: np.array(r.evaluation.primary) for r in finished(records) if r.evaluation}


def win_rates(ours: Scores, theirs: Scores) -> Rates:
    """Returns the win rate over contexts of each seed that both have, by seed.

    Raises:
        PairBenchError: if a seed's two runs were scored on different numbers of contexts.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    for seed in seeds:
        if len(ours[seed]) != len(theirs[seed]):
            raise PairBenchError(
                f"two records of one board were evaluated on {len(ours[seed])} and "
                f"{len(theirs[seed])} contexts at seed {seed}, which cannot be compared head to "
                "head: remove the one that is wrong from the results folder"
            )
    if len({len(ours[seed]) for seed in seeds}) == 1:  # as ever, and then all seeds at once
        x, y = (np.array([own[seed] for seed in seeds]) for own in (ours, theirs))
        return dict(zip(seeds, statistics.win_rate(x, y).tolist(), strict=True))
    return {seed: float(statistics.win_rate(ours[seed], theirs[seed])) for seed in seeds}


def finished(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Returns the records that have a result."""
    return [r for r in records if r.status == "finished" and r.evaluation is not None]


def quantities(done: list[RunRecord]) -> dict[Quantity, list[float]]:
    """Returns what gets an interval over a row's seeds: of all rows of a board in one go."""
    if not done:
        return {}
    evaluations = [r.evaluation for r in done if r.evaluation is not None]
    found: dict[Quantity, list[float]] = {("reward", 0): [e.reward for e in evaluations]}
    for way in dict.fromkeys(way for e in evaluations for way in list(e.scores)[1:]):
        found["way", way] = [float(np.mean(e.scores[way])) for e in evaluations if way in e.scores]
    for name in sorted({name for e in evaluations for name in e.measures}):
        found["measure", name] = [e.measures[name] for e in evaluations if name in e.measures]
    for k, points in enumerate(zip(*(record.curve for record in done), strict=False)):
        found["curve", k] = [point.reward for point in points]
    return found


def _reliability(done: list[RunRecord], rewards: Sequence[float]) -> RowReliability:
    curves = [[point.reward for point in record.curve] for record in done]
    found = {"risk_runs": rounded(statistics.risk_across_runs(rewards))}
    points = min(map(len, curves))
    if points > 2:
        alike = len(set(map(len, curves))) == 1
        runs = [curves] if alike else [[curve] for curve in curves]
        jitter = np.concatenate([statistics.dispersion_across_time(run) for run in runs])
        falls = np.concatenate([statistics.short_term_risk(run) for run in runs])
        found["dispersion_time"] = rounded(float(statistics.iqm(jitter)))
        found["risk_time"] = rounded(float(statistics.iqm(falls)))
    if points and len(curves) > 1:
        spread = statistics.dispersion_across_runs([curve[:points] for curve in curves])
        found["dispersion_runs"] = rounded(float(spread.mean()))
    return RowReliability(**found)


def _environment(provenance: Mapping[str, Any]) -> str:
    """Returns a run's machine and versions in a few words, as far as they were recorded."""
    threads, packages = provenance.get("torch_threads"), provenance.get("packages")
    parts = [provenance.get("cpu"), provenance.get("device")]
    if threads is not None:
        parts.append(f"{threads} thread{'s' * (threads != 1)}")
    if isinstance(packages, Mapping) and "torch" in packages:
        parts.append(f"torch {packages['torch']}")
    return ", ".join(str(part) for part in parts if part)


def with_role(measures: Mapping[str, Measure], role: str) -> Measure | None:
    """Returns the measure of a role, if there is one."""
    return next((measure for measure in measures.values() if measure.role == role), None)


def _at_distance(
    done: list[RunRecord], untrained: list[RunRecord], distance: Measure, wins: Measure | None
) -> dict[str, AtKL]:
    start = [r.evaluation.reward for r in untrained if r.evaluation is not None]
    if not start or not all(distance.name in point.measures for r in done for point in r.curve):
        return {}
    found = {}
    for value in distance.levels:
        level = float(np.mean(start))
        reward = _reward([_passing(distance.name, value, level, r, None) for r in done])
        if reward is not None:
            won = [_passing(distance.name, value, 0.5, r, wins.name) for r in done] if wins else []
            found[f"{value:g}"] = AtKL(reward=reward, win_rate=_reward(won))
    return found


def _passing(
    distance: str, least: float, start: float, record: RunRecord, measure: str | None
) -> float | None:
    """Returns the reward, or a measure, where the run's distance first passes `least`."""
    before = (0.0, start)
    for point in record.curve:
        value = point.reward if measure is None else point.measures.get(measure)
        if value is None:
            return None
        now = (point.measures[distance], value)
        if now[0] >= least:
            share = (least - before[0]) / (now[0] - before[0])
            return before[1] + share * (now[1] - before[1])
        before = now
    return None


def _reason(status: Status, records: list[RunRecord]) -> str | None:
    if status == "finished":
        return None
    told: dict[str, list[int]] = defaultdict(list)
    for r in records:
        if r.status == "failed":
            told[_failure(r)].append(r.seed)
        elif r.status == "skipped" and status == "skipped":
            told[r.reason or "no reason recorded"].append(r.seed)
    if status == "skipped":
        return "; ".join(sorted(told))
    count = sum(len(seeds) for seeds in told.values())
    why = "; ".join(
        f"{text} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))})"
        for text, seeds in sorted(told.items())
    )
    total = count + sum(r.status == "finished" for r in records)
    return f"{count} of {total} seeds failed: {why}"


def _failure(record: RunRecord) -> str:
    if record.failure is None:
        return record.reason or "no reason recorded"
    kind, message, at = record.failure.kind, record.failure.message, record.failure.iteration
    known = at is None or "iteration" in message
    return f"{kind}: {message}" + ("" if known else f" in iteration {at}")


def _cost(records: list[RunRecord]) -> RowCost:
    costs = [record.cost for record in records]
    iterations = sum(cost.iterations for cost in costs)
    updates = sum(cost.gradient_steps for cost in costs)
    means = {
        name: _mean([getattr(cost, name) for cost in costs])
        for name in RowCost.model_fields
        if name != "gradient_steps_per_iteration"
    }
    per_iteration = rounded(updates / iterations) if iterations else None
    return RowCost(**means, gradient_steps_per_iteration=per_iteration)


def _mean(values: Sequence[float]) -> float:
    return rounded(sum(values) / len(values))


def _band(points: Sequence[CurvePoint], reward: Reward, distance: Measure | None) -> CurveBand:
    """The k-th points of all seeds make the row's k-th: evaluations are evenly spaced."""
    return CurveBand(
        steps=_mean([point.steps for point in points]),
        labels=_mean([point.labels for point in points]),
        **reward.model_dump(),
        along=_along(points, distance.name) if distance else {},
    )


def _along(points: Sequence[CurvePoint], distance: str) -> dict[str, float]:
    if not all(distance in point.measures for point in points):
        return {}
    found = {distance: _mean([point.measures[distance] for point in points])}
    for way in list(points[0].means)[1:]:
        if all(way in point.means for point in points):
            found[way] = _mean([point.means[way] for point in points])
    return found


def _stability(records: list[RunRecord]) -> RowStability:
    found = {}
    for name in RowStability.model_fields:
        several = [getattr(record.stability, name) for record in records]
        values = [value for value in several if value is not None]
        worst = name in ("kl_max", "drawdown")
        if values:
            found[name] = rounded(float(np.max(values) if worst else statistics.iqm(values)))
    return RowStability(**found)


def _reward(values: Sequence[float | None]) -> Reward | None:
    """The reward of values over seeds, None where there are none or one is missing."""
    known = [value for value in values if value is not None]
    return intervals([known])[0] if known and len(known) == len(values) else None


def intervals(quantities: Sequence[Sequence[float]]) -> list[Reward]:
    """Returns the reward of each quantity, of which the values are over seeds."""
    return [
        Reward(iqm=rounded(estimate), low=rounded(low), high=rounded(high))
        for estimate, low, high in statistics.iqm_intervals(quantities)
    ]


def mean_rates(comparisons: Sequence[Sequence[Rates]]) -> list[Rate | None]:
    """Returns of each row's opponents the mean over them of the mean win rate at shared seeds."""
    met = [[rates for rates in opponents if rates] for opponents in comparisons]
    tables = [
        [
            [rates.get(seed, np.nan) for rates in opponents]
            for seed in sorted(set().union(*opponents))
        ]
        for opponents in met
        if opponents
    ]
    found = iter(statistics.mean_intervals(tables, limits=(0.0, 1.0)))
    return [rate(next(found)) if opponents else None for opponents in met]


def rate(value: statistics.Estimate) -> Rate:
    """Returns an estimate rounded for a board."""
    return Rate(estimate=rounded(value.estimate), low=rounded(value.low), high=rounded(value.high))


def _deviation(values: list[float]) -> float | None:
    """Sample standard deviation; what is no more than rounding of equal values counts as zero."""
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1))
    return rounded(deviation) if deviation > 1e-12 * max(map(abs, values)) else 0.0


Number = TypeVar("Number", float, float | None)


def rounded(value: Number) -> Number:
    """Returns a number to six significant digits, and never a negative zero."""
    return value if value is None else float(f"{value:.6g}") + 0.0
