"""What a board says, in one sentence: who is first, who is not told apart, who is worse."""

from __future__ import annotations

from collections.abc import Sequence

from pairbench import statistics
from pairbench.leaderboard.build import Board
from pairbench.leaderboard.pairs import Pair
from pairbench.text import printable

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NAMED = 2
"""Rows that are named before the rest are counted."""


def listed(names: Sequence[str], named: int = NAMED) -> str:
    """Returns "a", "a and b", "a, b and c", or "a, b and six more" beyond one more than `named`."""
    names = [printable(name) for name in names]
    if len(names) > named + 1:
        rest = len(names) - named
        names = [*names[:named], f"{NUMBERS[rest] if rest < len(NUMBERS) else rest} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def conclusion(board: Board) -> str:
    """Returns one sentence on the trained rows that have a rank, "" where there is none.

    Rows of the best rank are not told apart: their own intervals overlap. A row is called worse
    than these where it is told apart from each of them, as `compare` tells (interval and test);
    that is not corrected for how many pairs a board has, which the sentence says unless all of it
    holds after Holm's correction too. Five seeds so call no row worse.
    """
    rows = [row.row for row in board.ranked if not row.floor]
    if len(rows) < 2:
        return ""
    best = min(row.rank or 0 for row in board.ranked if not row.floor)
    first = [row.row for row in board.ranked if not row.floor and row.rank == best]
    pairs = {(pair.a, pair.b): pair for pair in board.pairs}
    worse, corrected = [], True
    for name in rows[len(first) :]:
        met = [pairs.get((one, name)) for one in first]
        if all(pair is not None and _above(pair, pair.p_value) for pair in met):
            worse.append(name)
            corrected &= all(pair is not None and _above(pair, pair.p_holm) for pair in met)
    if len(first) == 1:
        said = f"{listed(first)} is first, its whole interval above the next row's"
    else:
        said = f"{listed(first)} are not told apart"
    if not worse:
        rest = len(rows) > len(first)
        return (
            f"{said}; no other row is shown to be worse than {_these(first)}." * rest or f"{said}."
        )
    how = "corrected for all pairs" if corrected else "uncorrected"
    verb = "is" if len(worse) == 1 else "are"
    them = f"{_these(first)} (paired interval and test, {how})"
    return f"{said}; {listed(worse)} {verb} worse than {them}."


def _above(pair: Pair, p_value: float) -> bool:
    """Whether the first of a pair is told apart from the second, and better."""
    gap = pair.difference
    return gap.estimate > 0 and statistics.told_apart(gap.low, gap.high, p_value)


def _these(first: Sequence[str]) -> str:
    return "it" if len(first) == 1 else "both" if len(first) == 2 else "all of these"
