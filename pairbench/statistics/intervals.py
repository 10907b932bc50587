"""Bootstrap intervals over seeds, stretched for how few there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairbench.seeding import generator
from pairbench.statistics.aggregates import Array, iqm, numbers, performance_profile

Statistic = Callable[[Sequence[Array]], Array]
Answer = TypeVar("Answer")

SEED = 20_250_514
"""Seed of every bootstrap and permutation here: the same data always gives the same interval."""

REPLICATES = 10_000


class Estimate(NamedTuple):
    """A number and its interval; `low` and `high` are None where there are fewer than two seeds."""

    estimate: float
    low: float | None
    high: float | None


def bootstrap(
    strata: Sequence[ArrayLike],
    statistic: Statistic,
    *,
    level: float = 0.95,
    replicates: int = REPLICATES,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Returns a statistic with its small-sample bootstrap interval over seeds.

    Args:
        strata: one array (n_k, ...) per stratum (a task, say), its first axis the seeds. What
            belongs to one seed stays together, so that comparisons over shared seeds stay paired.
        statistic: maps arrays (R, n_k, ...) to (R,), one value per replicate.
        level: nominal coverage.
        replicates: resamples drawn; the generator's seed is fixed, so equal data in any order of
            seeds gives the same interval.
        limits: the statistic's range, which the interval is cut to.

    The percentile interval's distances from the estimate are multiplied by
    t(df) / z * sqrt(n / (n - 1)), with df = sum(n_k - 1) and n the smallest n_k: see the module for
    the coverage this reaches. An interval of no width means that all seeds agree, nothing more.

    Raises:
        ValueError: if a stratum has no seed.
    """
    tables = [numbers(stratum) for stratum in strata]
    counts = [len(table) for table in tables]
    if not counts or min(counts) == 0:
        raise ValueError("a bootstrap needs at least one seed in every stratum")
    data = [canonical(table) for table in tables]
    estimate = float(statistic([stratum[None] for stratum in data])[0])
    if min(counts) < 2:
        return Estimate(estimate, None, None)
    values = statistic(
        [stratum[_resamples(k, len(stratum), replicates)] for k, stratum in enumerate(data)]
    )
    return widened([estimate], values[None], counts, level, limits)[0]


def widened(
    estimates: ArrayLike,
    values: Array,
    counts: Sequence[int],
    level: float = 0.95,
    limits: tuple[float, float] = (-np.inf, np.inf),
    kept: int | None = None,
) -> list[Estimate]:
    """Returns small-sample intervals from bootstrap values: see `bootstrap`.

    Args:
        estimates: (M,) statistics of the data themselves.
        values: (M, R) statistics of the resamples.
        counts: seeds of each stratum, at least two.
        level: nominal coverage.
        limits: the statistics' range, which the intervals are cut to.
        kept: scores that a mean without tails is of, if fewer than degrees of freedom.
    """
    tail = (1 - level) / 2
    ordered = np.sort(values, axis=1)  # twice as fast as parting it at four places
    lows, highs = _quantile(ordered, tail), _quantile(ordered, 1 - tail)
    stretch = _stretch(tuple(counts), level, kept)
    found = []
    for estimate, low, high in zip(np.asarray(estimates, dtype=np.float64), lows, highs):
        down = estimate + stretch * min(low - estimate, 0.0)
        up = estimate + stretch * max(high - estimate, 0.0)
        ends = np.clip([down, up], *limits)
        found.append(Estimate(float(estimate), float(ends[0]), float(ends[1])))
    return found


def _quantile(ordered: Array, share: float) -> Array:
    """Returns the quantile of each row (M, R) of ordered values, as `numpy.quantile` has it."""
    at = share * (ordered.shape[1] - 1)
    below = min(int(at), ordered.shape[1] - 2)
    low, high = ordered[:, below], ordered[:, below + 1]
    return np.asarray(low + (at - below) * (high - low))


def iqm_interval(scores: ArrayLike, level: float = 0.95) -> Estimate:
    """Returns the interquartile mean over seeds, scores (n,), with its interval."""
    return iqm_intervals([scores], level)[0]


def iqm_intervals(rows: Sequence[ArrayLike], level: float = 0.95) -> list[Estimate]:
    """Returns `iqm_interval` of each row, those of as many seeds in one go."""
    tables = [numbers(row) for row in rows]
    return in_groups(tables, lambda several, _: stratified_iqm([several], level=level))


def stratified_iqm(
    tasks: Sequence[ArrayLike], *, level: float = 0.95, replicates: int = REPLICATES
) -> list[Estimate]:
    """Returns each method's interquartile mean over all its runs on all tasks, with its interval.

    Args:
        tasks: one array (methods, n_k) of normalised scores per task, its last axis the seeds.
        level: nominal coverage.
        replicates: resamples drawn, within each task apart (rliable's stratified bootstrap).

    Tasks weigh the same: where they differ in seeds, the scores of one with fewer are counted more
    often. A resample is held as how often it drew each score, so that a mean without tails is a
    matrix product, and one for all methods whose scores of the tasks lie in one order: of one task,
    for all methods. An interval depends on the method's own scores alone, in any order. Its degrees
    of freedom are at most the scores that are not cut.

    Raises:
        ValueError: if a task has no seed, or tasks differ in methods.
    """
    tables = [np.sort(numbers(task), axis=-1) for task in tasks]
    if not tables or any(table.ndim != 2 or not table.shape[1] for table in tables):
        raise ValueError("interquartile means need (methods, seeds) scores with at least one seed")
    if len({len(table) for table in tables}) > 1:
        raise ValueError("every task needs a row of scores for each method")
    counts = [table.shape[1] for table in tables]
    common = math.lcm(*counts)
    total = common * len(counts)
    cut = total // 4
    repeats = np.concatenate([np.full(count, common // count) for count in counts])
    scores = np.concatenate(tables, axis=1)
    kept = sum(counts) - 2 * (sum(counts) // 4)
    if len(counts) == 1:
        plain = iqm(scores).tolist()
    else:
        plain = [float(_trimmed(row[None], repeats[:, None], cut)[0, 0]) for row in scores]
    if min(counts) < 2:
        return [Estimate(estimate, None, None) for estimate in plain]
    if len(counts) == 1:
        values = scores[:, -1:] - np.diff(scores, axis=1) @ _kept_of_one(common, replicates)
        return widened(plain, values, counts, level, kept=kept)
    drawn = np.concatenate(
        [resample_counts(k, count, replicates) for k, count in enumerate(counts)], axis=1
    )
    drawn = np.ascontiguousarray((drawn * repeats).T)
    return widened(plain, _trimmed(scores, drawn, cut), counts, level, kept=kept)


def iqm_differences(
    rows: ArrayLike, pairs: Sequence[tuple[int, int]], level: float = 0.95
) -> list[Estimate]:
    """Returns iqm(a) - iqm(b) over shared seeds, resampled together, of each pair of rows.

    Args:
        rows: (M, n) scores, the columns their shared seeds in one order.
        pairs: numbers of two rows each.
        level: nominal coverage.

    Raises:
        ValueError: if there is no seed.
    """
    table = numbers(rows)
    estimates, seeds = iqm(table), table.shape[1]
    gaps = [float(estimates[a] - estimates[b]) for a, b in pairs]
    if seeds < 2:
        return [Estimate(gap, None, None) for gap in gaps]
    cut = seeds // 4
    means = _trimmed(table, np.ascontiguousarray(resample_counts(0, seeds, REPLICATES).T), cut)
    found: list[Estimate] = []
    for at in range(0, len(pairs), 200):  # 16 MB of differences of resamples at a time
        first, second = np.array(pairs[at : at + 200], dtype=np.int64).T
        moved = means[first] - means[second]
        found += widened(gaps[at : at + 200], moved, [seeds], level, kept=seeds - 2 * cut)
    return found


def mean_interval(
    scores: ArrayLike, level: float = 0.95, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """Returns the mean over seeds with its interval; NaN in a table marks what a seed lacks.

    `scores` is (n,) or (n, K). With K columns (opponents, say), in which NaN is allowed, it is the
    mean over columns of each column's mean over the seeds that have it.

    Raises:
        ValueError: if there is no seed.
    """
    return mean_intervals([scores], level, limits)[0]


def mean_intervals(
    tables: Sequence[ArrayLike],
    level: float = 0.95,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> list[Estimate]:
    """Returns `mean_interval` of each table, those without a gap and of as many seeds in one go.

    Raises:
        ValueError: if one has no seed.
    """
    data = [np.asarray(table, dtype=np.float64) for table in tables]
    for table in data:  # a seed's one number cannot be lacking
        numbers(table if table.ndim < 2 else table[~np.isnan(table)])
    if not all(len(table) for table in data):
        raise ValueError("a mean over seeds needs at least one")
    data = [canonical(table.reshape(len(table), -1)) for table in data]
    estimates = [_mean_of_columns(table) for table in data]
    whole, found = [], {}
    for place, table in enumerate(data):
        if np.isnan(table).any():
            found[place] = _mean_interval_with_gaps(estimates[place], table, level, limits)
        else:
            whole.append(place)

    def intervals(rows: Array, places: Sequence[int]) -> list[Estimate]:
        return _mean_intervals([estimates[whole[k]] for k in places], rows, level, limits)

    found |= zip(whole, in_groups([data[k].mean(axis=1) for k in whole], intervals), strict=True)
    return [found[place] for place in range(len(data))]


def _mean_of_columns(table: Array) -> float:
    """Returns the mean over columns of each column's mean, of a table (n, K) that may have gaps."""
    present = ~np.isnan(table)
    having = present.any(axis=0)
    sums = np.where(present, table, 0.0)[:, having].sum(axis=0)
    return float((sums / present[:, having].sum(axis=0)).sum() / max(having.sum(), 1))


def _mean_intervals(
    estimates: Sequence[float], rows: Array, level: float, limits: tuple[float, float]
) -> list[Estimate]:
    """Intervals of the means of rows (M, n), whose seeds are in the order they are resampled in.

    Resamples are held as differences from the estimate, so that equal scores have no width.
    """
    count = rows.shape[1]
    if count < 2:
        return [Estimate(estimate, None, None) for estimate in estimates]
    above = rows - rows.min(axis=1, keepdims=True)
    moves = above @ _shares(count, REPLICATES) - above.mean(axis=1, keepdims=True)
    return widened(estimates, np.array(estimates)[:, None] + moves, [count], level, limits)


def _mean_interval_with_gaps(
    estimate: float, table: Array, level: float, limits: tuple[float, float]
) -> Estimate:
    """The interval of a table (n, K) whose seeds are in the order they are resampled in."""
    if len(table) < 2:
        return Estimate(estimate, None, None)
    drawn = resample_counts(0, len(table), REPLICATES).astype(np.float64)
    present = ~np.isnan(table)
    having = drawn @ present
    means = drawn @ np.where(present, table, 0.0) / np.maximum(having, 1)
    values = means.sum(axis=1) / np.maximum((having > 0).sum(axis=1), 1)
    return widened([estimate], values[None], [len(table)], level, limits)[0]


def in_groups(
    rows: Sequence[Array],
    answers: Callable[[Array, Sequence[int]], Sequence[Answer]],
    most: int = 200,
) -> list[Answer]:
    """Returns the answers to rows, in their order, asked for by up to `most` rows of one length.

    `answers` takes those rows as a table, and their places among all.
    """
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(len(row), []).append(place)
    found: dict[int, Answer] = {}
    for alike in places.values():
        for at in range(0, len(alike), most):  # 16 MB of means of resamples at a time
            several = alike[at : at + most]
            told = answers(np.stack([rows[k] for k in several]), several)
            found |= zip(several, told, strict=True)
    return [found[place] for place in range(len(rows))]


@lru_cache
def student_t_quantile(p: float, df: int) -> float:
    """Returns the quantile of Student's t, by the substitution t = sqrt(df) tan(angle).

    The density of the angle is proportional to cos(angle)^(df - 1); its integral is tabulated by
    Simpson's rule and inverted by linear interpolation (absolute error below 1e-6 for p in
    [0.005, 0.995]).

    Raises:
        ValueError: `p` is no probability, or there is no degree of freedom.
    """
    if not (0 < p < 1 and df >= 1):
        raise ValueError("a quantile of Student's t needs a probability and a degree of freedom")
    angle = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
    density = np.cos(angle).clip(0) ** (df - 1)
    pieces = density[:-2:2] + 4 * density[1::2] + density[2::2]
    area = np.concatenate([[0.0], np.cumsum(pieces)])
    return float(np.sqrt(df) * np.tan(np.interp(p * area[-1], area, angle[::2])))


def _stretch(counts: tuple[int, ...], level: float, kept: int | None = None) -> float:
    upper = (1 + level) / 2
    n = min(counts)
    df = min(sum(count - 1 for count in counts), kept or math.inf)
    z = NormalDist().inv_cdf(upper)
    return student_t_quantile(upper, int(df)) / z * float(np.sqrt(n / (n - 1)))


@lru_cache(maxsize=8)  # a board asks for the same ones hundreds of times
def _resamples(stratum: int, count: int, replicates: int) -> NDArray[np.int64]:
    stream = generator(SEED, f"bootstrap:{stratum}:{count}")
    drawn = stream.integers(0, count, (replicates, count))
    drawn.flags.writeable = False
    return drawn


def profile_interval(
    tasks: Sequence[ArrayLike], levels: ArrayLike, confidence: float = 0.95
) -> list[Estimate]:
    """Returns the share of runs above each level, tasks weighing the same, with pointwise bands.

    Args:
        tasks: one row (n_k,) of normalised scores per task.
        levels: (L,) score levels.
        confidence: nominal coverage at each level.

    The bands are Wilson's (E. B. Wilson, "Probable Inference", 1927) for K^2 / sum(1 / n_k) runs,
    which is their number where all tasks have as many. rliable's bootstrap bands have no width
    where all runs lie on one side of a level, and cover 40% near there with five seeds; these cover
    90 to 99% (see the module).

    Raises:
        ValueError: if a task has no seed.
    """
    tables = [numbers(task).ravel() for task in tasks]
    if not tables:
        raise ValueError("a performance profile needs at least one task")
    shares = np.mean([performance_profile(table, levels) for table in tables], axis=0)
    runs = len(tables) ** 2 / sum(1 / len(table) for table in tables)
    if runs < 2:
        return [Estimate(float(share), None, None) for share in shares]
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (shares + z * z / (2 * runs)) / (1 + z * z / runs)
    half = z / (1 + z * z / runs)
    half = half * np.sqrt(shares * (1 - shares) / runs + (z / (2 * runs)) ** 2)
    return [
        Estimate(float(p), float(max(m - h, 0.0)), float(min(m + h, 1.0)))
        for p, m, h in zip(shares, middle, half)
    ]


@lru_cache(maxsize=8)
def resample_counts(stratum: int, count: int, replicates: int) -> NDArray[np.int32]:
    """Returns (replicates, count): how often each resample of `bootstrap` draws each seed."""
    flat = _resamples(stratum, count, replicates) + np.arange(replicates)[:, None] * count
    drawn = np.bincount(flat.ravel(), minlength=replicates * count)
    counts = drawn.reshape(replicates, count).astype(np.int32)
    counts.flags.writeable = False
    return counts


@lru_cache(maxsize=4)
def _shares(count: int, replicates: int) -> Array:
    """Returns (count, replicates): the share of each resample that is a seed, of one stratum."""
    shares = resample_counts(0, count, replicates).T / count
    shares.flags.writeable = False
    return shares


def _trimmed(scores: Array, counts: NDArray[np.integer[Any]], cut: int) -> Array:
    """Returns the means (M, R) of multisets without their `cut` lowest and highest members.

    `scores` (M, N) in any order; `counts` (N, R) says how often each multiset holds each.
    """
    size = int(counts[:, 0].sum()) - 2 * cut
    alike: dict[bytes, list[int]] = {}
    orders = np.argsort(scores, axis=1, kind="stable")
    for place, order in enumerate(orders):
        alike.setdefault(order.tobytes(), []).append(place)
    means = np.empty((len(scores), counts.shape[1]))
    for several in alike.values():
        order = orders[several[0]]
        own = scores[np.ix_(several, order)]
        means[several] = own[:, -1:] - np.diff(own, axis=1) @ _kept(counts[order], cut, size)
    return means


def _kept(counts: NDArray[np.integer[Any]], cut: int, size: int) -> Array:
    """Returns (N - 1, R): the share of each multiset's middle that is at or below each score."""
    below = counts[:-1].astype(np.int32)
    for k in range(1, len(below)):  # ten times as fast as a cumulative sum along this axis
        below[k] += below[k - 1]
    np.clip(below, cut, cut + size, out=below)
    below -= cut
    return np.asarray(below / size)


@lru_cache(maxsize=4)
def _kept_of_one(count: int, replicates: int) -> Array:
    """Returns `_kept` of the resamples of one task, whose scores always lie in one order."""
    cut = count // 4
    kept = _kept(resample_counts(0, count, replicates).T, cut, count - 2 * cut)
    kept.flags.writeable = False
    return kept


def canonical(stratum: Array) -> Array:
    """Returns the seeds in an order that depends on their values alone."""
    return stratum[np.lexsort(stratum.reshape(len(stratum), -1).T[::-1])]
