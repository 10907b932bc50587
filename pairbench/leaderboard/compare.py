"""Rows of one board over the seeds they share, and one sentence per pair on what that shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
from pydantic import BaseModel, Field

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import Board, build, distinct
from pairbench.leaderboard.rows import Rate, Row, finished_scores, rate, rounded, win_rates
from pairbench.results.marks import Reproduction
from pairbench.results.read import Joined, read_of, source_of
from pairbench.results.record import Protocol, RunRecord
from pairbench.text import did_you_mean

UNITS = {"steps": "steps", "labels": "labels", "gradient_steps": "updates", "seconds": "second"}
"""What a gain is divided by: fields of a record's cost, in words."""


class PerCost(BaseModel):
    """What two rows spent of one thing, and gained for it, averaged over their shared seeds.

    Attributes:
        a, b: what a run of each row spent.
        gain_a, gain_b: score above the untrained policy's, per unit spent; None where nothing was
            spent, or the board has no untrained row.
        difference: gain_a less gain_b, paired by seed.
    """

    a: float
    b: float
    gain_a: float | None = None
    gain_b: float | None = None
    difference: Rate | None = None


class Comparison(BaseModel):
    """Row `a` against row `b` over `n_seeds` shared seeds; positive differences favour `a`.

    Attributes:
        difference: a's interquartile mean less b's, in score units: what the board ranks by.
        mean_difference: mean over seeds of a's reward minus b's. Its interval covers too little
            where rows are skewed or collapse (see `pairbench.statistics`).
        probability_of_improvement: P(a run of a beats a run of b), ties one half.
        win_rate: a's win rate against b, on the same seeds and held-out contexts.
        p_value: two-sided permutation test of `difference` that swaps scores within seeds.
        p_holm: the same corrected for all pairs of one call (Holm 1979), where there were several.
        minimum_detectable_difference: the least true difference that these seeds would find with
            80% power (by interval and test, uncorrected); None with one seed.
        seeds_to_separate: shared seeds that would find a true difference as large as the observed
            one with that power, at least six; None where that takes over 10,000, or with one seed.
            It takes both the difference and its deviation from few seeds: a rough guide.
        per_cost: gain per unit of each cost, by its name.
        remarks: what a reader must know of what the runs have read, a sentence each.
        conclusion: one sentence that claims no more than the interval of `difference` and the test
            allow together (`pairbench.statistics.told_apart`).
    """

    task: str
    board: str
    title: str
    task_version: str
    protocol: Protocol
    a: str
    b: str
    n_seeds: int
    seeds: list[int]
    difference: Rate
    mean_difference: Rate
    probability_of_improvement: Rate
    win_rate: Rate
    p_value: float
    p_holm: float | None = Field(default=None, exclude_if=lambda p: p is None)
    minimum_detectable_difference: float | None = None
    seeds_to_separate: int | None = None
    per_cost: dict[str, PerCost] = {}
    remarks: list[str] = Field(default=[], exclude_if=lambda remarks: not remarks)
    conclusion: str


def compare_all(
    records: Iterable[RunRecord],
    rows: Sequence[str],
    task: str,
    marks: Iterable[Reproduction] = (),
) -> list[Comparison]:
    """Compares every pair of `rows`, with p-values corrected for there being so many (Holm 1979).

    All on one board: the largest on which every pair shares a finished seed. Arguments and errors
    are those of `compare`; there must be two rows.
    """
    if len(rows) < 2:
        raise PairBenchError("name at least two rows to compare")
    kept = distinct(records)
    known = {record.identity: record for record in kept}
    boards = build(kept, task, marks=marks)
    pairs = list(combinations(rows, 2))
    for board in boards:
        try:
            found = [_first([board], known, a, b) for a, b in pairs]
        except PairBenchError:
            continue
        break
    else:
        for a, b in pairs:
            _first(boards, known, a, b)  # says what is wrong with a pair, if it is one pair
        raise PairBenchError(
            f"no board of {task} has a shared seed of every pair of {', '.join(rows)}: run them "
            "all with the same seeds and budget"
        )
    return _corrected(found)


def compare(
    records: Iterable[RunRecord], a: str, b: str, task: str, marks: Iterable[Reproduction] = ()
) -> Comparison:
    """Compares rows `a` and `b` on the largest of the task's boards on which both have results.

    Args:
        records: any records, in any order.
        a: a row's name as a board shows it, or at least eight characters of its configuration's
            digest.
        b: the other row's, likewise.
        task: the task's name.
        marks: of the results folder, which say what sources are the same.

    Raises:
        PairBenchError: if the task or a row is unknown, the two rows are one, or they share no
            finished seed on any board.
    """
    return compare_all(records, (a, b), task, marks)[0]


def _first(boards: Sequence[Board], found: dict[str, RunRecord], a: str, b: str) -> Comparison:
    """Compares on the first of one task's boards on which both rows have a seed."""
    task = boards[0].task
    known: set[str] = set()
    together = False
    for board in boards:
        rows = {row.row: row for row in board.rows}
        x, y = _find(a, board.rows), _find(b, board.rows)
        known |= {*rows, *([a] if x else []), *([b] if y else [])}
        if x is None or y is None:
            continue
        if x == y:
            raise PairBenchError(f"{a!r} and {b!r} are the same row of {board.title}: name two")
        together = True
        result = _over_seeds(board, (x, y), (rows[x], rows[y]), (found, found))
        if result is not None:
            return result
    for name in (a, b):
        if name not in known:
            raise PairBenchError(f"no row {name!r} on {task}{did_you_mean(name, known)}")
    where = "share no finished seed on any board" if together else "are never on the same board"
    raise PairBenchError(
        f"{a} and {b} {where} of {task}, so they cannot be compared: run both with the same seeds "
        "and budget"
    )


def _over_seeds(
    board: Board,
    names: tuple[str, str],
    rows: tuple[Row, Row],
    known: tuple[Mapping[str, RunRecord], Mapping[str, RunRecord]],
) -> Comparison | None:
    """Compares two rows by the runs that `known` holds of each; None if they share no seed."""
    runs = [{k[run].seed: k[run] for run in row.runs.values()} for row, k in zip(rows, known)]
    ours, theirs = (finished_scores(own.values()) for own in runs)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    left_out = {*rows[0].failed_seeds, *rows[1].failed_seeds}
    means = [np.array([np.mean(own[seed]) for seed in seeds]) for own in (ours, theirs)]
    wins = list(win_rates(ours, theirs).values())
    result = _comparison(board, *names, seeds, means, wins, bool(left_out))
    result.remarks = [said for row in rows if (said := row.other_sources_said)]
    floor = _floor(board)
    for cost in UNITS:
        spent = [np.array([float(getattr(own[s].cost, cost)) for s in seeds]) for own in runs]
        result.per_cost[cost] = _per_cost(means, spent, floor)
    return result


def compare_sides(
    ours: Iterable[RunRecord],
    theirs: Iterable[RunRecord],
    names: tuple[str, str],
    marks: Iterable[Reproduction] = (),
) -> list[Comparison]:
    """Compares what two sets of records (two runs, folders, suites) have on the same boards.

    On each board that is either the one trained row of each side, whatever their names, or else
    every trained row that both have by name. Floor rows count where a side has no other. Of several
    comparisons the p-values are corrected (Holm 1979).

    Args:
        ours: the records of one side.
        theirs: those of the other.
        names: what to call them.
        marks: of both, which say what sources are the same.

    Raises:
        PairBenchError: they have read other data or models, or have no board, no row or no finished
            seed in common.
    """
    sides, marks = [distinct(records) for records in (ours, theirs)], list(marks)
    known = [{record.identity: record for record in records} for records in sides]
    left, right = (build(records, marks=marks) for records in sides)
    joined, (a, b) = Joined([*sides[0], *sides[1]], marks), names

    def changed(*runs: Iterable[str]) -> dict[str, str]:
        read: list[dict[str, str]] = [{}, {}]
        for some, there, found in zip(runs, known, read, strict=True):
            for run in sorted(some):
                found |= read_of(there[run])
        return joined.changed(*read)

    together, apart = [], dict[str, None]()
    for board, other in product(left, right):
        if board.question == other.question:
            told = changed(board.identities, other.identities)
            apart |= (other_content := {told[n]: None for n in told if source_of("") not in n})
            together += [] if other_content else [(board, other)]
    if apart and not together:
        raise PairBenchError(
            f"{a} and {b} cannot be compared, as {' and '.join(apart)}: run both with the same"
        )
    if not together:
        raise PairBenchError(
            f"{a} and {b} have no board in common (one task, version, settings, protocol and "
            "data), so they cannot be compared: run both alike"
        )
    found = []
    for board, other in together:
        for x, y in _counterparts(board, other):
            called = (f"{x.row} ({a})", f"{y.row} ({b})")
            if result := _over_seeds(board, called, (x, y), (known[0], known[1])):
                said = changed(x.runs.values(), y.runs.values()).values()
                result.remarks += [f"From {a} to {b} {text}." for text in said]
                found.append(result)
    if not found:
        raise PairBenchError(
            f"{a} and {b} share no row with a finished seed of both, so they cannot be compared: "
            "run the same rows with the same seeds"
        )
    return _corrected(found)


def _counterparts(board: Board, other: Board) -> list[tuple[Row, Row]]:
    """The rows of two boards to compare: their only ones, or else those of one name."""
    ours, theirs = (
        [row for row in side.rows if row.reward is not None and not row.floor]
        or [row for row in side.rows if row.reward is not None]
        for side in (board, other)
    )
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    by_name = {row.row: row for row in theirs}
    return [(row, by_name[row.row]) for row in ours if row.row in by_name]


def _corrected(pairs: list[Comparison]) -> list[Comparison]:
    """Adds to several comparisons the p-values corrected for there being so many."""
    if len(pairs) > 1:
        corrected = statistics.holm([pair.p_value for pair in pairs])
        for pair, p_value in zip(pairs, corrected.tolist(), strict=True):
            pair.p_holm = rounded(p_value)
            pair.conclusion = _with_corrected(pair, len(pairs))
    return pairs


def _comparison(
    board: Board,
    a: str,
    b: str,
    seeds: list[int],
    means: Sequence[statistics.Array],
    wins: Sequence[float],
    left_out: bool,
) -> Comparison:
    x, y = means
    difference = rate(statistics.paired_iqm_difference(x, y))
    p_value = rounded(statistics.swap_p_value(x, y))
    detectable = needed = None
    if len(seeds) > 1:
        detectable = rounded(statistics.minimum_detectable_difference(x, y))
        needed = statistics.seeds_needed(difference.estimate, float(np.std(x - y, ddof=1)))
    conclusion = conclude(a, b, len(seeds), difference, p_value, board.title)
    if left_out:
        conclusion = f"{conclusion.removesuffix('.')}; seeds that failed are left out."
    return Comparison(
        task=board.task,
        board=board.board,
        title=board.title,
        task_version=board.task_version,
        protocol=board.protocol,
        a=a,
        b=b,
        n_seeds=len(seeds),
        seeds=seeds,
        difference=difference,
        mean_difference=rate(statistics.paired_difference(x, y)),
        probability_of_improvement=rate(statistics.paired_probability_of_improvement(x, y)),
        win_rate=rate(statistics.mean_interval(wins, limits=(0.0, 1.0))),
        p_value=p_value,
        minimum_detectable_difference=detectable,
        seeds_to_separate=needed,
        conclusion=conclusion,
    )


def _per_cost(
    means: Sequence[statistics.Array], spent: Sequence[statistics.Array], floor: float | None
) -> PerCost:
    a, b = spent
    found = PerCost(a=rounded(float(a.mean())), b=rounded(float(b.mean())))
    if floor is None:
        return found
    gains = [
        (own - floor) / amounts if amounts.all() else None for own, amounts in zip(means, spent)
    ]
    found.gain_a, found.gain_b = (None if g is None else rounded(float(g.mean())) for g in gains)
    if gains[0] is not None and gains[1] is not None:
        found.difference = rate(statistics.paired_difference(gains[0], gains[1]))
    return found


def _floor(board: Board) -> float | None:
    """The level of the untrained policy: the baseline's, if that is a floor row."""
    for row in board.rows:
        if row.row == board.baseline and row.floor and row.reward is not None:
            return row.reward.iqm
    return None


def _with_corrected(pair: Comparison, pairs: int) -> str:
    """Returns a pair's conclusion with its corrected p-value, claiming no more than that allows."""
    assert pair.p_holm is not None
    told = f"{pair.conclusion.removesuffix('.')}; Holm-corrected over {pairs} pairs p = "
    told += f"{pair.p_holm:.2g}"
    if not pair.difference.includes_zero and pair.p_holm > 0.05:
        told += ", which does not confirm it"
    return f"{told}."


def conclude(a: str, b: str, seeds: int, difference: Rate, p_value: float, where: str) -> str:
    """Returns one plain sentence that claims no more than interval and test allow together."""
    low, high = difference.low, difference.high
    if low is None or high is None:
        return (
            f"One shared seed gives no interval, so nothing can be said about {a} and {b} on "
            f"{where} (difference {_number(difference.estimate)})."
        )
    interval = (
        f"difference of interquartile means {_number(difference.estimate)}, 95% interval "
        f"{_number(low)} to {_number(high)}, {seeds} shared seeds, swap p = {p_value:.2g}"
    )
    if low == high == 0:
        return f"On {where}, {a} and {b} have the same mean score at each of {seeds} shared seeds."
    claim = f"On {where}, {a} scored {'higher' if low > 0 else 'lower'} than {b}: {interval}"
    if statistics.told_apart(low, high, p_value):
        return f"{claim}."
    excluded, least = not low <= 0 <= high, statistics.least_p_value(seeds)
    if excluded and least > 0.05:
        return f"{claim}; with so few seeds p cannot fall below {least:.2g}, so this is a hint."
    claim = f"On {where}, {a} and {b} cannot be told apart: {interval}"
    if excluded or p_value <= 0.05:
        return f"{claim}; the {'interval' if excluded else 'test'} alone would, and both must."
    return f"{claim}."


def further(pair: Comparison) -> list[str]:
    """Returns what else a reader of a comparison may ask, a line each."""
    chance = pair.probability_of_improvement
    lines = [
        f"a run of {pair.a} beats one of {pair.b}: {_share(chance)}; on a held-out context at the "
        f"same seed: {_share(pair.win_rate)}"
    ]
    if pair.minimum_detectable_difference:  # zero where every seed has the same difference
        needed = pair.seeds_to_separate
        lines.append(
            f"{pair.n_seeds} seeds {finding(pair.n_seeds)} a true difference of "
            f"{_number(pair.minimum_detectable_difference)} with 80% power; one as large as the "
            f"observed needs {'over 10,000' if needed is None else f'about {needed}'}"
        )
    lines += pair.remarks
    for name, cost in pair.per_cost.items():
        if cost.gain_a is not None and cost.gain_b is not None:
            lines.append(
                f"gain over the untrained policy per {'1000 ' if name != 'seconds' else ''}"
                f"{UNITS[name]}: "
                + ", ".join(
                    f"{row} {_number(gain * (1 if name == 'seconds' else 1000))}"
                    for row, gain in ((pair.a, cost.gain_a), (pair.b, cost.gain_b))
                )
            )
    return lines


def finding(seeds: int) -> str:
    """Returns what so many seeds do with a difference large enough: their test may be unable to."""
    return "find" if statistics.least_p_value(seeds) <= 0.05 else "can only hint at"


def _share(value: Rate) -> str:
    if value.low is None or value.high is None:
        return f"{value.estimate:.0%}"
    return f"{value.estimate:.0%} [{value.low:.0%}, {value.high:.0%}]"


def _find(name: str, rows: list[Row]) -> str | None:
    """The row called `name`, or the only one whose configuration's digest begins with it."""
    exact = [row.row for row in rows if row.row == name]
    close = [row.row for row in rows if len(name) >= 8 and row.configuration.startswith(name)]
    matches = exact or close
    return matches[0] if len(matches) == 1 else None


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
