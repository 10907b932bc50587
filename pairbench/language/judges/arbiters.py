"""Who compares two completions: a judge that scores each, or one that is shown both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.language.data.pairs import Pair
from pairbench.language.judges.endpoint import Endpoint, Verdict
from pairbench.language.judges.judge import Role
from pairbench.language.judges.judgement import Comparison, JudgedBy, Outcome, Score, both_orders
from pairbench.language.judges.panel import Oracle
from pairbench.leaderboard.rows import rate

PROGRESS = 100
"""Requests between two lines of progress."""


@dataclass(frozen=True)
class Kept:
    """What a board's runs have kept: completions by row, seed and `prompt_id`."""

    texts: dict[str, dict[int, dict[str, str]]]
    left_out: list[str]
    failed: bool

    def texts_of(self, at: Comparison) -> tuple[str, str]:
        """Returns the two completions that are compared."""
        mine, other = (self.texts[row][at.seed][at.prompt] for row in (at.row, at.other))
        return mine, other


class ScoringJudge:
    """A judge that scores completions one by one. Equal completions have one score."""

    def __init__(self, oracle: Oracle, role: Role, pairs: Mapping[str, Pair], kept: Kept) -> None:
        wanted = sorted(
            {
                (prompt, text)
                for of_row in kept.texts.values()
                for mine in of_row.values()
                for prompt, text in mine.items()
            }
        )
        scores = oracle.score(
            [pairs[prompt].prompt for prompt, _ in wanted],
            [text for _, text in wanted],
            [pairs[prompt].source for prompt, _ in wanted],
        )
        if not np.isfinite(scores).all():
            raise PairBenchError(f"a score of the {oracle.name} is not finite: nothing is judged")
        self._scores = dict(zip(wanted, scores.tolist(), strict=True))
        caveats = []
        if role == "proxy":
            caveats.append("Methods were trained on this judge's scores, so they may play on it.")
        if not oracle.ranks:
            caveats.append(f"Smoke test only: the {oracle.name} has not shown that it may rank.")
        self.described = JudgedBy(
            kind=role,
            name=oracle.name,
            cards={name: dict(card) for name, card in oracle.cards.items()},
            caveats=caveats,
        )

    def outcome(self, kept: Kept, at: Comparison) -> Outcome:
        mine, other = kept.texts_of(at)
        scores = [[self._scores[at.prompt, text]] for text in (mine, other)]
        points = statistics.win_rate(*scores)
        return Outcome(float(points), identical=mine == other)

    def row_scores(self, kept: Kept) -> dict[str, Score]:
        """Returns each row's mean score."""
        found = {}
        for name, of_row in kept.texts.items():
            if of_row:
                means = [np.mean([self._scores[at] for at in of_row[s].items()]) for s in of_row]
                rounded = rate(statistics.mean_interval(means))
                found[name] = Score(mean=rounded.estimate, low=rounded.low, high=rounded.high)
        return found


class AskedJudge:
    """A judge that is shown two completions at a time, in both orders."""

    def __init__(
        self,
        endpoint: Endpoint,
        pairs: Mapping[str, Pair],
        total: int,
        progress: Callable[[str], None] | None,
    ) -> None:
        self._endpoint, self._pairs = endpoint, pairs
        self._total, self._progress = total, progress
        self._seen = self._told = 0
        self._used: list[Verdict] = []

    def outcome(self, kept: Kept, at: Comparison) -> Outcome | None:
        mine, other = kept.texts_of(at)
        self._seen += 1
        if mine == other:
            return Outcome(0.5, identical=True)
        turns = self._pairs[at.prompt].prompt
        there = self._endpoint.ask(turns, mine, other)
        back = self._endpoint.ask(turns, other, mine) if there else None
        if self._progress and self._endpoint.requests >= self._told + PROGRESS:
            self._told = self._endpoint.requests
            self._progress(f"{self._told} requests, {self._seen} of {self._total} comparisons")
        if there is None or back is None:
            return None
        self._used += there, back
        return both_orders(there, back)

    @property
    def described(self) -> JudgedBy:
        address = self._endpoint.address
        days = sorted(verdict.at[:10] for verdict in self._used)
        served = sorted({verdict.served for verdict in self._used if verdict.served})
        caveats = []
        if len(served) > 1:
            caveats.append(f"The endpoint answered with several models: {', '.join(served)}.")
        return JudgedBy(
            kind="openai",
            name=address.model,
            address=address.url,
            prompt_version=address.identity["prompt_version"],
            served=served,
            first=days[0] if days else None,
            last=days[-1] if days else None,
            caveats=caveats,
        )
