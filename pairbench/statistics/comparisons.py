"""Comparisons of two rows over shared seeds and contexts, and of many pairs at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairbench.seeding import generator
from pairbench.statistics.aggregates import Array, numbers
from pairbench.statistics.intervals import (
    SEED,
    Estimate,
    in_groups,
    iqm_differences,
    mean_interval,
    student_t_quantile,
)

EXACT_FLIPS = 20


def win_rate(a: ArrayLike, b: ArrayLike) -> Array:
    """Returns the share of contexts in which `a` beats `b`, a tie counting one half.

    Args:
        a: (..., contexts) scores; one result per leading index (seed).
        b: the other's, on the same contexts.

    Raises:
        ValueError: if the shapes differ or there is no context.
    """
    x, y = numbers(a), numbers(b)
    if x.shape != y.shape or x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"win rates need scores on the same contexts, not {x.shape} and {y.shape}")
    return np.asarray(((x > y) + 0.5 * (x == y)).mean(axis=-1))


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> Array:
    """Returns P(A > B) over all pairs of one score (..., n) and another (..., m), ties one half.

    The Mann-Whitney statistic over n m, as in rliable (arXiv 2108.13264, section 4.3).
    """
    x = numbers(a)[..., :, None]
    y = numbers(b)[..., None, :]
    return np.asarray(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))


def paired_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Returns the mean of a - b over shared seeds, (n,) in one order, with its interval.

    Of skewed or collapsing rows it covers too little (see the module): `paired_iqm_difference` is
    what boards show.
    """
    return mean_interval(_differences(a, b), level=level)


def paired_iqm_difference(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Returns iqm(a) - iqm(b) over shared seeds, (n,) in one order, resampled together."""
    _differences(a, b)
    return iqm_differences(np.array([a, b]), [(0, 1)], level)[0]


def paired_probability_of_improvement(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Returns P(A > B) over all pairs of runs, rows (n,) of shared seeds, with its interval.

    The interval is not a bootstrap: where every run of one row beats every run of the other, no
    resample differs, and measured coverage falls to 0.2. It holds the probabilities that the
    Mann-Whitney statistic's own variance allows: method 5 of R. G. Newcombe, "Confidence intervals
    for an effect size measure based on the Mann-Whitney statistic, part 2" (2006), with Student's t
    of n - 1 degrees of freedom in the place of his normal quantile, which at five seeds covers .83
    in the worst case. It knows nothing of what shared seeds share, and so is too wide where they
    share much.
    """
    seeds = len(_differences(a, b))
    share = float(probability_of_improvement(a, b))
    if seeds < 2:
        return Estimate(share, None, None)
    return Estimate(share, *_newcombe(share, seeds, level))


@lru_cache(maxsize=4096)
def _newcombe(share: float, seeds: int, level: float) -> tuple[float, float]:
    """Returns the least and the largest probability that the share of won pairs allows."""
    t = student_t_quantile((1 + level) / 2, seeds - 1)

    def end(far: float) -> float:
        """The probability between the estimate and `far` that is t deviations away."""
        near = share
        for _ in range(60):
            at = (near + far) / 2
            more = (seeds - 1) * ((1 - at) / (2 - at) + at / (1 + at))
            deviation = np.sqrt(at * (1 - at) * (1 + more)) / seeds
            near, far = (at, far) if abs(at - share) <= t * deviation else (near, at)
        return float(near)

    return end(0.0), end(1.0)


def sign_flip_p_value(differences: ArrayLike, draws: int = 100_000) -> float:
    """Returns the two-sided sign-flip permutation p-value of a mean of paired differences (n,).

    If neither row is better, each difference is as likely with either sign; the p-value is the
    share of the 2^n sign patterns whose mean is at least as far from zero. Exact up to 20 seeds,
    beyond that from `draws` seeded patterns, the observed one counted among them. With n seeds it
    cannot fall below 2 / 2^n: 0.25 at three, 0.0625 at five.

    Raises:
        ValueError: if there is no difference.
    """
    return sign_flip_p_values([differences], draws)[0]


def sign_flip_p_values(rows: Sequence[ArrayLike], draws: int = 100_000) -> list[float]:
    """Returns `sign_flip_p_value` of each row of differences, those of one length in one go.

    Raises:
        ValueError: if a row has no difference.
    """
    tables = [np.sort(numbers(row).ravel()) for row in rows]
    if not all(table.size for table in tables):
        raise ValueError("a sign-flip test needs at least one difference")
    return in_groups(tables, lambda several, _: _sign_flips(several, draws))


def _sign_flips(rows: Array, draws: int) -> list[float]:
    count = rows.shape[1]
    observed = np.abs(rows.sum(axis=1)) - 1e-9 * np.abs(rows).sum(axis=1)
    if count <= EXACT_FLIPS:
        return [_exact_flips(row, least) for row, least in zip(rows, observed, strict=True)]
    hits = np.zeros(len(rows), dtype=np.int64)
    for signs in _signs(count, draws):
        hits += (np.abs(rows @ signs.astype(np.float64)) >= observed[:, None]).sum(axis=1)
    return [(own + 1) / (draws + 1) for own in hits.tolist()]


@lru_cache(maxsize=2)  # all boards of as many seeds ask for the same
def _signs(count: int, draws: int) -> list[NDArray[np.int8]]:
    """Returns random signs of `count` differences, in parts that a processor's cache holds."""
    stream = generator(SEED, f"sign-flip:{count}")
    return [
        (stream.integers(0, 2, (size, count)) * 2 - 1).T.astype(np.int8, order="C")
        for size in _chunks(draws, 1_000)
    ]


def _exact_flips(values: Array, least: float) -> float:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= least))


def kendall_tau(a: ArrayLike, b: ArrayLike) -> Array:
    """Returns Kendall's rank correlation of scores `a` (..., M) with `b` (M,): tau-a.

    The share of pairs in the same order less that in the other; a tie is in neither.

    Raises:
        ValueError: if there are fewer than two scores, or not as many of both.
    """
    x, y = numbers(a), numbers(b)
    if y.ndim != 1 or len(y) < 2 or x.shape[-1:] != y.shape:
        raise ValueError(f"a rank correlation needs two scores or more, not {x.shape}, {y.shape}")
    first, second = np.triu_indices(len(y), 1)
    order = np.sign(x[..., first] - x[..., second]) * np.sign(y[first] - y[second])
    return np.asarray(order.mean(axis=-1))


def rank_correlation(scores: ArrayLike, reference: ArrayLike, level: float = 0.95) -> Estimate:
    """Returns Kendall's tau of a seed's order of rows with `reference`, mean over seeds.

    Args:
        scores: (n, M), a seed's runs of all M rows.
        reference: (M,) numbers in the order to compare with.
        level: nominal coverage.

    Not tau of the rows' means: among rows that hardly differ that number jumps, and its bootstrap
    interval covers .62 to .80. Intervals of this mean cover .81 to .93 at three seeds, .88 to .96
    at five and .94 to .98 at ten (300 samples, three and five rows up to a deviation apart); one
    without width says that all seeds have one order, nothing more.
    """
    return mean_interval(kendall_tau(scores, reference), level=level, limits=(-1.0, 1.0))


def holm(p_values: ArrayLike) -> Array:
    """Returns p-values (k,) corrected for being k, in the same order.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979): the j-th smallest
    times k - j + 1, never below one before it, at most 1. Calling significant what stays below 0.05
    makes any false call with at most that chance, however the tests depend on each other.

    Raises:
        ValueError: if a p-value is not in [0, 1].
    """
    given = numbers(p_values).ravel()
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("p-values lie between 0 and 1")
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1))
    return np.minimum(corrected, 1.0)


def _differences(a: ArrayLike, b: ArrayLike) -> Array:
    x, y = numbers(a), numbers(b)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"paired scores must be two equal rows of seeds, not {x.shape}, {y.shape}")
    return x - y


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
