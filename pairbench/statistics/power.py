"""What a number of seeds can show: differences it would detect, and seeds a difference needs.

Both are for the rule by which two rows are told apart over shared seeds (`told_apart`). For normal
scores its power is nearly that of Student's t-test with as many degrees of freedom as scores are
kept, of a difference `EFFICIENCY` times as large. They plan; they decide nothing. What they say
rests on a standard deviation estimated from few seeds, whose own standard error is a third of it at
five seeds and a quarter at ten.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from pairbench.statistics.aggregates import numbers
from pairbench.statistics.intervals import student_t_quantile

POWER = 0.8
"""The chance, wanted of a comparison, of finding a difference that is there."""

EFFICIENCY = 0.87
"""What an interval of interquartile means makes of a difference: .83 to .91 from 6 to 30 seeds."""

MOST_SEEDS = 10_000


@lru_cache(maxsize=4096)
def power_of_t_test(shift: float, df: int, level: float = 0.95) -> float:
    """Returns the chance that a two-sided t-test finds a difference of `shift` standard errors.

    P(|T| > t) of the noncentral T = (Z + shift) / S with S^2 a chi-square over its `df`: the normal
    probabilities given S, integrated over S by Simpson's rule (absolute error below 1e-6).

    Raises:
        ValueError: if there is no degree of freedom or the shift is not finite.
    """
    if not (df >= 1 and math.isfinite(shift)):
        raise ValueError("a t-test needs at least one degree of freedom, and a finite shift")
    critical = student_t_quantile((1 + level) / 2, df)
    spread = 9.0 / math.sqrt(2 * df)
    s = np.linspace(max(1 - spread, 0.0), 1 + spread, 1201)
    with np.errstate(divide="ignore"):
        exponent = np.where(s > 0, (df - 1) * np.log(np.where(s > 0, s, 1.0)), -np.inf)
    if df == 1:
        exponent = np.zeros_like(s)
    density = np.exp(exponent - df * (s * s - 1) / 2)
    weights = np.tile([2.0, 4.0], 601)[:1201]
    weights[[0, -1]] = 1.0
    mass = density * weights
    found = np.array([_normal(shift - critical * x) + _normal(-shift - critical * x) for x in s])
    return float(found @ mass / mass.sum())


@lru_cache(maxsize=4096)
def detectable_shift(df: int, power: float = POWER, level: float = 0.95) -> float:
    """Returns the difference, in standard errors, that a t-test with `df` finds with `power`.

    About t(level) + t(power) quantiles; exact here by bisection.

    Raises:
        ValueError: if the power is not above the chance of a false alarm and below 1.
    """
    if not (df >= 1 and 1 - level < power < 1):
        raise ValueError("a test's power lies between its chance of a false alarm and 1")
    low, high = 0.0, 1.0
    while power_of_t_test(high, df, level) < power:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power_of_t_test(middle, df, level) < power else (low, middle)
    return high


def kept_degrees(seeds: int) -> int:
    """Returns the degrees of freedom of a difference of interquartile means over shared seeds."""
    return min(seeds - 1, seeds - 2 * (seeds // 4))


def minimum_detectable_difference(
    a: ArrayLike, b: ArrayLike, *, power: float = POWER, level: float = 0.95
) -> float:
    """Returns the least true difference that these seeds would find with `power`.

    Args:
        a: scores (n,) of one row by seed.
        b: scores (n,) of the other, of the same seeds in the same order.
        power: chance of finding the difference, two-sided at 1 - `level`.
        level: coverage of the interval, or one less the chance of a false alarm.

    Raises:
        ValueError: if a row has fewer than two seeds, or the rows differ in length.
    """
    x, y = numbers(a), numbers(b)
    if x.ndim != 1 or y.ndim != 1 or min(len(x), len(y)) < 2:
        raise ValueError("a detectable difference needs at least two seeds of each row")
    if x.shape != y.shape:
        raise ValueError(f"paired rows need the same seeds, not {len(x)} and {len(y)}")
    error = float(np.std(x - y, ddof=1)) / math.sqrt(len(x))
    return error * detectable_shift(kept_degrees(len(x)), power, level) / EFFICIENCY


def seeds_needed(
    difference: float, deviation: float, *, power: float = POWER, level: float = 0.95
) -> int | None:
    """Returns how many shared seeds find a true difference with `power`.

    No fewer than the least number at which the swap test can be significant, which is six at 95%.
    None beyond 10,000, and so for a difference of zero.

    Args:
        difference: the difference to find, in score units; its sign does not matter.
        deviation: standard deviation over seeds of the paired differences.
        power: chance of finding the difference.
        level: one less the chance of a false alarm, two-sided.

    Raises:
        ValueError: if a number is not finite or the deviation is negative.
    """
    if not (math.isfinite(difference) and math.isfinite(deviation)) or deviation < 0:
        raise ValueError("seeds are counted for a finite difference and a deviation of at least 0")
    least = max(2, math.ceil(1 - math.log2(1 - level) - 1e-9))
    if difference == 0:
        return None
    if deviation == 0:
        return least

    def enough(seeds: int) -> bool:
        shift = EFFICIENCY * abs(difference) / deviation * math.sqrt(seeds)
        return power_of_t_test(shift, kept_degrees(seeds), level) >= power

    # The normal approximation is a few seeds short; walk from there.
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    about = (z * deviation / (EFFICIENCY * difference)) ** 2
    if about > MOST_SEEDS:
        return None
    seeds = max(least, int(about))
    while not enough(seeds):
        seeds += 1
    return seeds if seeds <= MOST_SEEDS else None


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
