"""One worker process: reads jobs as JSON lines, runs them one by one, writes events as JSON lines.

Jobs come on standard input, events go to the file descriptor named on the command line, so that
whatever a library prints is never taken for an event.
It ends when its standard input closes, in the middle of a run if need be, so that no worker
outlives the process that started it, however that one was killed.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pairbench.trainer import Progress


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


def main() -> None:
    """Serves jobs until standard input closes."""
    events = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, jobs), daemon=True).start()

    from pairbench.seeding import pin_threads

    pin_threads(1)
    while True:
        _serve(jobs.get(), events)


def _read(stream: IO[str], jobs: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in stream:
        jobs.put(json.loads(line))
    os._exit(0)  # the parent is gone or has closed us: stop at once, checkpoints are whole files


def _serve(job: dict[str, Any], events: IO[str]) -> None:
    from pairbench.errors import PairBenchError
    from pairbench.launch import failed
    from pairbench.record import RunSpec
    from pairbench.trainer import train

    def send(event: Mapping[str, Any]) -> None:
        try:
            events.write(json.dumps(event) + "\n")
            events.flush()
        except BrokenPipeError:
            os._exit(0)

    def advanced(progress: Progress) -> None:
        send({"advanced": vars(progress)})

    spec = RunSpec.model_validate(job["spec"])
    try:
        result = train(
            spec,
            threads=job["threads"],
            checkpoint=Path(job["checkpoint"]),
            checkpoint_seconds=job["checkpoint_seconds"],
            iterations=job["iterations"],
            on_progress=advanced,
        )
    except PairBenchError as error:
        send({"ended": failed(spec, error).model_dump(mode="json"), "series": {}, "texts": {}})
    else:
        send(
            {
                "ended": result.record.model_dump(mode="json"),
                "series": pack(result.series),
                "texts": result.texts,
            }
        )


if __name__ == "__main__":
    main()
