"""What a task reports of a run: scores on the held-out contexts, measures, and what it cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Cost(BaseModel):
    """What a run spent. Steps are the task's unit; labels = scores + comparisons."""

    model_config = ConfigDict(extra="forbid")

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
