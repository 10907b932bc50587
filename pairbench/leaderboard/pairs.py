"""Two rows of a board at a time: who won where, by how much, and what all of it can tell apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations

import numpy as np

from pairbench import statistics
from pairbench.leaderboard.rows import Frozen, Rate, Rates, Scores, rate, rounded

Wins = dict[tuple[str, str], Rates]
"""Of each row over each other."""

Gaps = dict[tuple[str, str], Rate]
"""Of each two rows: interquartile mean of the first less the second's, over the seeds of both."""


class Strength(Frozen):
    """A row's Bradley-Terry strength on a board: log-odds, the mean of the rows being zero."""

    row: str
    estimate: float
    low: float | None = None
    high: float | None = None


class HeadToHead(Frozen):
    """Share of held-out contexts on which each row beats each other, ties one half.

    `shares[i][j]` is row i's against row j, averaged over the `seeds[i][j]` seeds that both have;
    None where there is none.
    """

    rows: list[str]
    shares: list[list[float | None]]
    seeds: list[list[int]]


class Pair(Frozen):
    """Two rows over the `n_seeds` seeds they share.

    `difference` is of their interquartile means there, a's less b's, as rows are ranked. `p_value`
    is of the test that swaps scores within seeds, `p_holm` the same corrected for all pairs of the
    board (Holm 1979).
    """

    a: str
    b: str
    n_seeds: int
    difference: Rate
    p_value: float
    p_holm: float


class Resolution(Frozen):
    """What the pairs of a board, of two seeds or more, can tell apart.

    Attributes:
        pairs: how many they are.
        separated: those whose interval leaves out 0 and whose `p_holm` is at most 5%.
        detectable: the least true difference, in score units, that a pair of median spread would
            find with 80% power (by interval and test, uncorrected).
    """

    pairs: int
    separated: int
    detectable: float


def strengths_of(scores: Mapping[str, Scores], wins: Wins) -> list[Strength]:
    """Strengths from the contexts won at each seed; a seed counts for the pairs that both have."""
    names = list(scores)
    if len(names) < 2:
        return []
    place = {seed: k for k, seed in enumerate(sorted({s for own in scores.values() for s in own}))}
    won = np.zeros((len(place), len(names), len(names)))
    for i, j in permutations(range(len(names)), 2):
        for seed, share in wins[names[i], names[j]].items():
            won[place[seed], i, j] = share * len(scores[names[i]][seed])
    if not won.any():
        return []
    found = statistics.bradley_terry_intervals(won)
    return [
        Strength(row=name, **rate(estimate).model_dump())
        for name, estimate in zip(names, found, strict=True)
    ]


def matrix_of(names: Sequence[str], wins: Wins) -> HeadToHead | None:
    """Returns the shares of contexts won, None for a single row."""
    if len(names) < 2:
        return None
    found = [[wins.get((a, b), {}) for b in names] for a in names]
    return HeadToHead(
        rows=list(names),
        shares=[
            [rounded(sum(rates.values()) / len(rates)) if rates else None for rates in line]
            for line in found
        ],
        seeds=[[len(rates) for rates in line] for line in found],
    )


def gaps_of(scores: Mapping[str, Scores]) -> Gaps:
    """Returns the paired difference of every two rows that share a seed, both ways."""
    means = {name: {seed: float(own[seed].mean()) for seed in own} for name, own in scores.items()}
    found: Gaps = {}
    for a, b in combinations(scores, 2):
        if seeds := sorted(means[a].keys() & means[b].keys()):
            table = [[means[name][seed] for seed in seeds] for name in (a, b)]
            there, back = statistics.iqm_differences(table, [(0, 1), (1, 0)])
            found[a, b], found[b, a] = rate(there), rate(back)
    return found


def pairs_of(scores: Mapping[str, Scores]) -> tuple[list[Pair], Resolution | None]:
    """Returns every two rows that share a seed, in the order of rows, and what they can tell."""
    means = {name: {seed: float(own[seed].mean()) for seed in own} for name, own in scores.items()}
    together: dict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)
    for a, b in combinations(scores, 2):
        if seeds := tuple(sorted(means[a].keys() & means[b].keys())):
            together[seeds].append((a, b))
    found: dict[tuple[str, str], tuple[statistics.Array, statistics.Estimate]] = {}
    for seeds, several in together.items():
        at = {name: k for k, name in enumerate(dict.fromkeys(n for pair in several for n in pair))}
        table = np.array([[means[name][seed] for seed in seeds] for name in at])
        order = [(at[a], at[b]) for a, b in several]
        for pair, (x, y), gap in zip(
            several, order, statistics.iqm_differences(table, order), strict=True
        ):
            found[pair] = table[[x, y]], gap
    both = [(a, b) for (a, b), _ in found.values()]
    p_values = [rounded(p_value) for p_value in statistics.swap_p_values(both)]
    corrected = statistics.holm(p_values).tolist()
    pairs = [
        Pair(
            a=a,
            b=b,
            n_seeds=own.shape[1],
            difference=rate(difference),
            p_value=p_value,
            p_holm=rounded(p_holm),
        )
        for ((a, b), (own, difference)), p_value, p_holm in zip(
            found.items(), p_values, corrected, strict=True
        )
    ]
    number = {pair: k for k, pair in enumerate(combinations(scores, 2))}
    return sorted(pairs, key=lambda pair: number[pair.a, pair.b]), _resolution(pairs, both)


def _resolution(
    pairs: Sequence[Pair], both: Sequence[tuple[statistics.Array, statistics.Array]]
) -> Resolution | None:
    detectable = [statistics.minimum_detectable_difference(a, b) for a, b in both if len(a) > 1]
    if not detectable:
        return None
    return Resolution(
        pairs=len(detectable),
        separated=sum(
            statistics.told_apart(pair.difference.low, pair.difference.high, pair.p_holm)
            for pair in pairs
        ),
        detectable=rounded(float(np.median(detectable))),
    )
