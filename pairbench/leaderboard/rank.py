"""Who stands where on a board: order, shared ranks, who has none, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from pairbench.evaluation import Measure
from pairbench.leaderboard.pairs import Gaps
from pairbench.leaderboard.rows import Reward, Row, Scores

STANDARD_ERRORS = 3.0
"""By which a trained row should beat the untrained policy."""


def _below(row: Row, measures: Iterable[Measure]) -> str | None:
    """Returns a sentence if the row's policies fall below the guard of a measure."""
    for measure in measures:
        guard, found = measure.guard, row.measures.get(measure.name)
        if guard is not None and found is not None and found.iqm < guard.floor:
            return (
                f"no rank: {guard.fails} ({found.iqm:.2f} {guard.of or measure.title}, less than "
                f"{guard.floor:g}): its scores are not to be read"
            )
    return None


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


def ranked(
    rows: Sequence[Row],
    scores: Mapping[str, Scores],
    untrained: Scores,
    measures: Collection[Measure] = (),
    nobody: bool = False,
    gaps: Gaps | None = None,
    yardstick: str | None = None,
) -> list[Row]:
    """Returns rows best first, then those without a rank, with shared ranks and reasons.

    No rank without an interval (one seed), nor with failures, nor for policies below the guard of a
    measure, as those that repeat themselves: what a judge says of such is not to be read, and so
    sets no other row back.

    Args:
        rows: without ranks.
        scores: of each row, by its name.
        untrained: of the untrained policy; empty where the board has none.
        measures: what the board's measures mean.
        nobody: the board is a demonstration, which ranks nobody.
        gaps: paired differences, where a seed is a problem and rows are ranked by these.
        yardstick: the algorithm that a trained row should beat.
    """
    below = {row.row: _below(row, measures) for row in rows if row.status == "finished"}
    placed = sorted(rows, key=lambda row: _order(row, below.get(row.row) is not None))
    having = [
        row.reward if row.status == "finished" and not (below[row.row] or nobody) else None
        for row in placed
    ]
    ranks = shared_ranks(having) if gaps is None else _paired_ranks(placed, having, gaps)
    first = next(
        (row.row for row, rank in zip(placed, ranks, strict=True) if rank and not row.floor), None
    )
    least = next((row.row for row in placed if row.algorithm == yardstick), None)
    return [
        row.model_copy(
            update={
                "rank": rank,
                "behind": None if gaps is None or first is None else gaps.get((row.row, first)),
                "reason": row.reason
                if row.status != "finished"
                else _reason(
                    row,
                    scores[row.row],
                    untrained,
                    below[row.row],
                    _no_better(row, least, gaps or {}),
                ),
            }
        )
        for row, rank in zip(placed, ranks, strict=True)
    ]


def _reason(row: Row, scores: Scores, untrained: Scores, *others: str | None) -> str | None:
    """Returns what must be said of a finished row beside its numbers."""
    alone = row.n_seeds == 1 and not others[0]
    reasons = ["no rank: one seed gives no interval" if alone else None]
    if not row.floor:
        reasons += [_no_gain(scores, untrained), *others]
    return "; ".join(filter(None, reasons)) or None


def _no_better(row: Row, least: str | None, gaps: Gaps) -> str | None:
    """Returns a sentence if a row is not clearly above the one that it should beat."""
    gap = gaps.get((row.row, least or ""))
    if gap is None or gap.low is None or gap.low > 0:
        return None
    interval = f"{gap.estimate:+.3g} [{gap.low:.3g}, {gap.high:.3g}]"
    return f"does not beat {least} at an equal budget: {interval}"


def _paired_ranks(
    rows: Sequence[Row], rewards: Sequence[Reward | None], gaps: Gaps
) -> list[int | None]:
    """Returns ranks as `shared_ranks` does, a row lying above another by their paired interval."""
    having = [
        row.row
        for row, reward in zip(rows, rewards, strict=True)
        if reward is not None and reward.low is not None
    ]
    above = [
        1
        + sum(
            (gap := gaps.get((other, name))) is not None and (gap.low or 0) > 0 for other in having
        )
        for name in having
    ]
    ranks = dict(zip(having, np.maximum.accumulate(above).tolist(), strict=True))
    return [ranks.get(row.row) for row in rows]


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


def _order(row: Row, below: bool) -> tuple[int, float, str]:
    kinds = ("finished", "below a guard", "partial", "failed", "skipped")
    kind = kinds.index("below a guard" if below else row.status)
    return (kind, -(row.reward.iqm if row.reward else 0.0), row.row)
