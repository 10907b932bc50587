"""One worker process: reads jobs as JSON lines, runs them one by one, writes events as JSON lines.

Jobs come on standard input, events go to the file descriptor named on the command line, so that
whatever a library prints is never taken for an event.
When its standard input closes, or on SIGTERM, it saves a checkpoint and ends; `PATIENCE` seconds
later it ends in any case, so that no worker outlives the process that started it, however that one
was killed.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import numpy as np

    from pairbench.experiments.launch.base import Event, Job
    from pairbench.training.run import Progress

PATIENCE = 5.0  # seconds an iteration is given to end, so that the checkpoint has it

TERMINATED = 128 + signal.SIGTERM


def encode(job: Job) -> str:
    """Returns a job as one line of JSON, for `perform`; its paths are made absolute."""
    return json.dumps(
        {
            "spec": job.spec.model_dump(mode="json"),
            "checkpoint": str(job.checkpoint.absolute()),
            "threads": job.execution.threads,
            "checkpoint_seconds": job.execution.checkpoint_seconds,
            "iterations": job.iterations,
            "log": str(job.log.absolute()) if job.log is not None else None,
            "url": job.url,
        }
    )


def decode(identity: str, line: str) -> Event:
    """Returns the event of run `identity` that `perform` has given as a line of JSON."""
    from pairbench.experiments.launch.base import Advanced, Ended
    from pairbench.results.record import RunRecord

    message: dict[str, Any] = json.loads(line)
    if "advanced" in message:
        return Advanced(identity, **message["advanced"])
    record = RunRecord.model_validate(message["ended"])
    return Ended(record, unpack(message["series"]), message["texts"], warnings=message["warnings"])


def pack(series: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Returns float32 columns as base64 text."""
    return {
        name: base64.b64encode(column.astype("<f4").tobytes()).decode()
        for name, column in series.items()
    }


def unpack(packed: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the columns that `pack` was given."""
    import numpy as np

    return {name: np.frombuffer(base64.b64decode(text), "<f4") for name, text in packed.items()}


def perform(
    line: str, send: Callable[[str], None], stopping: Callable[[], bool] = lambda: False
) -> str:
    """Runs the job of `encode`; sends how it advances and returns how it ended, as lines of JSON.

    The process must have its threads pinned; the lines are for `decode`.

    Args:
        stopping: asked after each iteration; when it is true, the run saves its state and ends.

    Raises:
        Interrupted: the run was stopped.
        PairBenchError: the url of its results cannot be used here.
    """
    from pairbench.errors import Interrupted, PairBenchError
    from pairbench.experiments.launch.base import failed
    from pairbench.results.heartbeat import RunLog
    from pairbench.results.place import run_files
    from pairbench.results.record import RunSpec
    from pairbench.training.train import train

    job: dict[str, Any] = json.loads(line)
    spec = RunSpec.model_validate(job["spec"])
    path = Path(job["log"]) if job["log"] else None
    with ExitStack() as stack:
        files = stack.enter_context(run_files(Path(job["checkpoint"]), path, job["url"]))
        log = stack.enter_context(RunLog(files.log, spec))
        warnings: list[str] = []

        def warn(text: str) -> None:
            log.note("warning", text=text)
            warnings.append(text)

        if files.warning is not None:
            warn(files.warning)

        def advanced(progress: Progress) -> None:
            log.advanced(**vars(progress))
            send(json.dumps({"advanced": vars(progress)}))

        series: Mapping[str, str] = {}
        texts: Mapping[str, list[str]] = {}
        spent_on: Mapping[str, float] = {}
        try:
            result = train(
                spec,
                threads=job["threads"],
                checkpoint=files.checkpoint,
                checkpoint_seconds=job["checkpoint_seconds"],
                iterations=job["iterations"],
                on_progress=advanced,
                warn=warn,
                stopping=stopping,
            )
        except PairBenchError as error:
            record = failed(spec, error)
        except Interrupted:
            log.note("stopped", reason="its process was asked to end")
            raise
        else:
            record, series, texts = result.record, pack(result.series), result.texts
            spent_on = {name: round(seconds, 3) for name, seconds in result.spent_on.items()}
        log.note(
            "ended", status=record.status, reason=record.reason, seconds=record.cost.seconds,
            spent_on=spent_on,
        )  # fmt: skip
    ended = {"ended": record.model_dump(mode="json"), "series": series, "texts": texts}
    return json.dumps(ended | {"warnings": warnings})


def main() -> None:
    """Serves jobs until standard input closes."""
    os.set_inheritable(int(sys.argv[1]), False)  # no program that a run starts holds it
    events = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    jobs: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stop = _Stop(jobs)
    signal.signal(signal.SIGTERM, lambda *_: stop.now(TERMINATED))
    threading.Thread(target=_read, args=(sys.stdin, jobs, stop), daemon=True).start()

    from pairbench.errors import Interrupted
    from pairbench.seeding import pin_threads

    pin_threads(1)

    def send(line: str) -> None:
        try:
            events.write(line + "\n")
            events.flush()
        except BrokenPipeError:
            os._exit(0)

    while (job := jobs.get()) is not None:
        try:
            send(perform(job, send, lambda: stop.status is not None))
        except Interrupted:
            break
    _end(stop.status or 0)


def _end(status: int) -> NoReturn:
    """Ends at once: checkpoints are whole files. What runs have started is asked to end, too."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGTERM)  # which this process takes for what it knows already
    os._exit(status)


class _Stop:
    """That the process is to end, and with which status; None: it is not."""

    def __init__(self, jobs: queue.SimpleQueue[str | None]) -> None:
        self.status: int | None = None
        self._jobs = jobs

    def now(self, status: int) -> None:
        if self.status is None:
            self.status = status
            self._jobs.put(None)
            threading.Thread(target=self._leave, daemon=True).start()

    def _leave(self) -> None:
        time.sleep(PATIENCE)
        _end(self.status or 0)


def _read(stream: IO[str], jobs: queue.SimpleQueue[str | None], stop: _Stop) -> None:
    for line in stream:
        jobs.put(line)
    stop.now(0)  # the parent is gone or has closed us


if __name__ == "__main__":
    main()
