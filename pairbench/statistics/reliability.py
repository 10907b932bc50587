"""How steadily runs learn, and how badly they can go (Chan et al. 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def drawdown(curve: ArrayLike) -> float:
    """Returns the largest fall of a learning curve (P,) below its running maximum, at least 0."""
    values = np.asarray(curve, dtype=np.float64)
    if not values.size:
        raise ValueError("a learning curve without a point has no drawdown")
    return float(np.max(np.maximum.accumulate(values) - values))
