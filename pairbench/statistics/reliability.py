"""How steadily runs learn, and how badly they can go.

The measures of S. Chan et al., "Measuring the Reliability of Reinforcement Learning Algorithms"
(ICLR 2020, arXiv 1912.05663, section 4), in the units of the scores. Two things differ, because a
curve here has about ten points and not a thousand: the window of a measure within a run is the
whole run, and curves are not low-pass filtered before runs are compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pairbench.statistics.aggregates import Array, numbers

TAIL = 0.05
"""The share of worst values that a conditional value at risk averages, as in the paper."""


def differences(curves: ArrayLike) -> Array:
    """Returns the changes between successive points of curves (..., P), the trend removed.

    Raises:
        ValueError: if there are fewer than two points.
    """
    values = numbers(curves)
    if not values.ndim or values.shape[-1] < 2:
        raise ValueError("changes along a learning curve need at least two points")
    return np.asarray(np.diff(values))


def conditional_value_at_risk(values: ArrayLike, tail: float = TAIL) -> Array:
    """Returns the mean of those of the values (..., n) at or below their `tail` quantile.

    Of up to 20 different values and a tail of 0.05 it is the worst one.

    Raises:
        ValueError: if there is no value or the tail is not in (0, 1].
    """
    array = numbers(values)
    if not array.size or not 0 < tail <= 1:
        raise ValueError("a value at risk needs values, and a tail above 0 and up to 1")
    worst = array <= np.quantile(array, tail, axis=-1, keepdims=True)
    return np.asarray(np.where(worst, array, 0.0).sum(axis=-1) / worst.sum(axis=-1))


def dispersion_across_time(curves: ArrayLike) -> Array:
    """Returns the interquartile range of a run's changes between evaluations: how much it jitters.

    A steady climb, however steep, has none. The paper's DT, of each of the curves (..., P).
    """
    high, low = np.quantile(differences(curves), [0.75, 0.25], axis=-1)
    return np.asarray(high - low)


def short_term_risk(curves: ArrayLike, tail: float = TAIL) -> Array:
    """Returns the mean of a run's worst changes between evaluations: lower is worse.

    The paper's SRT, the conditional value at risk of `differences`, of each of the curves (..., P).
    """
    return conditional_value_at_risk(differences(curves), tail)


def dispersion_across_runs(curves: ArrayLike) -> Array:
    """Returns the interquartile range over runs at each evaluation: curves (n, P) give (P,).

    The paper's DR.

    Raises:
        ValueError: if there is no run.
    """
    table = numbers(curves)
    if table.ndim != 2 or not len(table):
        raise ValueError("dispersion across runs needs learning curves of equal length")
    high, low = np.quantile(table, [0.75, 0.25], axis=0)
    return np.asarray(high - low)


def risk_across_runs(scores: ArrayLike, tail: float = TAIL) -> float:
    """Returns the mean final score of the worst runs, scores (n,).

    The paper's RR. Of up to 20 runs and the usual tail it is the worst run's score.
    """
    return float(conditional_value_at_risk(scores, tail))
