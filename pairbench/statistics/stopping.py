"""When two rows may be called different while seeds are added and looked at one after the other.

A test at 5% that is looked at again after each new seed calls one of five pairs of equal rows
different by the thirtieth. So a look here must pass a level of its own, the same at each (Pocock's
boundary, 1977), for the exact sign-flip test. `benchmarks/stopping.py` simulates it: of 2,000 pairs
of equal rows of each of five shapes, looked at after every seed from the second to the thirtieth,
at most 4.7% are ever called different. The first look that can pass is the eighth seed's, where all
differences have one sign.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from pairbench.statistics.comparisons import sign_flip_p_value

PEEK = 0.008
"""The p-value that a look must reach."""

PEEKED = 30
"""Seeds up to which this keeps false calls below 5%."""


def decided(differences: ArrayLike) -> bool:
    """Returns whether a look at the paired differences so far, (n,), decides between two rows.

    Raises:
        ValueError: there is no difference, or more than the rule was measured for.
    """
    count = len(list(differences))  # type: ignore[arg-type]
    if count > PEEKED:
        raise ValueError(f"the stopping rule is for up to {PEEKED} seeds, not {count}")
    return sign_flip_p_value(differences) <= PEEK
