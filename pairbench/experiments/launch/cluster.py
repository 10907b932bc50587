"""What launchers on a cluster share: jobs that wait, jobs that run, and how far those are.

A cluster's nodes must have PairBench installed and see the results folder: the checkpoints are
there, and so are the heartbeats by which a run's progress is known here.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pairbench.experiments.launch.base import Advanced, Event, Job, timed_out
from pairbench.results.files import read_json_object
from pairbench.results.heartbeat import heartbeat_path

LOOK = 1.0  # seconds between two looks at what the runs have left behind


@dataclass
class Handed:
    """A job that was handed to the cluster, and the cluster's own name for it."""

    job: Job
    handle: Any
    began: float | None = None  # monotonic seconds of its first heartbeat, None: it waits
    heartbeat: Mapping[str, Any] = field(default_factory=dict)
    gone: float | None = None  # monotonic seconds at which it was first seen to be no more


class Remote(ABC):
    """A launcher of at most `workers` jobs at a time; what is done with one is the subclass's."""

    def __init__(self, workers: int) -> None:
        self._limit = workers
        self._waiting: deque[Job] = deque()
        self._running: list[Handed] = []
        self._next = 0.0

    @abstractmethod
    def _start(self, job: Job) -> Any:
        """Hands a job to the cluster; returns the handle by which it goes there."""

    @abstractmethod
    def _ended(self, timeout: float) -> list[tuple[Handed, Event]]:
        """Returns the tasks that have ended, with their ends, after at most `timeout` seconds."""

    @abstractmethod
    def _cancel(self, task: Handed) -> None:
        """Kills a task, wherever it is."""

    def submit(self, job: Job) -> None:
        """Takes a job; it is handed to the cluster as soon as there is room."""
        self._waiting.append(job)
        self._assign()

    def poll(self, timeout: float) -> list[Event]:
        """Returns what has happened since the last call, after at most `timeout` seconds or so."""
        events: list[Event] = []
        for task, event in self._ended(timeout):
            self._running.remove(task)
            events.append(event)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK
            events += filter(None, map(self._look, list(self._running)))
        self._assign()
        return events

    def close(self) -> None:
        """Kills the tasks, in the middle of a run if need be; checkpoints stay."""
        self._waiting.clear()
        for task in self._running:
            self._cancel(task)
        self._running.clear()

    def _assign(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            job = self._waiting.popleft()
            self._running.append(Handed(job, self._start(job)))

    def _look(self, task: Handed) -> Event | None:
        """How far a task is, if that is news; one whose time is up is killed."""
        job = task.job
        now = (read_json_object(heartbeat_path(job.log)) if job.log is not None else None) or {}
        if now and task.began is None:
            task.began = time.monotonic()
        if task.began is not None and job.overdue(task.began):
            self._cancel(task)
            self._running.remove(task)
            return timed_out(job)
        if now == task.heartbeat or "spent" not in now:
            return None
        task.heartbeat = now
        return Advanced(
            job.spec.identity, now["spent"], now["iteration"], now["reward"], now["seconds"]
        )
