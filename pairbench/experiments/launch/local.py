"""Runs on this machine: a few long-lived worker processes, each with one thread and one run."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from typing import IO

from pairbench.experiments.launch.base import (
    THREADS,
    Ended,
    Event,
    Job,
    WorkerDied,
    failed,
    timed_out,
)
from pairbench.experiments.launch.worker import PATIENCE, decode, encode

GRACE = PATIENCE + 1.0  # seconds a worker is given to save its state and leave before it is killed
LAST_WORDS = 2.0  # seconds in which what a worker wrote before its death is read


class Local:
    """A launcher of `workers` subprocesses. A worker that dies fails its run and is replaced."""

    def __init__(self, workers: int = 1) -> None:
        self._limit = workers
        self._waiting: deque[Job] = deque()
        self._workers: list[_Worker] = []
        self._inbox: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()

    def submit(self, job: Job) -> None:
        """Takes a job; it starts as soon as a worker is free."""
        self._waiting.append(job)
        self._assign()

    def poll(self, timeout: float) -> list[Event]:
        """Returns what has happened since the last call, after at most `timeout` seconds."""
        events: list[Event] = []
        with contextlib.suppress(queue.Empty):
            message = self._inbox.get(timeout=timeout)
            while True:
                event = self._handle(*message)
                if event is not None:
                    events.append(event)
                message = self._inbox.get_nowait()
        for worker in list(self._workers):
            late = self._lost(worker) if worker.left_alone() else self._overdue(worker)
            if late is not None:
                events.append(late)
        self._assign()
        return events

    def close(self) -> None:
        """Stops the workers, in the middle of a run if need be; checkpoints stay."""
        self._waiting.clear()
        for worker in self._workers:
            worker.hang_up()
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            worker.end(deadline)
        self._workers.clear()

    def _assign(self) -> None:
        while self._waiting:
            free = next((worker for worker in self._workers if worker.job is None), None)
            if free is None:
                if len(self._workers) >= self._limit:
                    return
                free = _Worker(self._inbox)
                self._workers.append(free)
            free.give(self._waiting.popleft())

    def _handle(self, worker: _Worker, line: str | None) -> Event | None:
        if worker not in self._workers:
            return None
        if line is None:
            return self._lost(worker)
        assert worker.job is not None
        event = decode(worker.job.spec.identity, line)
        if isinstance(event, Ended):
            worker.job = None
        return event

    def _overdue(self, worker: _Worker) -> Event | None:
        """Kills a worker whose run has had its time: it may hang where it hears nothing else."""
        job = worker.job
        if job is None or not job.overdue(worker.given):
            return None
        self._workers.remove(worker)
        worker.end(time.monotonic())
        return timed_out(job)

    def _lost(self, worker: _Worker) -> Event | None:
        self._workers.remove(worker)
        worker.end(time.monotonic() + GRACE)
        if worker.job is None:
            return None
        reason = WorkerDied(f"the worker process {worker.why()}")
        return Ended(failed(worker.job.spec, reason), lost=True)


class _Worker:
    """A worker process, the job it has, and the thread that reads its events."""

    def __init__(self, inbox: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        self.job: Job | None = None
        self.given = 0.0  # monotonic seconds at which it got the job
        self._died: float | None = None  # monotonic seconds at which that was seen
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the worker)
        events, for_worker = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pairbench.experiments.launch.worker", str(for_worker)],
            stdin=subprocess.PIPE,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=(for_worker,),
            text=True,
            encoding="utf-8",
            env={**os.environ, **THREADS},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops us
        )
        os.close(for_worker)
        stream = os.fdopen(events, encoding="utf-8")
        threading.Thread(target=self._forward, args=(stream, inbox), daemon=True).start()

    def _forward(
        self, stream: IO[str], inbox: queue.SimpleQueue[tuple[_Worker, str | None]]
    ) -> None:
        with stream:
            for line in stream:
                if line.endswith("\n"):  # a last line without was cut off by its writer's death
                    inbox.put((self, line))
        inbox.put((self, None))

    def give(self, job: Job) -> None:
        """Sends a job; if the worker is already dead, its reader says so."""
        self.job = job
        self.given = time.monotonic()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(encode(job) + "\n")
            self._process.stdin.flush()

    def left_alone(self) -> bool:
        """Whether its process has ended, and what is left of the pipe is held by a stranger.

        A process that a run has forked holds the pipe, too, and could do so for ever.
        """
        if self._died is None and self._process.poll() is not None:
            self._died = time.monotonic()
            self._end_group()
        return self._died is not None and time.monotonic() - self._died >= LAST_WORDS

    def _end_group(self) -> None:
        """Kills it and every process that it has started, but for those that left its session."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Closes its standard input, on which it leaves."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self, deadline: float) -> None:
        """Waits for it until `deadline` (monotonic seconds), then kills it with all it started."""
        self.hang_up()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        if self._died is None:
            self._end_group()
        self._process.wait()

    def why(self) -> str:
        """How the process ended, in words, with the last line it wrote to standard error."""
        code = self._process.returncode
        if code < 0:
            try:
                how = f"was killed by signal {signal.Signals(-code).name}"
            except ValueError:
                how = f"was killed by signal {-code}"
            if -code == signal.SIGKILL:
                how += ", as happens when memory runs out"
        else:
            how = f"ended with status {code}"
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return how + (f" ({last[0].strip()})" if last else "")
