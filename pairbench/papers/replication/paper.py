"""What a paper reports, as data, and which of our suites makes the runs that stand beside it."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Literal, Self

from pydantic import Field, model_validator

from pairbench.evaluation import Strict
from pairbench.experiments.settings import validated


class Table(Strict):
    """One column of the paper's tables and the quantity of ours that stands beside it.

    Attributes:
        values: the paper's numbers by row of the suite; or `order` alone, worst first.
        better: whether more or less of it is better, for the paper's numbers and ours alike.
        quantity: "score", what our boards rank by; a field of `Stability`; or a measure.
        ours: that quantity in words.
        also: measures shown beside it, with their headings.
    """

    id: str
    title: str
    source: str
    better: Literal["more", "less"] = "more"
    suite: str
    task: str
    quantity: str
    ours: str
    also: dict[str, str] = Field(default={})
    values: dict[str, float] = Field(default={})
    order: tuple[str, ...] = ()
    note: str

    @model_validator(mode="after")
    def _numbers_or_an_order(self) -> Self:
        if bool(self.values) == bool(self.order) or len(self.values or self.order) < 2:
            raise ValueError(f"table {self.id} needs values, or an order, of at least two rows")
        return self

    @property
    def merit(self) -> dict[str, float]:
        """The rows, best first, each with a number that is larger the better."""
        sign = 1.0 if self.better == "more" else -1.0
        merit = {row: sign * value for row, value in self.values.items()}
        merit = merit or {row: float(place) for place, row in enumerate(self.order)}
        return dict(sorted(merit.items(), key=lambda item: -item[1]))


class Ratings(Strict):
    """A table of the paper's that nothing of ours stands beside, and why."""

    title: str
    source: str
    why: str
    columns: tuple[str, ...]
    values: dict[str, tuple[float, ...]]


class Sweep(Strict):
    """Tasks that differ in how much noise the oracle's answers have.

    Attributes:
        noise: what a level counts.
        levels: the level of each task, one of them 0.
        floor: where a task's provenance has the untrained policy's reward.
        pairs: rows of which the first is asked whether it loses less than the second.
    """

    id: str
    title: str
    suite: str
    noise: str
    levels: dict[str, float] = Field(min_length=2)
    floor: str
    pairs: tuple[tuple[str, str], ...]
    note: str


class Paper(Strict):
    """All of it. `reasons` say why the paper's sizes and ours differ."""

    paper: str
    title: str
    evidence: str
    reasons: tuple[str, ...]
    tables: tuple[Table, ...]
    ratings: Ratings
    sweeps: tuple[Sweep, ...]


def load_paper() -> Paper:
    """Returns the paper whose tables are replicated."""
    text = (files("pairbench.papers.replication") / "paper.toml").read_text(encoding="utf-8")
    return validated(Paper, tomllib.loads(text), "paper.toml")
