"""When two rows may be called different while seeds are added and looked at one after the other.

A test at 5% that is looked at again after each new seed calls one of five pairs of equal rows
different by the thirtieth. So a look here must pass a level of its own, the same at each (Pocock's
boundary, 1977): the swap test's p-value, and an interval of as much confidence that leaves out
zero. `benchmarks/stopping.py` simulates it: of 2,000 pairs of rows each, of six shapes and of five
pairs of unlike shapes with one interquartile mean, looked at after every seed from the second to
the thirtieth, at most 2.9% are ever called different. The first look that can pass is the eighth
seed's, where all differences have one sign.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from pairbench.statistics.comparisons import paired_iqm_difference, swap_p_value, told_apart

PEEK = 0.008
"""The p-value that a look must reach, and what its interval may leave out."""

PEEKED = 30
"""Seeds up to which this keeps false calls below 5%."""


def decided(a: ArrayLike, b: ArrayLike) -> bool:
    """Returns whether a look at two rows' shared seeds so far, (n,) each, decides between them.

    Raises:
        ValueError: there is no seed, or more than the rule was measured for.
    """
    count = len(list(a))  # type: ignore[arg-type]
    if count > PEEKED:
        raise ValueError(f"the stopping rule is for up to {PEEKED} seeds, not {count}")
    p_value = swap_p_value(a, b)  # the interval takes far longer, and most looks end here
    if p_value > PEEK:
        return False
    _, low, high = paired_iqm_difference(a, b, 1 - PEEK)
    return told_apart(low, high, p_value, PEEK)
