"""Where runs happen: launchers take jobs and give back events. `Local` runs them on this machine.

A launcher has three methods; another place to run needs one more file with the same three:
`ray` has them for a cluster through Ray, `slurm` for one through submitit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pairbench.errors import PairBenchError
from pairbench.results.record import Failure, RunRecord, RunSpec
from pairbench.seeding import THREAD_VARIABLES

if TYPE_CHECKING:
    import numpy as np

BACKENDS = ("local", "ray", "slurm")

THREADS = dict.fromkeys(THREAD_VARIABLES, "1")
"""Set before a worker loads numpy: later is too late for some BLAS builds."""

RETRIES = 3
"""Times that a cluster starts a run again, from its checkpoint, when it has lost its process."""


class WorkerDied(Exception):
    """A worker process ended in the middle of a run."""


class TimedOut(Exception):
    """A run took longer than it was given."""


@dataclass(frozen=True)
class Job:
    """One run to do.

    Attributes:
        spec: the run.
        checkpoint: file it resumes from and saves to.
        threads: threads of the simulator.
        checkpoint_seconds: least time between two saves.
        iterations: stop after so many, for a look at the run's beginning; None: to its end.
        log: file of its log; its heartbeat is beside it. None: it leaves neither.
        timeout: seconds after which it is killed.
        gpus: what it needs of them, for a cluster's scheduler.
        memory_gb: what it needs of memory, likewise.
        url: where the results are kept, if that is no folder; the two files are then those of the
            same names in the working folder of the machine that it runs on.
    """

    spec: RunSpec
    checkpoint: Path
    threads: int = 1
    checkpoint_seconds: float = 20.0
    iterations: int | None = None
    log: Path | None = None
    timeout: float | None = None
    gpus: float = 0.0
    memory_gb: float | None = None
    url: str | None = None


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
        f"killed after {job.timeout:g} s, the time a run is given: "
        "the same command with a longer --run-timeout continues from its checkpoint"
    )
    return Ended(failed(job.spec, reason), lost=True)


def open_launcher(backend: str, workers: int, options: Mapping[str, str]) -> Launcher:
    """Returns the launcher of a backend, for at most `workers` runs at a time.

    Args:
        backend: one of `BACKENDS`.
        workers: runs at a time.
        options: texts by name, as the launcher's own class lists them; "local" has none.

    Raises:
        PairBenchError: no such backend or option, or the package it needs is missing.
    """
    if backend == "ray":
        from pairbench.experiments.launch.ray import Ray

        return Ray(workers, options)
    if backend == "slurm":
        from pairbench.experiments.launch.slurm import Slurm

        return Slurm(workers, options)
    if backend != "local":
        raise PairBenchError(f"there is no backend {backend!r}: choose {', '.join(BACKENDS)}")
    if options:
        raise PairBenchError(f"the backend local has no option {min(options)!r}: leave it out")
    from pairbench.experiments.launch.local import Local

    return Local(workers)


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
