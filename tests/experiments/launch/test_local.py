"""Workers of this machine: what a run forks holds up nobody, and outlives nobody."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pairbench.experiments.launch.base import Ended, Execution, Job
from pairbench.experiments.launch.local import Local
from tests.support.grids import alive, wait_for
from tests.support.records import record

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

WORKER = """#!{python}
import os, sys, time
sys.stdin.readline()
if os.fork() == 0:
    if {leaves}:
        os.setsid()
    open({told!r}, "w").write(str(os.getpid()))
    time.sleep(900)
while not os.path.exists({told!r}) or not open({told!r}).read():
    time.sleep(0.01)
{then}
"""


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("then", ["os._exit(3)", "time.sleep(900)"])
def test_what_a_run_has_forked_holds_up_nobody(
    leaves: bool, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has the worker's pipe; where it stays in its session, it ends with it.

    The time of a run that does not end is up when it has forked.
    """
    told = tmp_path / "pid"
    script = tmp_path / "worker"
    script.write_text(
        WORKER.format(python=sys.executable, leaves=leaves, told=str(told), then=then)
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(
        Job, "overdue", lambda job, began: "exit" not in then and told.exists() and told.read_text()
    )
    launcher = Local(1)
    launcher.submit(Job(record("grpo", 0).spec, tmp_path / "c", Execution(workers=1, timeout=4.0)))
    try:
        (ended,) = wait_for(lambda: [e for e in launcher.poll(0.1) if isinstance(e, Ended)])
        launcher.close()
        failure = ended.record.failure
        assert failure is not None
        assert failure.kind == ("WorkerDied" if "exit" in then else "TimedOut")
        assert "ended with status 3" in failure.message or "exit" not in then
        wait_for(lambda: alive(int(told.read_text())) == leaves)
        assert ended.lost
    finally:
        with suppress(OSError, ValueError):
            os.kill(int(told.read_text()), signal.SIGKILL)
