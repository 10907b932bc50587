"""What the papers assert, as computations that end in a verdict.

`run` measures claims with the registered algorithms; `render` and `write_site` show the results.
What is asserted is data (`claims.toml`); the modules below measure it, one per group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pairbench.errors import PairBenchError
from pairbench.papers.claims import (
    f_divergence,
    hard_pair,
    improvement,
    soft_pair,
    stationary,
    variance,
)
from pairbench.papers.claims.core import CLAIMS, Claim, Number, Result, check
from pairbench.papers.claims.report import render, write_site
from pairbench.text import did_you_mean

MEASURES = (soft_pair, variance, hard_pair, improvement, stationary, f_divergence)
"""The modules that measure the claims."""

__all__ = ["CLAIMS", "Claim", "Number", "Result", "render", "run", "write_site"]


def run(
    ids: Iterable[str] = (), progress: Callable[[Result, int, int], None] | None = None
) -> list[Result]:
    """Measures claims, all of them by default, in the order they are listed in.

    Args:
        progress: called after each with its result, its number from 1 and the number of claims.

    Raises:
        PairBenchError: there is no claim of that name.
    """
    wanted = set(ids)
    for name in sorted(wanted - set(CLAIMS)):
        raise PairBenchError(f"there is no claim {name!r}{did_you_mean(name, CLAIMS)}")
    chosen = [claim for claim in CLAIMS.values() if not wanted or claim.id in wanted]
    results = []
    for index, claim in enumerate(chosen, 1):
        results.append(check(claim))
        if progress is not None:
            progress(results[-1], index, len(chosen))
    return results
