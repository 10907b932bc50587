"""Who stands where on a board: order, shared ranks, who has none, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pairbench.leaderboard.rows import GUARD, LEAST_VARIETY, Reward, Row, Scores

STANDARD_ERRORS = 3.0
"""By which a trained row should beat the untrained policy."""


def _repeats(row: Row) -> str | None:
    """Returns a sentence if the row's policies repeat themselves."""
    found = row.measures.get(GUARD)
    if found is None or found.iqm >= LEAST_VARIETY:
        return None
    return (
        f"no rank: repeats itself ({found.iqm:.2f} of the untrained policy's variety, less than "
        f"{LEAST_VARIETY:g}): its scores are not to be read"
    )


def _no_gain(ours: Scores, theirs: Scores) -> str | None:
    """Returns a sentence if the seeds' mean score is not clearly above the untrained policy's.

    The standard error is over held-out contexts, of differences averaged over the seeds.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    gains = np.mean([np.subtract(ours[seed], theirs[seed]) for seed in seeds], axis=0)
    gain, error = float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)
    if gain > STANDARD_ERRORS * error:
        return None
    return (
        f"does not beat the untrained policy by {STANDARD_ERRORS:g} standard errors over held-out "
        f"contexts: {gain:+.3g} ± {error:.2g}"
    )


def ranked(rows: Iterable[Row], scores: Mapping[str, Scores], untrained: Scores) -> list[Row]:
    """Returns rows best first, then those without a rank, with shared ranks and reasons.

    No rank without an interval (one seed), nor with failures, nor for policies that repeat
    themselves: what a judge says of those is not to be read, and so sets no other row back.

    Args:
        rows: without ranks.
        scores: of each row, by its name.
        untrained: of the untrained policy; empty where the board has none.
    """
    rows = sorted(rows, key=_order)
    having = [
        row.reward if row.status == "finished" and not _repeats(row) else None for row in rows
    ]
    return [
        row.model_copy(update={"rank": rank, "reason": _reason(row, scores[row.row], untrained)})
        for row, rank in zip(rows, shared_ranks(having), strict=True)
    ]


def _reason(row: Row, scores: Scores, untrained: Scores) -> str | None:
    """Returns what must be said of a row beside its numbers."""
    if row.status != "finished":
        return row.reason
    alone = row.n_seeds == 1 and not _repeats(row)
    reasons = ["no rank: one seed gives no interval" if alone else None]
    if not row.floor:
        reasons += [_no_gain(scores, untrained), _repeats(row)]
    return "; ".join(filter(None, reasons)) or None


def shared_ranks(rewards: Sequence[Reward | None]) -> list[int | None]:
    """Returns the ranks of rewards, best estimate first; None for one without an interval.

    A rank is one more than the number of rewards whose whole interval lies above that one's, and
    never better than that of a reward with a better estimate: a wide interval, as of few seeds,
    neither lifts its own row nor drags the rows that it overlaps into one group.
    """
    having = [r for r in rewards if r is not None and r.low is not None and r.high is not None]
    lows = np.array([reward.low for reward in having])
    above = [1 + int((lows > reward.high).sum()) for reward in having]
    ranks = iter(np.maximum.accumulate(above).tolist())
    return [
        None if reward is None or reward.low is None or reward.high is None else next(ranks)
        for reward in rewards
    ]


def _order(row: Row) -> tuple[Any, ...]:
    kinds = ("finished", "repeats itself", "partial", "failed", "skipped")
    repeats = row.status == "finished" and _repeats(row)
    kind = kinds.index("repeats itself" if repeats else row.status)
    return (kind, -(row.reward.iqm if row.reward else 0.0), row.row)
