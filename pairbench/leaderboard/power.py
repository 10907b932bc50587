"""How many seeds would tell two rows of a board apart, if they differed by so much."""

from __future__ import annotations

import math

from pydantic import BaseModel

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.leaderboard.compare import Comparison, finding
from pairbench.leaderboard.rows import rounded
from pairbench.text import number


class SeedPlan(BaseModel):
    """The shared seeds that find a true difference of `effect` between two rows.

    By the rule that `compare` follows: an interval of 95% and the swap test at 5%.

    Attributes:
        n_seeds: seeds that both rows have now.
        deviation: standard deviation over these of their paired differences, in score units.
        seeds: what is needed; None where that is over 10,000.
        few, many: the same if the deviation is a standard error smaller, or larger, than estimated.
        detectable: the least difference that the seeds at hand find with as much power.
    """

    task: str
    title: str
    a: str
    b: str
    effect: float
    power: float
    n_seeds: int
    deviation: float
    seeds: int | None
    few: int | None
    many: int | None
    detectable: float

    def said(self) -> str:
        """Returns it in two sentences."""
        needed = [str(n or "over 10,000") for n in (self.seeds, self.few, self.many)]
        return (
            f"On {self.title}, a true difference of {number(self.effect)} between {self.a} and "
            f"{self.b} is found with {self.power:.0%} power by {needed[0]} shared seeds "
            f"({needed[1]} to {needed[2]}, as far as {self.n_seeds} seeds tell the deviation of "
            f"paired differences, {number(self.deviation)}). The {self.n_seeds} at hand "
            f"{finding(self.n_seeds)} {number(self.detectable)}.\n"
        )


def plan_seeds(pair: Comparison, effect: float, power: float = statistics.POWER) -> SeedPlan:
    """Plans from what `compare` found of two rows.

    Raises:
        PairBenchError: they share fewer than two seeds, or the effect or the power is none.
    """
    if pair.minimum_detectable_difference is None:
        raise PairBenchError(
            f"{pair.a} and {pair.b} share one seed, which has no spread to plan from: run two more"
        )
    if not (math.isfinite(effect) and effect and 0.05 < power < 1):
        raise PairBenchError("give an --effect other than 0, and a --power between 0.05 and 1")
    n, shift = pair.n_seeds, statistics.detectable_shift(statistics.kept_degrees(pair.n_seeds))
    error = pair.minimum_detectable_difference / shift
    deviation = statistics.EFFICIENCY * error * math.sqrt(n)
    share = 1 / math.sqrt(2 * (n - 1))
    needed = [
        statistics.seeds_needed(effect, deviation * factor, power=power)
        for factor in (1.0, max(1 - share, 0.0), 1 + share)
    ]
    return SeedPlan(
        task=pair.task,
        title=pair.title,
        a=pair.a,
        b=pair.b,
        effect=abs(effect),
        power=power,
        n_seeds=n,
        deviation=rounded(deviation),
        seeds=needed[0],
        few=needed[1],
        many=needed[2],
        detectable=rounded(error * statistics.detectable_shift(statistics.kept_degrees(n), power)),
    )
