"""What a machine does to runs: no room, no memory, no answer, another clock, SIGTERM."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pairbench.errors import Interrupted, PairBenchError
from pairbench.experiments.launch.base import Execution, Job
from pairbench.experiments.launch.local import Local
from pairbench.experiments.launch.worker import decode, encode, perform
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.status import look
from pairbench.experiments.suite import Plan, plan
from pairbench.results.folder import Store
from pairbench.results.heartbeat import read_log
from pairbench.results.load import load_records
from tests.faults.forked import Here
from tests.support.gate import Gate
from tests.support.grids import outcome, same, wait_for

BANDIT = "preference-bandit"


def grid(seeds: str = "0-1", *overrides: str) -> Plan:
    return plan(
        algorithms=["grpo"], tasks=[BANDIT], seeds=seeds, budget={"steps": 2560},
        protocol={"evaluations": 2, "probes": 0}, overrides=["grpo.epochs=1", *overrides],
    )  # fmt: skip


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, in memory, of a given size."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount).returncode:
        pytest.skip("mounting a small disk takes Linux and its superuser")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Writes to a file until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    assert os.statvfs(path).f_bavail == 0


class Fills(Monitor):
    """Fills the disk when the first run has ended."""

    def __init__(self, folder: Path) -> None:
        self.filler = folder / "filler"

    def tick(self, tally: Tally) -> None:
        if tally.finished and not self.filler.exists():
            fill(self.filler)


def test_a_full_disk_ends_the_call_in_one_sentence_and_costs_no_run(tmp_path: Path) -> None:
    runs, reference = grid(), Store(tmp_path / "reference")
    execute(runs, reference, Here())
    with disk(tmp_path / "disk", "1m") as folder:
        store, monitor = Store(folder / "results"), Fills(folder)
        with pytest.raises(PairBenchError, match="is full: every run that ended before is kept"):
            execute(
                runs, store, Here(), monitor=monitor, execution=Execution(checkpoint_seconds=0.0)
            )
        records, problems = load_records(store.root)
        assert [record.seed for record in records] == [0]
        assert not problems
        monitor.filler.unlink()
        assert len(execute(runs, store, Here()).cached) == 1
        same(store, reference, runs)


def test_a_checkpoint_that_cannot_be_saved_costs_no_run(tmp_path: Path) -> None:
    (spec,) = grid("0").specs
    with disk(tmp_path / "disk", "1m") as folder:
        checkpoint, log = folder / "c.safetensors", tmp_path / "d.jsonl"
        job = Job(spec, checkpoint, Execution(checkpoint_seconds=0.0), log=log)
        fill(folder / "filler")
        end = decode(spec.identity, perform(encode(job), lambda progress: None))
        assert end.record.status == "finished"
        assert [path.name for path in folder.iterdir()] == ["filler"]
    assert "cannot be saved (No space left on device)" in log.read_text()


def test_a_read_only_folder_is_one_sentence_and_can_be_read(tmp_path: Path) -> None:
    runs = grid()
    with disk(tmp_path / "disk", "1m") as folder:
        store = Store(folder / "results")
        execute(grid("0"), store, Here())
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(PairBenchError, match=r"cannot be written \(Read-only file system\)"):
            execute(runs, store, Here())
        assert [record.seed for record in load_records(store.root).records] == [0]
        assert look(store.root).counts["finished"] == 1


def test_a_clock_that_goes_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, reference = grid(), Store(tmp_path / "reference")
    execute(runs, reference, Here())
    store, now = Store(tmp_path / "results"), time.time()
    execute(grid("0"), store, Here(), execution=Execution(checkpoint_seconds=0.0))
    for path in store.root.rglob("*"):
        os.utime(path, (now + 1e6, now + 1e6))  # written before the clock was put back
    monkeypatch.setattr(time, "time", iter(range(int(now), 0, -3600)).__next__)
    execute(runs, store, Here(), execution=Execution(checkpoint_seconds=0.0))
    same(store, reference, runs)
    assert look(store.root).counts["finished"] == 2


def test_a_run_that_hangs_is_killed_when_its_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    runs = plan(algorithms=[gate.name], tasks=[BANDIT], budget={"steps": 2560})
    store, launcher = Store(tmp_path / "results"), Local(1)
    gate.shut()

    class Stops(Monitor):
        """Stops the worker dead, once its run is under way."""

        def tick(self, tally: Tally) -> None:
            if store.log(runs.specs[0]).exists() and not tally.failed:
                os.kill(launcher._workers[0]._process.pid, signal.SIGSTOP)

    began = time.monotonic()
    (lost,) = execute(runs, store, launcher, Execution(timeout=10.0), Stops()).failed
    assert time.monotonic() - began >= 10.0
    gate.open()
    assert lost.failure is not None
    assert lost.failure.kind == "TimedOut"
    assert lost.failure.message.startswith("killed after 10 s, the time a run is given: ")
    assert look(store.root).counts["failed"] == 1
    (again,) = execute(runs, store, Here()).finished
    assert again.status == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS binds on Linux")
def test_a_run_out_of_memory_fails_with_advice_and_alone(tmp_path: Path) -> None:
    """In a forked process, which may take 256 MiB more than it has."""
    runs = plan(
        algorithms=["grpo"], tasks=[BANDIT], budget={"steps": 10**8},
        protocol={"evaluations": 1, "probes": 0},
        overrides=["grpo.contexts=1000000"],
    )  # fmt: skip
    big, small = runs.specs[0], grid("1").specs[0]
    pid = os.fork()
    if pid == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            execute(Plan([big, small]), Store(tmp_path), Here())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    lost, kept = sorted(load_records(tmp_path).records, key=lambda record: record.seed)
    assert (lost.status, kept.status) == ("failed", "finished")
    assert lost.failure is not None
    assert lost.failure.kind == "OutOfMemory"
    assert "lower contexts" in lost.failure.message


def test_sigterm_saves_the_runs_and_says_so(tmp_path: Path) -> None:
    """The checkpoint is there though the next one was due in a quarter of an hour."""
    (spec,) = plan(
        algorithms=["grpo"], tasks=[BANDIT], budget={"steps": 10**7},
        protocol={"evaluations": 1, "probes": 0},
    ).specs  # fmt: skip
    store = Store(tmp_path)
    process = subprocess.Popen(
        [
            sys.executable, "-m", "pairbench", "run", "--algorithms", "grpo", "--tasks", BANDIT,
            "--budget-steps", "10000000", "--workers", "1", "--checkpoint-seconds", "900",
            "--evaluations", "1", "--probes", "0", "--results", str(tmp_path),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    wait_for(lambda: [line for line in read_log(store.log(spec)) if "spent" in line], 300.0)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143
    assert errors.splitlines()[-1] == "pairbench: terminated: the same command continues from here"
    assert store.checkpoint(spec).exists()
    assert store.find(spec) == (None, None)
    assert '"event": "stopped"' in store.log(spec).read_text()
    assert look(tmp_path).counts["running"] == 0


def test_a_run_that_is_asked_to_stop_goes_on_to_the_same_end(tmp_path: Path) -> None:
    (spec,) = grid("0").specs
    whole = decode(spec.identity, perform(encode(Job(spec, tmp_path / "a")), print)).record
    asked = iter([False] * 4)  # and True from then on
    job = encode(Job(spec, tmp_path / "b", Execution(checkpoint_seconds=900.0)))
    with pytest.raises(Interrupted):
        perform(job, print, lambda: next(asked, True))
    assert (tmp_path / "b").exists()
    again = decode(spec.identity, perform(job, print)).record
    assert outcome(again) == outcome(whole)
