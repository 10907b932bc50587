"""What `pairbench tune` may try: a range or a choice of values for each setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pairbench.errors import PairBenchError

if TYPE_CHECKING:
    from pairbench.algorithm import Method


Setting = float | int | str | bool


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, of three significant digits; or whole ones.

    Attributes:
        log: whether equal ratios, not equal differences, are equally likely.
        whole: whether they are integers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, generator: np.random.Generator) -> Setting:
        """Returns one of them at random."""
        if self.whole:
            return int(generator.integers(int(self.low), int(self.high), endpoint=True))
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return self.rounded(math.exp(generator.uniform(low, high)))
        return self.rounded(generator.uniform(self.low, self.high))

    def rounded(self, value: float) -> Setting:
        """Returns the value of this range that a number is written as."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    options: tuple[Setting, ...]

    def draw(self, generator: np.random.Generator) -> Setting:
        """Returns one of them at random."""
        return self.options[int(generator.integers(len(self.options)))]

    def __contains__(self, value: object) -> bool:
        return value in self.options


Space = Mapping[str, Range | Choice]


Spaces = Mapping[str, Space]


def uniform(low: float, high: float) -> Range:
    """Returns the numbers between two, equal differences being equally likely."""
    return Range(low, high)


def log_uniform(low: float, high: float) -> Range:
    """Returns the numbers between two positive ones, equal ratios being equally likely."""
    return Range(low, high, log=True)


def integers(low: int, high: int) -> Range:
    """Returns the whole numbers from one to another, both included."""
    return Range(low, high, whole=True)


def choice(*options: Setting) -> Choice:
    """Returns the values given."""
    return Choice(options)


def check_space(algorithm: type[Method], space: Space, config: Mapping[str, Any]) -> None:
    """Checks that a space is of an algorithm's own settings, and holds those of `config`.

    Raises:
        PairBenchError: a name is no setting, or a value lies outside.
    """
    for key, values in space.items():
        if key not in algorithm.Config.model_fields:
            raise PairBenchError(
                f"the search space of {algorithm.name} names {key!r}, which is no setting of it: "
                "name one, or leave it out"
            )
        if config[key] not in values:
            raise PairBenchError(
                f"the search space of {algorithm.name} leaves out {key} = {config[key]}, where the "
                f"search begins: widen {values}, or begin elsewhere"
            )
