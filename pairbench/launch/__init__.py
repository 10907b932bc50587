"""Where runs happen: launchers take jobs and give back events. `Local` runs them on this machine.

A launcher has three methods; another place to run needs one more file with the same three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pairbench.record import Failure, RunRecord, RunSpec

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Job:
    """One run to do.

    Attributes:
        spec: the run.
        checkpoint: file it resumes from and saves to.
        threads: threads of the simulator.
        checkpoint_seconds: least time between two saves.
        iterations: stop after so many, for a look at the run's beginning; None: to its end.
    """

    spec: RunSpec
    checkpoint: Path
    threads: int = 1
    checkpoint_seconds: float = 20.0
    iterations: int | None = None


@dataclass(frozen=True)
class Advanced:
    """A run is under way: share of its budget spent, last evaluated reward, its seconds so far."""

    identity: str
    spent: float
    iteration: int
    reward: float | None
    seconds: float


@dataclass(frozen=True)
class Ended:
    """A run has ended, well or not. `lost` says that its process died, so its checkpoint stands."""

    record: RunRecord
    series: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    lost: bool = False


Event = Advanced | Ended


class Launcher(Protocol):
    """A place to run jobs."""

    def submit(self, job: Job) -> None:
        """Takes a job; it starts as soon as there is room."""
        ...

    def poll(self, timeout: float) -> list[Event]:
        """Returns what has happened since the last call, after at most `timeout` seconds."""
        ...

    def close(self) -> None:
        """Stops what still runs, within a second; checkpoints stay."""
        ...


def failed(spec: RunSpec, error: Exception) -> RunRecord:
    """Returns the failure record of a run that ended in `error` before it could write its own."""
    failure = Failure(kind=type(error).__name__, message=str(error))
    return RunRecord(
        identity=spec.identity,
        **spec.model_dump(),
        status="failed",
        reason=failure.message,
        failure=failure,
    )
