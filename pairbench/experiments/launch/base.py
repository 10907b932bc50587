"""What every place to run has in common: launchers take jobs and give back events.

A launcher has three methods; another place to run needs one more file with the same three:
`local` has them for this machine, `ray` for a cluster through Ray, `slurm` for one through
submitit, and `open_launcher` opens them by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pairbench.errors import PairBenchError
from pairbench.results.record import Failure, RunRecord, RunSpec
from pairbench.seeding import THREAD_VARIABLES

if TYPE_CHECKING:
    import numpy as np

THREADS = dict.fromkeys(THREAD_VARIABLES, "1")
"""Set before a worker loads numpy: later is too late for some BLAS builds."""

RETRIES = 3
"""Times that a cluster starts a run again, from its checkpoint, when it has lost its process."""


class WorkerDied(Exception):
    """A worker process ended in the middle of a run."""


class TimedOut(Exception):
    """A run took longer than it was given."""


@dataclass(frozen=True)
class Execution:
    """How runs are carried out; nothing of it changes what they come to.

    Attributes:
        workers: runs at a time; None: one per available core, on a cluster all.
        threads: threads of each run's simulator.
        checkpoint_seconds: least time between two checkpoints of a run.
        timeout: seconds after which a run is killed.
        gpus: that each run needs, for a cluster's scheduler.
        memory_gb: that each run needs, likewise.
        backend: where: "local", on this machine; "ray" or "slurm", on a cluster.
        options: of the backend, texts by name, as its launcher's class lists them.

    Raises:
        PairBenchError: there would be no worker.
    """

    workers: int | None = None
    threads: int = 1
    checkpoint_seconds: float = 20.0
    timeout: float | None = None
    gpus: float = 0.0
    memory_gb: float | None = None
    backend: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise PairBenchError(f"workers = {self.workers} is out of range: it must be at least 1")

    def sized(self, runs: int) -> Execution:
        """Returns it with a number of workers, for so many runs."""
        if self.workers is not None:
            return self
        cluster = self.backend == "slurm" or "address" in self.options
        return replace(self, workers=max(1, runs) if cluster else available_cores())


ALONE = Execution(workers=1)
"""One run at a time on this machine, with nothing special."""


def available_cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Job:
    """One run to do.

    Attributes:
        checkpoint: file it resumes from and saves to.
        iterations: stop after so many, for a look at the run's beginning; None: to its end.
        log: file of its log; its heartbeat is beside it. None: it leaves neither.
        url: where the results are kept, if that is no folder; the two files are then those of the
            same names in the working folder of the machine that it runs on.
    """

    spec: RunSpec
    checkpoint: Path
    execution: Execution = ALONE
    iterations: int | None = None
    log: Path | None = None
    url: str | None = None

    def overdue(self, began: float) -> bool:
        """Whether it has had its time, if it began at that second of the monotonic clock."""
        limit = self.execution.timeout
        return limit is not None and time.monotonic() - began >= limit


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
    """A run has ended, well or not, with what it warned of on its way.

    `lost` says that its process died, so its checkpoint stands.
    """

    record: RunRecord
    series: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    lost: bool = False
    warnings: Sequence[str] = ()


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
        """Stops what still runs, within seconds; checkpoints stay."""
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


def timed_out(job: Job) -> Ended:
    """Returns the end of a run that was killed when its time was up; its checkpoint stands."""
    reason = TimedOut(
        f"killed after {job.execution.timeout:g} s, the time a run is given: "
        "the same command with a longer --run-timeout continues from its checkpoint"
    )
    return Ended(failed(job.spec, reason), lost=True)


def required(package: str, backend: str) -> Any:
    """Returns the module that a backend stands on; its extra has the backend's name.

    Raises:
        PairBenchError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise PairBenchError(
            f"the backend {backend} needs {package}: pip install 'pairbench[{backend}]'"
        ) from error
