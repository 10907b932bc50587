"""Runs on a cluster through Ray: each run is a remote task, its record flows back to this process.

Ray itself starts a task again whose worker or node is lost, and the run continues from its
checkpoint, wherever it lands.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping
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
from pairbench.places import PLACES

FORWARDED = ("PAIRBENCH_DATA", PLACES, "HF_HOME", "HF_HUB_OFFLINE")
"""Variables of this process that the tasks get, where they are set."""


HEADLESS = 30.0
"""Seconds for which the cluster's head may be out of reach; Ray itself ends this process at 60."""

ASK = 1.0
"""Seconds between two looks at whether it is there."""


class Ray(Remote):
    """A launcher of Ray tasks, `workers` at a time.

    It has one option, `address`: that of a running cluster, as `ray.init` takes it ("auto",
    "ray://host:port"). Without, it starts Ray on this machine, and stops it in the end.

    Raises:
        PairBenchError: Ray is not installed, or an option is unknown.
    """

    def __init__(self, workers: int, options: Mapping[str, str]) -> None:
        super().__init__(workers)
        if unknown := set(options) - {"address"}:
            raise PairBenchError(f"the backend ray has no option {min(unknown)!r}: it has address")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them off this machine
        self._ray: Any = required("ray", "ray")
        self._task: Any = None
        self._address = options.get("address", "local")
        self._mine = False
        self._head: tuple[str, int] | None = None
        self._asked = self._seen = 0.0  # monotonic seconds at which the head was, and answered

    def submit(self, job: Job) -> None:
        """Takes a job; the first one starts Ray.

        Raises:
            PairBenchError: the cluster cannot be reached, or Ray does not start.
        """
        if not self._ray.is_initialized():
            self._connect(job.execution.threads)
        super().submit(job)

    def close(self) -> None:
        """Kills the tasks, and Ray if it was started here; checkpoints stay."""
        if self._lost():  # nobody is left to ask, and Ray would wait for an answer
            self._waiting.clear()
            self._running.clear()
        super().close()
        if self._mine:
            self._ray.shutdown()
            self._mine = False

    def _connect(self, threads: int) -> None:
        here = {"num_cpus": self._limit * threads, "include_dashboard": False}
        given = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        try:
            self._ray.init(
                address=self._address,
                runtime_env={"env_vars": {**THREADS, **given}},
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(here if self._address == "local" else {}),
            )
        except Exception as error:
            why = next(iter(str(error).splitlines()), type(error).__name__)
            raise PairBenchError(
                f"Ray at {self._address!r} cannot be used ({why}): "
                "check --address, and that the cluster is up"
            ) from error
        self._mine = True
        # one for all jobs: each new one would have to reach the head, and wait where that is gone
        self._task = self._ray.remote(max_retries=RETRIES)(_work)
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        self._asked = self._seen = time.monotonic()
        if _answers((host, int(port))):  # behind ray://, it need not
            self._head = host, int(port)

    def _lost(self) -> bool:
        """Whether the cluster's head has been out of reach for too long."""
        if self._head is None:
            return False
        if time.monotonic() - self._asked >= ASK:
            if _answers(self._head):
                self._seen = time.monotonic()
            self._asked = time.monotonic()
        return self._asked - self._seen >= HEADLESS

    def _gone(self, why: str) -> PairBenchError:
        return PairBenchError(
            f"the Ray cluster at {self._address!r} is lost ({why}): every run that has ended is "
            "kept, and the same command continues from the checkpoints when a cluster is up"
        )

    def _start(self, job: Job) -> Any:
        given = job.execution
        needs: dict[str, Any] = {"num_cpus": given.threads, "num_gpus": given.gpus}
        if given.memory_gb is not None:
            needs["memory"] = int(given.memory_gb * 2**30)
        return self._task.options(**needs).remote(encode(job))

    def _ended(self, timeout: float) -> list[tuple[Handed, Event]]:
        if self._lost():
            raise self._gone(f"its head has not answered for {HEADLESS:g} s")
        by_handle = {task.handle: task for task in self._running}
        done, _ = self._ray.wait(list(by_handle), num_returns=len(by_handle), timeout=0)
        if not done:
            done, _ = self._ray.wait(list(by_handle), timeout=timeout)
        return [(by_handle[handle], self._end(by_handle[handle])) for handle in done]

    def _end(self, task: Handed) -> Event:
        spec = task.job.spec
        try:
            return decode(spec.identity, self._ray.get(task.handle))
        except self._ray.exceptions.LocalRayletDiedError:
            raise self._gone("the node that this process is at has died") from None
        except self._ray.exceptions.RayError as error:
            why = " ".join(str(error).split())
            return Ended(failed(spec, WorkerDied(f"the Ray task died: {why}")), lost=True)

    def _cancel(self, task: Handed) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.cancel(task.handle, force=True)


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, ASK).close()
    except OSError:
        return False
    return True


def _work(line: str) -> str:
    """Runs a job in a process of Ray's."""
    from pairbench.seeding import pin_threads

    pin_threads(1)
    return perform(line, lambda progress: None)
