"""Bootstrap intervals over seeds, stretched for how few there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairbench.seeding import generator
from pairbench.statistics.aggregates import Array, iqm

Statistic = Callable[[Sequence[Array]], Array]

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
    tables = [np.asarray(stratum, dtype=np.float64) for stratum in strata]
    counts = [len(table) for table in tables]
    if not counts or min(counts) == 0:
        raise ValueError("a bootstrap needs at least one seed in every stratum")
    data = [_canonical(table) for table in tables]
    estimate = float(statistic([stratum[None] for stratum in data])[0])
    if min(counts) < 2:
        return Estimate(estimate, None, None)
    values = statistic(
        [stratum[_resamples(k, len(stratum), replicates)] for k, stratum in enumerate(data)]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    stretch = _stretch(tuple(counts), level)
    floor, ceiling = limits
    return Estimate(
        estimate,
        float(np.clip(estimate + stretch * min(low - estimate, 0.0), floor, ceiling)),
        float(np.clip(estimate + stretch * max(high - estimate, 0.0), floor, ceiling)),
    )


def iqm_interval(scores: ArrayLike, level: float = 0.95) -> Estimate:
    """Returns the interquartile mean over seeds, scores (n,), with its interval."""
    return bootstrap([scores], lambda strata: iqm(strata[0]), level=level)


def mean_interval(
    scores: ArrayLike, level: float = 0.95, limits: tuple[float, float] = (-np.inf, np.inf)
) -> Estimate:
    """Returns the mean over seeds with its interval; NaN marks what a seed lacks.

    `scores` is (n,) or (n, K); with K columns (opponents, say) it is the mean over columns of each
    column's mean over the seeds that have it.
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table.reshape(len(table), -1)
    return bootstrap(
        [table], lambda strata: _mean_of_columns(strata[0]), level=level, limits=limits
    )


@lru_cache
def student_t_quantile(p: float, df: int) -> float:
    """Returns the quantile of Student's t, by the substitution t = sqrt(df) tan(angle).

    The density of the angle is proportional to cos(angle)^(df - 1); its integral is tabulated by
    Simpson's rule and inverted by linear interpolation (absolute error below 1e-6 for p in
    [0.005, 0.995]).
    """
    angle = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
    density = np.cos(angle).clip(0) ** (df - 1)
    pieces = density[:-2:2] + 4 * density[1::2] + density[2::2]
    area = np.concatenate([[0.0], np.cumsum(pieces)])
    return float(np.sqrt(df) * np.tan(np.interp(p * area[-1], area, angle[::2])))


def _stretch(counts: tuple[int, ...], level: float) -> float:
    upper = (1 + level) / 2
    n = min(counts)
    df = sum(count - 1 for count in counts)
    z = NormalDist().inv_cdf(upper)
    return student_t_quantile(upper, df) / z * float(np.sqrt(n / (n - 1)))


def _resamples(stratum: int, count: int, replicates: int) -> NDArray[np.int64]:
    stream = generator(SEED, f"bootstrap:{stratum}:{count}")
    return stream.integers(0, count, (replicates, count))


def _canonical(stratum: Array) -> Array:
    """Returns the seeds in an order that depends on their values alone."""
    return stratum[np.lexsort(stratum.reshape(len(stratum), -1).T[::-1])]


def _mean_of_columns(table: Array) -> Array:
    present = ~np.isnan(table)
    counts = present.sum(axis=1)
    sums = np.where(present, table, 0.0).sum(axis=1)
    means = sums / np.maximum(counts, 1)
    return np.asarray((means * (counts > 0)).sum(axis=1) / np.maximum((counts > 0).sum(axis=1), 1))
