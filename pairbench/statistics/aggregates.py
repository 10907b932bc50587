"""Numbers that stand for many runs: means without tails, medians, gaps, shares above a level."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def iqm(scores: ArrayLike, axis: int = -1) -> Array:
    """Returns the interquartile mean along `axis`: the mean without the lowest and highest quarter.

    The definition of rliable (Agarwal et al. 2021, arXiv 2108.13264): `floor(n / 4)` scores are cut
    on either side, so up to three scores it is the mean.

    Raises:
        ValueError: if there is no score along the axis.
    """
    ordered = np.sort(np.moveaxis(np.asarray(scores, dtype=np.float64), axis, -1), axis=-1)
    count = ordered.shape[-1]
    if count == 0:
        raise ValueError("the interquartile mean of no scores is undefined")
    cut = count // 4
    return np.asarray(ordered[..., cut : count - cut].mean(axis=-1))
