"""What a task reports of a run: scores on the held-out contexts, measures, and what it cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, and refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cost(BaseModel):
    """What a run spent.

    Attributes:
        steps: in the task's unit.
        scores, comparisons: answers of the oracle, by kind; their sum is the labels.
        gradient_steps: optimiser steps of the policy.
        iterations: batches of fresh data.
        evaluation_steps: steps of the evaluations, which no budget counts.
        seconds: wall time of the run.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    steps: int = 0
    scores: int = 0
    comparisons: int = 0
    gradient_steps: int = 0
    iterations: int = 0
    evaluation_steps: int = 0
    seconds: float = 0.0

    @property
    def labels(self) -> int:
        """Answers of the oracle that the algorithm saw."""
        return self.scores + self.comparisons


class Guard(Strict):
    """The least value of a measure at which a policy's scores still mean what they say.

    A row below it gets no rank, and a sentence: "{fails} ({value} {of}, less than {floor})".

    Attributes:
        floor: the least value.
        fails: what a policy below it does, such as "repeats itself".
        of: what the value is a share of, such as "of the untrained policy's variety".
    """

    floor: float
    fails: str
    of: str = ""


class Measure(Strict):
    """What a task says of a number that it reports beside the scores; carried in each record.

    Attributes:
        name: its key in `Evaluation.measures`.
        title: the heading of its column.
        meaning: what it is, in words.
        unit: what it is counted in, if anything.
        better: +1 or -1 where more or less of it is better, else 0.
        guard: the least value that a policy may have, if there is one.
        role: "distance" of the distance to the untrained policy, which scores are then drawn
            against; "win rate" of the share of contexts won against that policy.
        levels: of a distance, the values at which rows are compared.
    """

    name: str
    title: str
    meaning: str
    unit: str = ""
    better: Literal[-1, 0, 1] = 0
    guard: Guard | None = None
    role: Literal["distance", "win rate"] | None = None
    levels: tuple[float, ...] = ()

    @property
    def described(self) -> str:
        """Meaning and unit."""
        return f"{self.meaning} in {self.unit}" if self.unit else self.meaning


class Evaluation(BaseModel):
    """Scores of one policy on the held-out contexts, in their fixed order.

    Attributes:
        scores: per way of acting ("stochastic", "mean", ...), one number per held-out context. The
            first is the one that ranks.
        measures: anything else worth a column, by name.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    scores: dict[str, list[float]]
    measures: dict[str, float] = {}

    @property
    def primary(self) -> list[float]:
        """The scores that rank."""
        return next(iter(self.scores.values()))

    @property
    def reward(self) -> float:
        """Mean of the primary scores: the run's one number."""
        scores = self.primary
        return sum(scores) / len(scores)
