"""Drivers and workers forked from a process that has everything loaded, to be killed by hundreds.

A worker is `launch.worker.main` and a driver `runner.execute`, as always; only how their processes
begin differs, since loading torch for each would take most of the time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import local, worker
from pairbench.experiments.launch.base import Event, Execution, Job
from pairbench.experiments.launch.local import Local
from pairbench.experiments.launch.worker import decode, encode, perform
from pairbench.experiments.runner import execute
from pairbench.experiments.suite import Plan
from pairbench.results.folder import Store


class Here:
    """A launcher that runs its jobs in this process, one with each poll."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def poll(self, timeout: float) -> list[Event]:
        job = self._jobs.popleft()
        return [decode(job.spec.identity, perform(encode(job), lambda progress: None))]

    def close(self) -> None:
        self._jobs.clear()


class Worker:
    """What `Local` asks of `subprocess.Popen`, with a fork in place of a new interpreter."""

    def __init__(
        self, command: list[str], *, stdout: IO[bytes], pass_fds: tuple[int, ...], **_: Any
    ) -> None:
        (events,) = pass_fds
        jobs, stdin = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(jobs, 0)
            os.dup2(stdout.fileno(), 1)
            os.dup2(stdout.fileno(), 2)
            os.closerange(3, events)
            os.closerange(events + 1, 256)
            sys.stdin, sys.argv = os.fdopen(0), [command[-2], str(events)]
            _leave(worker.main)
        os.close(jobs)
        self.stdin = os.fdopen(stdin, "w")

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout if timeout is not None else 1e9)
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                raise local.subprocess.TimeoutExpired("worker", timeout or 0.0)
            else:
                time.sleep(0.02)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(local.subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode


def driver(runs: Plan, results: Path, workers: int = 2, log: int | None = None) -> int:
    """Forks a process that works on a grid as `pairbench run` does; returns its number.

    It ends with 0, with 2 after the sentence of a `PairBenchError`, or with 1 after anything else.

    Args:
        log: descriptor of a file for what it says.
    """
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if log is not None:
            os.dup2(log, 1)
            os.dup2(log, 2)
        local.subprocess.Popen = Worker  # type: ignore[misc, assignment]
        _leave(
            lambda: execute(
                runs,
                Store(results),
                Local(workers),
                Execution(workers=workers, checkpoint_seconds=0.0),
            )
        )
    return pid


def _leave(work: Callable[[], object]) -> None:
    """Does the work of a forked process and ends it, as no test runner."""
    status = 0
    try:
        work()
    except PairBenchError as error:
        print(f"pairbench: {error}", file=sys.stderr)
        status = 2
    except BaseException:  # noqa: BLE001 (whatever it is, the fork must not return)
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)
