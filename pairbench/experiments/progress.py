"""How far the runs of a plan are, and who is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

from pairbench.experiments.launch.base import Advanced
from pairbench.results.record import RunRecord


@dataclass
class Tally:
    """How far the runs of a plan are.

    Attributes:
        total: runs asked for, those already finished included; skipped rows are not runs.
        skipped: records of rows that a task does not take.
        names: of runs under way, by identity.
    """

    total: int = 0
    workers: int = 1
    cached: list[RunRecord] = field(default_factory=list)
    finished: list[RunRecord] = field(default_factory=list)
    failed: list[RunRecord] = field(default_factory=list)
    skipped: list[RunRecord] = field(default_factory=list)
    running: dict[str, Advanced] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def records(self) -> list[RunRecord]:
        """Every record so far."""
        return [*self.cached, *self.finished, *self.failed, *self.skipped]

    @property
    def left(self) -> int:
        """Runs that have not ended."""
        return self.total - len(self.cached) - len(self.finished) - len(self.failed)

    def eta(self) -> float | None:
        """Returns the seconds still to go, judged by the runs so far; None before any has moved."""
        lengths = [record.cost.seconds for record in self.finished]
        lengths += [run.seconds / run.spent for run in self.running.values() if run.spent > 0.02]
        if not lengths:
            return None
        shares = sum(1.0 - run.spent for run in self.running.values())
        waiting = self.left - len(self.running)
        mean = sum(lengths) / len(lengths)
        return mean * (shares + waiting) / max(1, min(self.workers, self.left))


class Monitor:
    """Whoever shows how runs go; this one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Something the user should know."""

    def ended(self, record: RunRecord, tally: Tally) -> None:
        """A run has ended and is on disk."""

    def tick(self, tally: Tally) -> None:
        """Called a few times a second."""
