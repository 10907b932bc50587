"""Workers of this machine: what a run forks holds up nobody, and outlives nobody."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pairbench.experiments.launch.base import Ended, Execution, Job
from pairbench.experiments.launch.local import Local
from tests.support.records import record

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

WORKER = """#!{python}
import os, sys, time
sys.stdin.readline()
if os.fork() == 0:
    if {leaves}:
        os.setsid()
    open({told!r}, "w").write(str(os.getpid()))
    time.sleep(300)
while not os.path.exists({told!r}) or not open({told!r}).read():
    time.sleep(0.01)
{then}
"""


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("then", ["os._exit(3)", "time.sleep(300)"])
def test_what_a_run_has_forked_holds_up_nobody(
    leaves: bool, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has the worker's pipe; where it stays in its session, it ends with it."""
    told = tmp_path / "pid"
    script = tmp_path / "worker"
    script.write_text(
        WORKER.format(python=sys.executable, leaves=leaves, told=str(told), then=then)
    )
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    launcher = Local(1)
    spec = record("grpo", 0).spec
    launcher.submit(Job(spec, tmp_path / "c", Execution(workers=1, timeout=4.0)))
    began = time.monotonic()
    ended: list[Ended] = []
    try:
        while not ended:
            assert time.monotonic() - began < 20
            ended = [event for event in launcher.poll(0.1) if isinstance(event, Ended)]
        launcher.close()
        failure = ended[0].record.failure
        assert failure is not None
        assert failure.kind == ("WorkerDied" if "exit" in then else "TimedOut")
        assert "ended with status 3" in failure.message or "exit" not in then
        time.sleep(0.2)
        assert alive(int(told.read_text())) == leaves
        assert ended[0].lost
    finally:
        with suppress(OSError, ValueError):
            os.kill(int(told.read_text()), signal.SIGKILL)
