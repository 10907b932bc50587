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
    iqm_differences,
    mean_interval,
    student_t_quantile,
)

EXACT_SWAPS = 14

TIES = 1e-4
"""What the difference of means weighs in the swap test: enough to order equal ones."""


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


def swap_p_value(a: ArrayLike, b: ArrayLike, draws: int = 100_000) -> float:
    """Returns the two-sided permutation p-value of iqm(a) - iqm(b) over shared seeds, (n,) each.

    If the two rows are alike, either could have got either score of a seed; the p-value is the
    share of the 2^n ways to swap scores within seeds whose difference of interquartile means is at
    least as far from zero. Of ways with equal differences, that of the means decides. Exact up to
    14 seeds, beyond that from `draws` seeded swaps, the observed one counted among them. With n
    seeds it cannot fall below 2 / 2^n: 0.25 at three, 0.0625 at five.

    Its null is rows of one distribution. Rows of unlike shape that have one interquartile mean are
    called different too often by it alone: `benchmarks/coverage.py`, and `told_apart`.

    Raises:
        ValueError: if there is no seed, or the rows differ in length.
    """
    return swap_p_values([(a, b)], draws)[0]


def swap_p_values(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]], draws: int = 100_000
) -> list[float]:
    """Returns `swap_p_value` of each pair of rows."""
    found = []
    for a, b in pairs:
        gaps = _differences(a, b)
        if not gaps.size:
            raise ValueError("a swap test needs at least one shared seed")
        lower, upper = np.sort([numbers(a), numbers(b)], axis=0)
        order = np.lexsort([upper, lower])  # neither the seeds' order nor the rows' matters
        scores, first = np.concatenate([lower[order], upper[order]]), (gaps <= 0)[order]
        least = abs(float(_swapped(scores, first[:, None])[0])) - 1e-9 * float(np.abs(gaps).sum())
        hits = sum(
            int((np.abs(_swapped(scores, several)) >= least).sum())
            for several in _swaps(len(gaps), draws)
        )
        if len(gaps) <= EXACT_SWAPS:
            found.append(hits / 2 ** (len(gaps) - 1))
        else:
            found.append((hits + 1) / (draws + 1))
    return found


def _swapped(scores: Array, lower: NDArray[np.bool_]) -> Array:
    """Returns the difference of interquartile means, and a little of the means, of each swap.

    `scores` (2n,) are each seed's lower score and then each seed's upper; `lower` (n, P) says at
    which seeds the first row has the lower one. No swap is sorted: of each score in order it is
    counted how many of the first row's lie at or below, as in `intervals`.
    """
    seeds = len(lower)
    order = np.argsort(scores, kind="stable")
    own = np.concatenate([lower, ~lower])[order[:-1]].astype(np.int16)
    for k in range(1, len(own)):
        own[k] += own[k - 1]
    other = np.arange(1, 2 * seeds, dtype=np.int16)[:, None] - own
    steps = np.diff(scores[order])
    cut = seeds // 4
    kept = np.clip(other, cut, seeds - cut) - np.clip(own, cut, seeds - cut)
    return np.asarray(steps @ (kept / (seeds - 2 * cut)) + TIES * (steps @ ((other - own) / seeds)))


@lru_cache(maxsize=4)  # all boards of as many seeds ask for the same
def _swaps(count: int, draws: int) -> list[NDArray[np.bool_]]:
    """Returns swaps (n, P) in parts: half of all, the rest being their mirror images, or drawn."""
    if count <= EXACT_SWAPS:
        ways = np.arange(2 ** (count - 1))
        return [(ways >> np.arange(count)[:, None] & 1).astype(bool)]
    stream = generator(SEED, f"swaps:{count}")
    return [stream.random((count, size)) < 0.5 for size in _chunks(draws, 5_000)]


def least_p_value(seeds: int) -> float:
    """Returns what a swap test of so many shared seeds cannot fall below: 2 / 2^n."""
    return 2.0 ** (1 - seeds)


def told_apart(low: float | None, high: float | None, p_value: float, level: float = 0.05) -> bool:
    """Returns whether two rows differ: their difference's interval leaves out 0, and p is low.

    Both are asked, as either errs where the other holds: the swap test is exact for rows alike in
    shape, and the interval covers for unlike ones too.

    Raises:
        ValueError: a number is not finite.
    """
    if low is None or high is None:
        return False
    numbers([low, high, p_value])
    return not low <= 0 <= high and p_value <= level


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
