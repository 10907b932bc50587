"""Numbers that stand for many runs: means without tails, medians, gaps, shares above a level."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def numbers(values: ArrayLike) -> Array:
    """Returns values as an array of float64.

    Raises:
        ValueError: one is NaN or infinite, of which no statistic is true.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(
            "statistics need finite numbers, and a value is NaN or infinite: leave out what failed "
            "or was not measured"
        )
    return array


def iqm(scores: ArrayLike, axis: int = -1) -> Array:
    """Returns the interquartile mean along `axis`: the mean without the lowest and highest quarter.

    The definition of rliable (Agarwal et al. 2021, arXiv 2108.13264): `floor(n / 4)` whole scores
    are cut on either side. Up to three it is the mean; of five one and of ten two are cut, 20%.

    Raises:
        ValueError: if there is no score along the axis.
    """
    ordered = np.sort(np.moveaxis(numbers(scores), axis, -1), axis=-1)
    count = ordered.shape[-1]
    if count == 0:
        raise ValueError("the interquartile mean of no scores is undefined")
    cut = count // 4
    return np.asarray(ordered[..., cut : count - cut].mean(axis=-1))


def median(scores: ArrayLike, axis: int = -1) -> Array:
    """Returns the median along `axis`; of an even number of scores, the mean of the middle two.

    Raises:
        ValueError: if there is no score along the axis.
    """
    table = numbers(scores)
    if table.shape[axis] == 0:
        raise ValueError("the median of no scores is undefined")
    return np.asarray(np.median(table, axis=axis))


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> Array:
    """Returns by how much runs fall short of `target` on average, scores (..., n): 0 is best.

    The mean of max(target - score, 0): what lies above the target makes up for nothing (rliable's
    definition, arXiv 2108.13264, section 4.3, where the target is called gamma). Several tasks'
    scores must be normalised to one scale first.

    Raises:
        ValueError: if there is no score.
    """
    table = numbers(scores)
    if table.shape[-1] == 0:
        raise ValueError("the optimality gap of no scores is undefined")
    return np.asarray(np.maximum(numbers(target) - table, 0.0).mean(axis=-1))


def performance_profile(scores: ArrayLike, levels: ArrayLike) -> Array:
    """Returns the share of runs that score above each level: scores (..., n) give (..., levels).

    The run-score distribution of rliable (arXiv 2108.13264, section 4.2). Its area between two
    levels is the mean of the scores clipped to them, less the lower level.

    Raises:
        ValueError: if there is no score.
    """
    table = numbers(scores)
    if table.shape[-1] == 0:
        raise ValueError("the performance profile of no scores is undefined")
    above = table[..., None, :] > numbers(levels)[:, None]
    return np.asarray(above.mean(axis=-1))
