"""A scripted teacher: from the score of each response to the answers a learner may see.

The noise models are those of B-Pref (Lee et al. 2021, arXiv 2111.03026, section 4): a rational or
Boltzmann teacher, mistakes, equally preferable segments and skipped queries. Thresholds are in the
units of the score. Use it by itself as `Teacher(TeacherConfig(temperature=1.0)).ask(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from pairbench.algorithm import Needs, Queries
from pairbench.batch import Batch, pick
from pairbench.errors import PairBenchError
from pairbench.task import TunableConfig

FIRST, SECOND, TIE, SKIPPED = 1, -1, 0, 2
"""Answers to "which is better?": the first, the second, neither, or no answer."""

Float = NDArray[np.float64]
Integers = NDArray[np.int64]

LINKS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Float]] = {
    "logistic": lambda draw, shape: draw.logistic(size=shape),
    "probit": lambda draw, shape: 4 / math.sqrt(2 * math.pi) * draw.normal(size=shape),
    "cauchy": lambda draw, shape: 4 / math.pi * draw.standard_cauchy(shape),
}
"""Noise added to a difference of scores, by link. Near 0 all give P(first) the same slope, 1/4."""


class TeacherConfig(TunableConfig):
    """How reliably the teacher answers; the defaults are the oracle, which never errs."""

    temperature: float = Field(
        0.0,
        ge=0,
        description="Bradley-Terry: P(first) = sigmoid(difference / temperature); 0 never errs",
    )
    link: Literal["logistic", "probit", "cauchy"] = Field(
        "logistic",
        description="what stands for the sigmoid there; all agree on small differences",
        exclude_if="logistic".__eq__,
    )
    mistake: float = Field(0.0, ge=0, le=1, description="probability of flipping an answer")
    equal: float = Field(0.0, ge=0, description="largest difference that is called a tie")
    skip: float | None = Field(
        None, description="a query is not answered where both scores lie below this"
    )
    draw: Literal["query", "segment"] = Field(
        "query",
        description="noise for every query, or once per segment: then a group's answers agree",
    )


@dataclass(frozen=True)
class Answers:
    """What the teacher said about K groups of G segments.

    Attributes:
        pairs: (P, 2) rows (preferred, rejected), rows counted group by group, in order of groups.
        asked: queries put to the teacher.
        answered: queries it answered, ties included: the labels to be counted.
        chosen: (K, 2) members (most wins less losses, fewest) under "best-worst", else None.
    """

    pairs: Integers
    asked: int
    answered: int
    chosen: Integers | None = None


def queries(design: Queries, groups: int, size: int, generator: np.random.Generator) -> Integers:
    """Returns (K, Q, 2) members to compare in each of K groups of `size`.

    "all-pairs" and "best-worst" ask about all size (size - 1) / 2 pairs; "disjoint-pairs" splits
    each group at random into size // 2 pairs.
    """
    if design == "disjoint-pairs":
        order = np.argsort(generator.random((groups, size)), axis=1)
        return order[:, : size // 2 * 2].reshape(groups, size // 2, 2)
    if design == "none":
        return np.empty((groups, 0, 2), np.int64)
    first, second = np.triu_indices(size, 1)
    return np.broadcast_to(np.stack([first, second], 1), (groups, len(first), 2)).astype(np.int64)


def _refuse_nan(*scores: Float) -> None:
    if any(np.isnan(several).any() for several in scores):
        raise PairBenchError(
            "a teacher cannot judge a score that is NaN: have the reward function return a number "
            "for every response"
        )


class Teacher:
    """Answers queries about scores with the noise of its configuration; vectorised."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config

    def perceive(self, scores: Float, generator: np.random.Generator) -> Float:
        """Returns scores with one Gumbel draw times the temperature added to each.

        The difference of two Gumbel draws is logistic, so comparing what is returned is a
        Bradley-Terry choice. This is also what a method that learns from scores is shown, whatever
        `draw` says: under "segment" the very numbers that comparisons would use, under "query" an
        independent draw of the same noise. `mistake`, `equal` and `skip` do not touch scores.
        """
        _refuse_nan(scores)
        if self.config.temperature == 0:
            return scores
        return scores + self.config.temperature * generator.gumbel(size=scores.shape)

    def compare(
        self,
        first: Float,
        second: Float,
        generator: np.random.Generator,
        price: Float | float = 0.0,
    ) -> NDArray[np.int8]:
        """Returns FIRST, SECOND, TIE or SKIPPED for each pair of scores, all of one shape.

        In B-Pref's order: not answered if both lie below `skip`; a tie if they differ by at most
        `equal`; else a Boltzmann choice, flipped with probability `mistake`. Under
        `draw="segment"` pass what `perceive` returned: the choice then adds no noise of its own.

        `price` is what the first costs more than the second. It is taken off last, so that neither
        mistakes nor noise touch it.
        """
        config = self.config
        _refuse_nan(first, second)
        gap = seen = first - second
        if config.draw == "query" and config.temperature > 0:
            seen = gap + config.temperature * LINKS[config.link](generator, gap.shape)
        if config.mistake > 0:
            seen = np.where(generator.random(gap.shape) < config.mistake, -seen, seen)
        answer = np.where(seen > price, FIRST, SECOND).astype(np.int8)
        answer[np.abs(gap) <= config.equal] = TIE
        if config.skip is not None:
            answer[np.maximum(first, second) < config.skip] = SKIPPED
        return answer

    def ask(
        self,
        scores: Float,
        design: Queries,
        generator: np.random.Generator,
        shown: Float | None = None,
        price: Float | None = None,
    ) -> Answers:
        """Compares members of each group of `scores` (K, G) as `design` says.

        `shown` is what `perceive` returned, where the learner was shown it as well: one draw per
        segment then serves both. `price` (K, G) is what each member costs, see `compare`.

        Under "best-worst" a group's one pair is the member with the most wins less losses against
        the one with the fewest; a group whose members all come out equal gives no pair.
        """
        groups, size = scores.shape
        members = queries(design, groups, size, generator)
        seen = scores
        if self.config.draw == "segment":
            seen = self.perceive(scores, generator) if shown is None else shown
        rows = np.arange(groups)[:, None]
        left, right = members[..., 0], members[..., 1]
        costs = 0.0 if price is None else price[rows, left] - price[rows, right]
        answer = self.compare(seen[rows, left], seen[rows, right], generator, costs)
        answered = int((answer != SKIPPED).sum())
        sign = np.where(answer == SKIPPED, TIE, answer)
        if design == "best-worst":
            wins = np.zeros((groups, size), np.int64)
            np.add.at(wins, (rows, left), sign)
            np.subtract.at(wins, (rows, right), sign)
            best, worst = wins.argmax(1), size - 1 - wins[:, ::-1].argmin(1)
            chosen = np.stack([best, worst], 1)
            told = wins.max(1) > wins.min(1)
            pairs = (chosen + size * rows)[told]
            return Answers(pairs, answer.size, answered, chosen)
        left, right = left + size * rows, right + size * rows
        ordered = np.stack([np.where(sign > 0, left, right), np.where(sign > 0, right, left)], -1)
        return Answers(ordered[sign != 0], answer.size, answered)

    def label(
        self,
        batch: Batch,
        scores: Float,
        needs: Needs,
        generator: np.random.Generator,
        components: Float | None = None,
        price: Float | None = None,
    ) -> tuple[Batch, int, int]:
        """Returns the batch with what a learner is told, and the comparisons and scores it costs.

        Args:
            scores: (K, G) of its rows.
            needs: what the learner asks for. Under "pairs" only the two members of each group that
                were told apart stay as rows; a group whose members all tie keeps two, without a
                pair.
            components: (K, G, R) what a learner is shown in place of `scores`, if it asks for
                several scores of each response; each has noise of its own.
            price: (K, G) what is taken off each score, or None.
        """
        groups, size = scores.shape
        told: dict[str, Any] = {}
        comparisons = shown_scores = 0
        shown = None
        if needs.components and components is not None:
            parts = self.perceive(components, generator)
            told["components"] = torch.from_numpy(parts.reshape(scores.size, -1).astype(np.float32))
            shown_scores = parts.size
        elif needs.feedback == "scores":
            shown = self.perceive(scores, generator)
            net = shown if price is None else shown - price
            told["score"] = torch.from_numpy(net.reshape(-1).astype(np.float32))
            shown_scores = shown.size
        if needs.feedback == "comparisons" or "pairs" in needs.data:
            answers = self.ask(scores, needs.queries, generator, shown, price)
            told["pairs"] = torch.from_numpy(np.ascontiguousarray(answers.pairs))
            comparisons = answers.answered
            if needs.data == "pairs":
                chosen = answers.chosen
                assert chosen is not None  # tasks allow best-worst queries only
                keep = torch.from_numpy((chosen + size * np.arange(groups)[:, None]).reshape(-1))
                batch = pick(batch, keep, 2)
                row = answers.pairs[:, 0] // size * 2
                told["pairs"] = torch.from_numpy(np.stack([row, row + 1], 1))
                if "score" in told:
                    told["score"] = told["score"][keep]
        return replace(batch, **told), comparisons, shown_scores
