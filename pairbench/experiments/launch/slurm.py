"""Runs on a cluster through submitit: each run is a Slurm job, started again when its time is up.

The jobs and this process share a folder of their own (the option `folder`) beside the results:
submitit pickles what a job is to call, and a results folder holds nothing that executes. What a job
has to say comes back as JSON.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.experiments.launch.base import (
    RETRIES,
    THREADS,
    Ended,
    Event,
    Job,
    WorkerDied,
    failed,
    required,
)
from pairbench.experiments.launch.cluster import Handed, Remote
from pairbench.experiments.launch.worker import decode, encode, perform
from pairbench.results.files import atomic_write

SCAN = 1.0  # seconds between two looks at the folder
GRACE = 5.0  # seconds for which a shared folder may still hide the report of a job that ended
ORPHANED = 600.0  # seconds without a heartbeat of this process after which a job leaves
ASK = 60.0  # seconds between a job's looks for that


class Slurm(Remote):
    """A launcher of Slurm jobs, `workers` queued or running at a time.

    Options:
        folder: a folder that all nodes see, by default ~/.cache/pairbench/slurm.
        cluster: "slurm", or "local" to try it without Slurm.
        others: parameters of submitit's AutoExecutor, as timeout_min (240 by default),
            slurm_partition, slurm_account.

    Raises:
        PairBenchError: submitit is not installed, there is no Slurm, or an option is unknown.
    """

    def __init__(self, workers: int, options: Mapping[str, str]) -> None:
        super().__init__(workers)
        submitit = required("submitit", "slurm")
        chosen: dict[str, Any] = {"name": "pairbench", "timeout_min": "240", **options}
        cluster = chosen.pop("cluster", "slurm")
        home = Path(chosen.pop("folder", "~/.cache/pairbench/slurm")).expanduser().absolute()
        python = shlex.join(["env", *(f"{k}={v}" for k, v in THREADS.items()), sys.executable])
        parameters = {k: int(v) if v.isdecimal() else v for k, v in chosen.items()}
        self._tries: dict[str, int] = {}
        self._scan = 0.0
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=home))
        except OSError as error:
            raise PairBenchError(
                f"the folder {home} cannot be written ({error.strerror}): "
                "name another that all nodes see with --backend-option folder=..."
            ) from error
        try:
            self._executor: Any = submitit.AutoExecutor(
                self._folder, cluster, slurm_python=python, local_python=python
            )
            self._executor.update_parameters(**parameters)
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            why = str(error).splitlines()[0].rstrip(".")
            raise PairBenchError(
                f"submitit refuses the backend's options ({why}): "
                "call it where srun is, with options that submitit's AutoExecutor takes"
            ) from error
        self._alive = self._folder / "alive"
        self._alive.touch()

    def close(self) -> None:
        """Cancels the jobs; their folder goes, and without it none of them goes on."""
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, job: Job) -> Any:
        given = job.execution
        needs: dict[str, Any] = {"cpus_per_task": given.threads}
        if given.gpus:
            needs["gpus_per_node"] = -int(-given.gpus // 1)
        if given.memory_gb is not None:
            needs["mem_gb"] = given.memory_gb
        self._executor.update_parameters(**needs)
        report = str(self._report(job))
        return self._executor.submit(_Work(), encode(job), report, str(self._alive))

    def _ended(self, timeout: float) -> list[tuple[Handed, Event]]:
        time.sleep(max(0.0, min(timeout, self._scan - time.monotonic())))
        if time.monotonic() < self._scan:
            return []
        self._scan = time.monotonic() + SCAN
        self._alive.touch()
        return [(task, event) for task in self._running if (event := self._end(task))]

    def _end(self, task: Handed) -> Event | None:
        """How a task ended, if it has; one that was lost is started again."""
        job = task.job
        gone = task.handle.done()  # asked before the report is read, or it could be missed
        if (report := self._report(job)).exists():
            return decode(job.spec.identity, report.read_text())
        if not gone:
            task.gone = None
            return None
        if task.gone is None:
            task.gone = time.monotonic()
        if time.monotonic() - task.gone < GRACE:
            return None
        tries = self._tries[job.spec.identity] = self._tries.get(job.spec.identity, 0) + 1
        if tries <= RETRIES:
            task.handle, task.began, task.gone = self._start(job), None, None
            return None
        last = (task.handle.stderr() or "").strip().splitlines()[-1:]
        why = f"Slurm job {task.handle.job_id} ended ({', '.join([task.handle.state, *last])})"
        return Ended(failed(job.spec, WorkerDied(why)), lost=True)

    def _cancel(self, task: Handed) -> None:
        task.handle.cancel(check=False)

    def _report(self, job: Job) -> Path:
        return self._folder / f"{job.spec.identity}.json"


class _Work:
    """What a Slurm job does. Arguments: `encode`'s line, and the paths of two shared files."""

    def __call__(self, line: str, report: str, alive: str) -> None:
        from pairbench.seeding import pin_threads

        pin_threads(1)
        asked = time.monotonic()

        def look_up(_: str = "") -> None:
            nonlocal asked
            if time.monotonic() - asked < ASK:
                return
            asked = time.monotonic()
            try:
                silence = time.time() - Path(alive).stat().st_mtime
            except FileNotFoundError:
                silence = ORPHANED
            if silence >= ORPHANED:
                os._exit(1)

        end = perform(line, look_up)
        atomic_write(Path(report), end.encode())

    def checkpoint(self, line: str, report: str, alive: str) -> Any:
        """Called by submitit when time is up: the same job again, from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, line, report, alive)
