"""One run in progress: what it is made of, what it has spent and measured, and its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from pairbench.algorithm import Method
from pairbench.evaluation import Cost, Evaluation
from pairbench.policy import Policy
from pairbench.results.record import Budget, CurvePoint, RunRecord, RunSpec
from pairbench.seeding import Streams
from pairbench.task import Session, Task


@dataclass(frozen=True)
class Progress:
    """How far a run is: share of the budget spent, iteration, last evaluated reward, seconds."""

    spent: float
    iteration: int
    reward: float | None
    seconds: float


@dataclass(frozen=True)
class RunResult:
    """A record, its series, and the texts of its last evaluation.

    Series and texts are columns of equal length: one value per iteration, or per held-out context.
    `spent_on` has the seconds of this process by what they went into, see `Run.doing`.
    """

    record: RunRecord
    series: dict[str, np.ndarray]
    texts: dict[str, list[str]] = field(default_factory=dict)
    spent_on: dict[str, float] = field(default_factory=dict)


@dataclass
class Run:
    """One run in progress: what the loop, and a library's own trainer, work on."""

    spec: RunSpec
    algorithm: Method
    task: Task
    session: Session
    streams: Streams
    on_progress: Callable[[Progress], None] | None = None
    warn: Callable[[str], None] = lambda text: None
    spent_on: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.curve: list[CurvePoint] = []
        self.series: list[list[float]] = []
        self.noise: list[tuple[float, float]] = []
        self.evaluation: Evaluation | None = None
        self.seconds_before = 0.0
        self._began = time.perf_counter()
        self._reported = 0.0

    @property
    def policy(self) -> Policy:
        return self.session.policy

    @property
    def cost(self) -> Cost:
        return self.session.cost

    @property
    def budget(self) -> Budget:
        return self.spec.protocol.budget

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of this run, those before an interruption included."""
        return self.seconds_before + time.perf_counter() - self._began

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Counts the seconds of what is done inside under a name."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            self.spent_on[what] = self.spent_on.get(what, 0.0) + passed

    def progress(self) -> float:
        """Share of the repeatable limits (all but seconds) already spent, at most 1."""
        limits = {
            "steps": self.cost.steps,
            "labels": self.cost.labels,
            "gradient_steps": self.cost.gradient_steps,
        }
        shares = [
            used / limit for name, used in limits.items() if (limit := getattr(self.budget, name))
        ]
        return min(1.0, max(shares, default=0.0))

    def share(self) -> float:
        """Share of the budget already spent, whichever limit is nearest, at most 1."""
        if self.budget.seconds is None:
            return self.progress()
        return min(1.0, max(self.progress(), self.seconds / self.budget.seconds))

    def report(self, force: bool = False) -> None:
        """Tells the caller how far the run is, at most twice a second."""
        now = time.perf_counter()
        if self.on_progress is None or (now - self._reported < 0.5 and not force):
            return
        self._reported = now
        reward = self.curve[-1].reward if self.curve else None
        self.on_progress(Progress(self.share(), self.cost.iterations, reward, self.seconds))

    def spent(self) -> bool:
        """Evaluates if a point of the curve is due; returns whether the budget is spent."""
        share = self.share()
        if share < 1.0 and share * self.spec.protocol.evaluations >= len(self.curve) + 1:
            self.evaluate(final=False)
        self.report()
        return share >= 1.0

    def evaluate(self, final: bool) -> None:
        """Adds a point to the learning curve; the final evaluation is the run's result."""
        with torch.no_grad(), self.doing("evaluate"):
            self.evaluation = self.session.evaluate(final)
        self.curve.append(
            CurvePoint(
                steps=self.cost.steps,
                labels=self.cost.labels,
                gradient_steps=self.cost.gradient_steps,
                reward=self.evaluation.reward,
                means={name: sum(s) / len(s) for name, s in self.evaluation.scores.items()},
                measures=self.evaluation.measures,
            )
        )
