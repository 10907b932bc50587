"""Leaderboards as data: a pure function of a list of run records.

Only rows that answer the same question share a board: same task, task version, task settings,
protocol (budget, annealing, evaluations) and data. Everything here depends on the records alone,
never on their order, the clock or the machine, and numbers are rounded to six significant digits,
so that the same records give the same bytes anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.results.files import without_garbage_collection
from pairbench.results.marks import Reproduction, Verdict
from pairbench.results.record import (
    Budget,
    CurvePoint,
    Protocol,
    RunRecord,
    Tuning,
    canonical,
    digest,
)
from pairbench.text import did_you_mean

BASELINE = "reference"
UNTRAINED = "no training"
"""The regime of the floor rows (`Algorithm.regime`): no opponents in head-to-head comparisons."""

KL, WINS = "kl_ref", "beats_sft"
"""Measures of a task: KL to the initial policy, nats per response, and the win rate against it."""

GUARD, LEAST_VARIETY = "variety_of_sft", 0.8
"""A measure: the share of different tokens in a response over the initial policy's; and its floor.

A policy below it repeats itself: what a judge says of it is not to be read, and it gets no rank.
"""

AT_KL = (1.0, 3.0, 8.0)
"""Values of that KL at which rows are compared, nats per response."""

STANDARD_ERRORS = 3.0
"""By which a trained row should beat the untrained policy."""

JUDGES, CAVEAT, DATA = "judges", "caveat", "data_sha256"
"""What a task's provenance calls its judges' cards, what readers must know, and its data's hash."""

Status = Literal["finished", "partial", "failed", "skipped"]
Scores = dict[int, statistics.Array]
Rates = dict[int, float]
"""By seed, as `Scores`."""

Quantity = tuple[Literal["reward", "way", "measure", "curve"], str | int]
"""The rewards, another way's, a measure, or the rewards at a point of the curve."""

Wins = dict[tuple[str, str], Rates]
"""Of each row over each other."""


class Reward(BaseModel):
    """Interquartile mean over seeds of the mean score on the held-out contexts, 95% interval."""

    iqm: float
    low: float | None = None
    high: float | None = None


class Rate(BaseModel):
    """A share or difference, averaged over seeds, with its 95% interval."""

    estimate: float
    low: float | None = None
    high: float | None = None


class RowStability(BaseModel):
    """Interquartile means over seeds of gradient noise and KL deviation; the worst of the rest."""

    gradient_noise: float | None = None
    kl_std: float | None = None
    kl_max: float | None = None
    drawdown: float | None = None


class RowReliability(BaseModel):
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


class RowCost(BaseModel):
    """What one run spent, averaged over seeds."""

    steps: float
    labels: float
    gradient_steps: float
    iterations: float
    gradient_steps_per_iteration: float | None
    evaluation_steps: float
    seconds: float


class CurveBand(BaseModel):
    """A point of a row's learning curve: interquartile mean over seeds with its 95% interval.

    `along` are other quantities at that point, means over seeds: the KL to the reference policy and
    the other scores, where the task measures that KL.
    """

    steps: float
    labels: float
    iqm: float
    low: float | None = None
    high: float | None = None
    along: dict[str, float] = Field(default={}, exclude_if=lambda along: not along)


class AtKL(BaseModel):
    """What a row's runs had reached when their KL to the reference policy first passed a value.

    Interpolated linearly in the KL between evaluations, the untrained policy being the first of
    them; only where all finished seeds got there.
    """

    reward: Reward
    win_rate: Reward | None = None


class Reproduced(BaseModel):
    """How many of a row's runs were rebuilt whole, the worst verdict, last date, and machines."""

    runs: int
    verdict: Verdict
    date: str
    cpus: list[str]


class Row(BaseModel):
    """One row of a board: an algorithm with settings, over its seeds.

    `status` is "finished", "partial" (some seeds failed: shown, not ranked, since a mean over the
    survivors would flatter it), "failed" (no seed finished) or "skipped". `rewards` are by seed;
    `date` is of the last run, and `environments` are the machines and versions its runs had.
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
    date: str | None = None
    environments: list[str] = []
    configuration: str
    config: dict[str, Any]
    runs: dict[int, str]


class Strength(BaseModel):
    """A row's Bradley-Terry strength on a board: log-odds, the mean of the rows being zero."""

    row: str
    estimate: float
    low: float | None = None
    high: float | None = None


class HeadToHead(BaseModel):
    """Share of held-out contexts on which each row beats each other, ties one half.

    `shares[i][j]` is row i's against row j, averaged over the `seeds[i][j]` seeds that both have;
    None where there is none.
    """

    rows: list[str]
    shares: list[list[float | None]]
    seeds: list[list[int]]


class Pair(BaseModel):
    """Two rows over the `n_seeds` seeds they share: mean reward of `a` less that of `b`.

    `p_value` is of the exact sign-flip test, `p_holm` the same corrected for all pairs of the board
    (Holm 1979).
    """

    a: str
    b: str
    n_seeds: int
    difference: Rate
    p_value: float
    p_holm: float


class OtherBoard(BaseModel):
    """A board of the same task that is never ranked together with this one."""

    board: str
    title: str
    task_version: str
    protocol: Protocol


class Board(BaseModel):
    """Rows that may be ranked together, best first, then those without a rank.

    `strengths`, `head_to_head` and `pairs` are of trained rows without a failed seed, in the
    order of rows. `caveats` are what a reader must know before the numbers; `judges` the cards
    of whatever scored the responses, by name.
    """

    task: str
    title: str
    board: str
    task_version: str
    task_config: dict[str, Any]
    protocol: Protocol
    step_unit: str
    scored: str
    scores_of: str = Field(default="policy", exclude_if=lambda what: what == "policy")
    caveats: list[str] = Field(default=[], exclude_if=lambda caveats: not caveats)
    judges: dict[str, dict[str, Any]] = Field(default={}, exclude_if=lambda judges: not judges)
    other_scores: list[str]
    n_contexts: int | None
    baseline: str | None
    rows: list[Row]
    strengths: list[Strength] = []
    head_to_head: HeadToHead | None = None
    pairs: list[Pair] = []
    provenance: dict[str, dict[str, int]]
    other_boards: list[OtherBoard] = []

    @property
    def slug(self) -> str:
        """A file name's stem: the task and the budget."""
        return f"{kept_in_names(self.task)}--{budget_label(self.protocol.budget).replace(' ', '-')}"

    @property
    def identities(self) -> set[str]:
        """The runs on this board."""
        return {run for row in self.rows for run in row.runs.values()}

    @property
    def ranked(self) -> list[Row]:
        """The rows that have a rank."""
        return [row for row in self.rows if row.rank is not None]


@without_garbage_collection()
def build(
    records: Iterable[RunRecord],
    task: str | None = None,
    baseline: str = BASELINE,
    marks: Iterable[Reproduction] = (),
) -> list[Board]:
    """Returns the boards of `records`: by task name, the largest step budget first.

    Args:
        records: any records, in any order; a second record of one identity is ignored, a finished
            one being preferred.
        task: only this task's boards; all tasks' by default.
        baseline: the row, or else the algorithm, that win rates are measured against.
        marks: runs that were rebuilt; those of their beginning alone do not count.

    Raises:
        PairBenchError: if there is no record of `task`, or records of one board were scored on
            different numbers of contexts.
    """
    kept = distinct(records)
    if task is not None:
        known = {record.task for record in kept}
        if task not in known:
            hint = did_you_mean(task, known) or ": there are no records, run something first"
            raise PairBenchError(f"no task {task!r} in these results{hint}")
        kept = [record for record in kept if record.task == task]
    groups: dict[Any, list[RunRecord]] = defaultdict(list)  # digests of few, not of each record
    for record in kept:
        groups[
            record.task, record.task_version, canonical(record.task_config), record.protocol
        ].append(record)
    boards = sorted(
        (
            _board(part, of_part, baseline)
            for group in groups.values()
            for part, of_part in _by_data(group[0].spec.board, group).items()
        ),
        key=lambda board: (board.task, -(board.protocol.budget.steps or 0), board.board),
    )
    whole = {mark.identity: mark for mark in marks if mark.iterations is None}  # the last of each
    for row in (row for board in boards for row in board.rows):
        found = [whole[run] for run in row.runs.values() if run in whole]
        if found and row.status == "finished":
            order = ("equal", "close", "different")
            row.reproduced = Reproduced(
                runs=len(found),
                verdict=max((mark.verdict for mark in found), key=order.index),
                date=max(mark.date for mark in found),
                cpus=sorted({mark.cpu for mark in found}),
            )
    titles = [board.title for board in boards]
    for board in boards:
        if titles.count(board.title) > 1:  # they differ in a setting of the task or the protocol
            board.title += f", board {board.board[:8]}"
    for board in boards:
        board.other_boards = [
            OtherBoard(**{name: getattr(other, name) for name in OtherBoard.model_fields})
            for other in boards
            if other.task == board.task and other.board != board.board
        ]
    return boards


def kept_in_names(text: str) -> str:
    """Returns text with whatever a file's name should not hold replaced."""
    return "".join(c if c.isalnum() or c in "._@+-" else "-" for c in text)


def budget_label(budget: Budget) -> str:
    """Returns a budget in words: "1M steps", or "200k steps 5k labels" where both are limited."""
    names = {"steps": "steps", "labels": "labels", "gradient_steps": "updates", "seconds": "s"}
    return " ".join(
        f"{_short(value)} {names[name]}"
        for name, value in budget.model_dump().items()
        if value is not None
    )


def finished_scores(records: Iterable[RunRecord]) -> Scores:
    """Returns the primary scores of the finished records by seed."""
    return {r.seed: np.array(r.evaluation.primary) for r in _done(records) if r.evaluation}


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


def by_row(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Returns one board's records by displayed row name, each row's sorted by seed.

    A row is one configuration, and one search for it if any. One that goes by several names takes
    the first in alphabetical order; two that share a name are told apart by eight characters of
    their digest.
    """
    groups: dict[Any, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.algorithm, canonical(record.algorithm_config), record.tuning].append(record)
    configurations = {group[0].spec.configuration: group for group in groups.values()}
    names = {key: min(r.row for r in group) for key, group in configurations.items()}
    shared = list(names.values())
    return {
        name if shared.count(name) == 1 else f"{name}#{key[:8]}": sorted(
            configurations[key], key=lambda record: record.seed
        )
        for key, name in sorted(names.items(), key=lambda item: (item[1], item[0]))
    }


def distinct(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Returns one record per identity, a finished one where there is one, in a fixed order."""
    order = {"finished": 0, "failed": 1, "skipped": 2}
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        found[record.identity].append(record)
    return [
        same[0]
        if len(same) == 1
        else min(same, key=lambda r: (order[r.status], r.row, r.model_dump_json()))
        for _, same in sorted(found.items())
    ]


def _by_data(identity: str, records: list[RunRecord]) -> dict[str, list[RunRecord]]:
    """Parts one board's records by the hash of their data, which a task's settings do not hold.

    Those that name none (they failed, were skipped, or the task has no data) go with most runs. A
    part of several has a digest of its own.
    """
    hashes = [next(iter(_of_task([record], DATA)), None) for record in records]
    named = sorted({str(one) for one in hashes if one is not None})
    if len(named) < 2:
        return {identity: records}
    most = max(named, key=[str(one) for one in hashes].count)
    parts: dict[str, list[RunRecord]] = defaultdict(list)
    for record, one in zip(records, hashes, strict=True):
        data = most if one is None else str(one)
        parts[digest({"board": identity, DATA: data})].append(record)
    return parts


def _board(identity: str, records: list[RunRecord], baseline: str) -> Board:
    rows = by_row(records)
    scores = {name: finished_scores(group) for name, group in rows.items()}
    floors = {name for name, group in rows.items() if group[0].regime == UNTRAINED}
    anchor = _baseline_row(rows, scores, baseline)
    wins = {(a, b): win_rates(scores[a], scores[b]) for a, b in permutations(scores, 2)}
    asked = {name: _quantities(_done(group)) for name, group in rows.items()}
    rewards = iter(_rewards([values for own in asked.values() for values in own.values()]))
    reached = {name: dict(zip(own, rewards)) for name, own in asked.items()}
    compared = _rates(
        [[wins[name, anchor]] if anchor not in (None, name) else [] for name in rows]
        + [[wins[name, n] for n in rows if n != name and n not in floors] for name in rows]
    )
    built = [
        _row(
            name,
            group,
            floor=name in floors,
            reference=scores[anchor] if anchor and anchor != name else None,
            untrained=rows[anchor] if anchor in floors else None,
            win_rate=win_rate,
            head_to_head=head_to_head,
            reached=reached[name],
        )
        for (name, group), win_rate, head_to_head in zip(
            rows.items(), compared[: len(rows)], compared[len(rows) :], strict=True
        )
    ]
    built.sort(key=_order)
    _rank(built)
    first = records[0]
    evaluations = [record.evaluation for record in records if record.evaluation is not None]
    ways = list(dict.fromkeys(way for e in evaluations for way in e.scores))
    met = {row.row: scores[row.row] for row in built if row.status == "finished" and not row.floor}
    lengths = {len(e.primary) for e in evaluations}
    return Board(
        task=first.task,
        title=f"{first.task}, {budget_label(first.protocol.budget)}",
        board=identity,
        task_version=first.task_version,
        task_config=first.task_config,
        protocol=first.protocol,
        step_unit=first.step_unit,
        scored=ways[0] if ways else "",
        scores_of=first.scores_of,
        caveats=_caveats(identity, records),
        judges=_judges(records),
        other_scores=ways[1:],
        n_contexts=lengths.pop() if len(lengths) == 1 else None,
        baseline=anchor,
        rows=built,
        strengths=_strengths(met, wins),
        head_to_head=_matrix(list(met), wins),
        pairs=_pairs(met),
        provenance=_provenance(records),
    )


def _row(
    name: str,
    records: list[RunRecord],
    *,
    floor: bool,
    reference: Scores | None,
    untrained: list[RunRecord] | None,
    win_rate: Rate | None,
    head_to_head: Rate | None,
    reached: Mapping[Quantity, Reward],
) -> Row:
    done = _done(records)
    failed = [r for r in records if r.status == "failed"]
    status: Status = "finished" if done else "failed" if failed else "skipped"
    if done and failed:
        status = "partial"
    row = Row(
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
        configuration=records[0].spec.configuration,
        config=records[0].algorithm_config,
        runs={r.seed: r.identity for r in records},
    )
    if not done:
        return row
    mine = finished_scores(done)
    rewards = [r.evaluation.reward for r in done if r.evaluation is not None]
    row.reward = reached["reward", 0]
    row.other_rewards = {str(name): own for (kind, name), own in reached.items() if kind == "way"}
    row.measures = {str(name): own for (kind, name), own in reached.items() if kind == "measure"}
    points = zip(*(record.curve for record in done), strict=False)
    row.curve = [_band(several, reached["curve", k]) for k, several in enumerate(points)]
    row.rewards = {r.seed: _round(reward) for r, reward in zip(done, rewards, strict=True)}
    row.date = max(str(r.provenance.get("started", ""))[:10] for r in done) or None
    row.environments = sorted({text for r in done if (text := _environment(r.provenance))})
    row.win_rate = win_rate
    row.head_to_head = head_to_head
    row.median = _round(float(statistics.median(rewards)))
    row.seed_sd = _deviation(rewards)
    row.stability = RowStability(
        gradient_noise=_over(done, lambda r: r.stability.gradient_noise, statistics.iqm),
        kl_std=_over(done, lambda r: r.stability.kl_std, statistics.iqm),
        kl_max=_over(done, lambda r: r.stability.kl_max, np.max),
        drawdown=_over(done, lambda r: r.stability.drawdown, np.max),
    )
    row.reliability = _reliability(done, rewards)
    row.cost = _cost(done)
    row.at_kl = _at_kl(done, untrained or [])
    if status == "finished" and not floor:
        gain = _no_gain(mine, reference) if reference and untrained else None
        row.reason = "; ".join(filter(None, (gain, _repeats(row)))) or None
    return row


def _done(records: Iterable[RunRecord]) -> list[RunRecord]:
    return [r for r in records if r.status == "finished" and r.evaluation is not None]


def _quantities(done: list[RunRecord]) -> dict[Quantity, list[float]]:
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
    found = RowReliability(risk_runs=_round(statistics.risk_across_runs(rewards)))
    points = min(map(len, curves))
    if points > 2:
        alike = len(set(map(len, curves))) == 1
        runs = [curves] if alike else [[curve] for curve in curves]
        jitter = np.concatenate([statistics.dispersion_across_time(run) for run in runs])
        falls = np.concatenate([statistics.short_term_risk(run) for run in runs])
        found.dispersion_time = _round(float(statistics.iqm(jitter)))
        found.risk_time = _round(float(statistics.iqm(falls)))
    if points and len(curves) > 1:
        spread = statistics.dispersion_across_runs([curve[:points] for curve in curves])
        found.dispersion_runs = _round(float(spread.mean()))
    return found


def _strengths(scores: Mapping[str, Scores], wins: Wins) -> list[Strength]:
    """Strengths from the contexts won at each seed; a seed counts for the pairs that both have."""
    names = list(scores)
    if len(names) < 2:
        return []
    place = {seed: k for k, seed in enumerate(sorted({s for own in scores.values() for s in own}))}
    won = np.zeros((len(place), len(names), len(names)))
    for i, j in permutations(range(len(names)), 2):
        for seed, share in wins[names[i], names[j]].items():
            won[place[seed], i, j] = share * len(scores[names[i]][seed])
    if not won.any():
        return []
    found = statistics.bradley_terry_intervals(won)
    return [
        Strength(row=name, **rate(estimate).model_dump())
        for name, estimate in zip(names, found, strict=True)
    ]


def _matrix(names: Sequence[str], wins: Wins) -> HeadToHead | None:
    if len(names) < 2:
        return None
    found = [[wins.get((a, b), {}) for b in names] for a in names]
    return HeadToHead(
        rows=list(names),
        shares=[
            [_round(sum(rates.values()) / len(rates)) if rates else None for rates in line]
            for line in found
        ],
        seeds=[[len(rates) for rates in line] for line in found],
    )


def shared_means(ours: Scores, theirs: Scores) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Returns the seeds both have, and each one's mean score at them."""
    seeds = sorted(ours.keys() & theirs.keys())
    x, y = (np.array([np.mean(own[seed]) for seed in seeds]) for own in (ours, theirs))
    return seeds, x, y


def _pairs(scores: Mapping[str, Scores]) -> list[Pair]:
    means = {name: {seed: own[seed].mean() for seed in own} for name, own in scores.items()}
    names, gaps = [], []
    for a, b in combinations(scores, 2):
        if seeds := sorted(means[a].keys() & means[b].keys()):
            names.append((a, b))
            gaps.append([means[a][seed] - means[b][seed] for seed in seeds])
    tested = zip(statistics.mean_intervals(gaps), statistics.sign_flip_p_values(gaps), strict=True)
    pairs = [
        Pair(
            a=a,
            b=b,
            n_seeds=len(gap),
            difference=rate(difference),
            p_value=_round(p_value),
            p_holm=_round(p_value),
        )
        for (a, b), gap, (difference, p_value) in zip(names, gaps, tested, strict=True)
    ]
    if pairs:
        corrected = statistics.holm([pair.p_value for pair in pairs])
        for pair, p_value in zip(pairs, corrected.tolist(), strict=True):
            pair.p_holm = _round(p_value)
    return pairs


def _environment(provenance: Mapping[str, Any]) -> str:
    """Returns a run's machine and versions in a few words, as far as they were recorded."""
    threads, packages = provenance.get("torch_threads"), provenance.get("packages")
    parts = [provenance.get("cpu"), provenance.get("device")]
    if threads is not None:
        parts.append(f"{threads} thread{'s' * (threads != 1)}")
    if isinstance(packages, Mapping) and "torch" in packages:
        parts.append(f"torch {packages['torch']}")
    return ", ".join(str(part) for part in parts if part)


def _repeats(row: Row) -> str | None:
    """Returns a sentence if the row's policies repeat themselves."""
    found = row.measures.get(GUARD)
    if found is None or found.iqm >= LEAST_VARIETY:
        return None
    return (
        f"no rank: repeats itself ({found.iqm:.2f} of the untrained policy's variety, less than "
        f"{LEAST_VARIETY:g}): its scores are not to be read"
    )


def _no_gain(ours: Scores, theirs: Scores) -> str | None:
    """Returns a sentence if the seeds' mean score is not clearly above the untrained policy's.

    The standard error is over held-out contexts, of differences averaged over the seeds.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    gains = np.mean([np.subtract(ours[seed], theirs[seed]) for seed in seeds], axis=0)
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)
    if gain > STANDARD_ERRORS * error:
        return None
    return (
        f"does not beat the untrained policy by {STANDARD_ERRORS:g} standard errors over held-out "
        f"contexts: {gain:+.3g} ± {error:.2g}"
    )


def _at_kl(done: list[RunRecord], untrained: list[RunRecord]) -> dict[str, AtKL]:
    start = [r.evaluation.reward for r in untrained if r.evaluation is not None]
    if not start or not all(KL in point.measures for r in done for point in r.curve):
        return {}
    found = {}
    for value in AT_KL:
        rewards = [_passing(value, float(np.mean(start)), r, None) for r in done]
        if all(reward is not None for reward in rewards):
            wins = [_passing(value, 0.5, r, WINS) for r in done]
            found[f"{value:g}"] = AtKL(
                reward=_reward([x for x in rewards if x is not None]),
                win_rate=_reward([x for x in wins if x is not None]) if None not in wins else None,
            )
    return found


def _passing(kl: float, start: float, record: RunRecord, measure: str | None) -> float | None:
    """Returns the reward, or a measure, where the run's KL first passes `kl`."""
    before = (0.0, start)
    for point in record.curve:
        value = point.reward if measure is None else point.measures.get(measure)
        if value is None:
            return None
        now = (point.measures[KL], value)
        if now[0] >= kl:
            share = (kl - before[0]) / (now[0] - before[0])
            return before[1] + share * (now[1] - before[1])
        before = now
    return None


def _rank(rows: list[Row]) -> None:
    """Sets shared ranks, see `shared_ranks`.

    No rank without an interval (one seed), nor with failures, nor for policies that repeat
    themselves: what a judge says of those is not to be read, and so sets no other row back.
    """
    having = []
    for row in rows:
        if row.status != "finished" or row.reward is None or _repeats(row):
            continue
        if row.reward.low is None or row.reward.high is None:
            if row.n_seeds == 1:
                one = "no rank: one seed gives no interval"
                row.reason = f"{one}; {row.reason}" if row.reason else one
            continue
        having.append(row)
    for row, rank in zip(having, shared_ranks([row.reward for row in having]), strict=True):
        row.rank = rank


def shared_ranks(rewards: Sequence[Reward | None]) -> list[int | None]:
    """Returns the ranks of rewards, best estimate first; None for one without an interval.

    A rank is one more than the number of rewards whose whole interval lies above that one's, and
    never better than that of a reward with a better estimate: a wide interval, as of few seeds,
    neither lifts its own row nor drags the rows that it overlaps into one group.
    """
    having = [r for r in rewards if r is not None and r.low is not None and r.high is not None]
    lows = np.array([reward.low for reward in having])
    above = [1 + int((lows > reward.high).sum()) for reward in having]
    ranks = iter(np.maximum.accumulate(above).tolist())
    return [
        None if reward is None or reward.low is None or reward.high is None else next(ranks)
        for reward in rewards
    ]


def _order(row: Row) -> tuple[Any, ...]:
    kinds = ("finished", "repeats itself", "partial", "failed", "skipped")
    repeats = row.status == "finished" and _repeats(row)
    kind = kinds.index("repeats itself" if repeats else row.status)
    return (kind, -(row.reward.iqm if row.reward else 0.0), row.row)


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
    text = f"{record.failure.kind}: {record.failure.message}"
    at = record.failure.iteration
    return (
        text if at is None or "iteration" in record.failure.message else f"{text} in iteration {at}"
    )


def _baseline_row(
    rows: Mapping[str, list[RunRecord]], scores: Mapping[str, Scores], baseline: str
) -> str | None:
    scored = [name for name in rows if scores[name]]
    if baseline in scored:
        return baseline
    return next((name for name in scored if rows[name][0].algorithm == baseline), None)


def _cost(records: list[RunRecord]) -> RowCost:
    costs = [record.cost for record in records]

    def mean(get: Callable[[Any], float]) -> float:
        return _round(sum(get(cost) for cost in costs) / len(costs))

    iterations = sum(cost.iterations for cost in costs)
    updates = sum(cost.gradient_steps for cost in costs)
    return RowCost(
        steps=mean(lambda c: c.steps),
        labels=mean(lambda c: c.labels),
        gradient_steps=mean(lambda c: c.gradient_steps),
        iterations=mean(lambda c: c.iterations),
        gradient_steps_per_iteration=_round(updates / iterations) if iterations else None,
        evaluation_steps=mean(lambda c: c.evaluation_steps),
        seconds=mean(lambda c: c.seconds),
    )


def _band(points: Sequence[CurvePoint], reward: Reward) -> CurveBand:
    """The k-th points of all seeds make the row's k-th: evaluations are evenly spaced."""
    return CurveBand(
        steps=_round(sum(p.steps for p in points) / len(points)),
        labels=_round(sum(p.labels for p in points) / len(points)),
        **reward.model_dump(),
        along=_along(points),
    )


def _along(points: Sequence[CurvePoint]) -> dict[str, float]:
    if not all(KL in point.measures for point in points):
        return {}
    others = list(points[0].means)[1:]
    return {
        KL: _round(sum(point.measures[KL] for point in points) / len(points)),
        **{
            way: _round(sum(point.means[way] for point in points) / len(points))
            for way in others
            if all(way in point.means for point in points)
        },
    }


def _over(
    records: list[RunRecord],
    get: Callable[[RunRecord], float | None],
    reduce: Callable[[list[float]], Any],
) -> float | None:
    values = [value for value in map(get, records) if value is not None]
    return _round(float(reduce(values))) if values else None


def _reward(values: Sequence[float]) -> Reward:
    return _rewards([values])[0]


def _rewards(quantities: Sequence[Sequence[float]]) -> list[Reward]:
    """Returns the reward of each quantity, of which the values are over seeds."""
    return [
        Reward(iqm=_round(estimate), low=_optional(low), high=_optional(high))
        for estimate, low, high in statistics.iqm_intervals(quantities)
    ]


def _rates(comparisons: Sequence[Sequence[Rates]]) -> list[Rate | None]:
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
    return Rate(
        estimate=_round(value.estimate), low=_optional(value.low), high=_optional(value.high)
    )


def _optional(value: float | None) -> float | None:
    return None if value is None else _round(value)


def _deviation(values: list[float]) -> float | None:
    """Sample standard deviation; what is no more than rounding of equal values counts as zero."""
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1))
    return _round(deviation) if deviation > 1e-12 * max(map(abs, values)) else 0.0


def _round(value: float) -> float:
    return float(f"{value:.6g}") + 0.0


def _short(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size and float(f"{value / size:.4g}") * size == value:
            return f"{value / size:.4g}{suffix}"
    return f"{value:g}" if value < 1e6 and value != int(value) else str(int(value))


def _provenance(records: Iterable[RunRecord]) -> dict[str, dict[str, int]]:
    """Counts the runs by each recorded value: versions, hardware, commits, data hashes."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record in records:
        if record.status == "finished":
            for name, value in flat(record.provenance, leave=(JUDGES, CAVEAT)):
                counts[name][str(value)] += 1
    return {
        name: dict(sorted(values.items(), key=lambda item: (-item[1], item[0])))
        for name, values in sorted(counts.items())
    }


def _of_task(records: Iterable[RunRecord], key: str) -> list[Any]:
    """Returns the different values of a key of the task's provenance, ordered by their JSON."""
    found = {}
    for record in records:
        task = record.provenance.get("task")
        if record.status == "finished" and isinstance(task, Mapping) and task.get(key) is not None:
            found[canonical(task[key])] = task[key]
    return [value for _, value in sorted(found.items())]


def caveats(records: Sequence[RunRecord]) -> list[str]:
    """Returns what a reader of these runs of one task must know before their numbers."""
    found = [str(caveat) for caveat in _of_task(records, CAVEAT)]
    if len(hashes := _of_task(records, DATA)) > 1:
        found.append(
            f"These runs had {len(hashes)} different data sets under one name (SHA-256 "
            f"{', '.join(str(one)[:8] for one in hashes)}): their differences are not only the "
            "methods'."
        )
    return found


def _caveats(identity: str, records: Sequence[RunRecord]) -> list[str]:
    found = caveats(records)
    if identity != records[0].spec.board:
        (data,) = _of_task(records, DATA)
        found.append(
            f"These runs had the data of SHA-256 {str(data)[:8]}; runs with other data of the same "
            "name are on a board of their own."
        )
    return found


def _judges(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Returns the judges' cards by name; one of several of a name is told apart by its hash."""
    cards: dict[str, dict[str, Any]] = {}
    for judges in _of_task(records, JUDGES):
        if not isinstance(judges, Mapping):
            continue
        for name, card in sorted(judges.items()):
            if isinstance(card, Mapping):
                known = cards.get(name, card)
                key = name if known == card else f"{name}#{digest(card)[:8]}"
                cards[key] = dict(card)
    return cards


def flat(
    value: Mapping[str, Any], prefix: str = "", leave: Sequence[str] = ()
) -> Iterable[tuple[str, Any]]:
    """Yields ("a.b", value) for each entry of nested provenance that is set.

    `leave` are keys of the task's part that are left out.
    """
    for key, item in value.items():
        if prefix == "task." and key in leave:
            continue
        if isinstance(item, dict):  # as JSON has it
            yield from flat(item, f"{prefix}{key}.", leave)
        elif item is not None:
            yield f"{prefix}{key}", item
