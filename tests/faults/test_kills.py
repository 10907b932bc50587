"""kill -9 of drivers and workers at random moments over small grids: nothing is lost or differs."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pairbench.experiments.runner import execute
from pairbench.experiments.suite import Plan, plan
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record import RunRecord
from pairbench.seeding import generator
from pairbench.training import provenance
from tests.faults.forked import Here, driver
from tests.support.grids import children, outcome, same

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


def grid() -> Plan:
    """Four short runs, of ten iterations each."""
    return plan(
        algorithms=["grpo", "dpo"], tasks=["preference-bandit"], seeds="0-1",
        budget={"steps": 2560}, protocol={"evaluations": 2, "probes": 0},
        overrides=["grpo.epochs=1", "dpo.epochs=1"],
    )  # fmt: skip


def ended(pid: int) -> bool:
    """Whether a child of ours has ended; it must have ended well, or been killed."""
    done, status = os.waitpid(pid, os.WNOHANG)
    assert not done or os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return done != 0


def sound(store: Store, truth: dict[str, RunRecord]) -> int:
    """Asserts that all that is visible is whole and true; returns how many runs have finished."""
    if not store.root.is_dir():
        return 0
    records, problems = load_records(store.root)
    assert problems == []
    finished = [record for record in records if record.status == "finished"]
    for record in finished:
        assert outcome(record) == outcome(truth[record.identity])
        series = store.path(record).with_suffix(".parquet").read_bytes()
        assert hashlib.sha256(series).hexdigest() == record.series_sha256
    return len(finished)


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking git which commit this is takes longer than these runs, and no bit depends on it."""
    monkeypatch.setattr(provenance, "_git", lambda: (None, None))


def inject(faults: int, seed: int, folder: Path) -> Counter[str]:
    """Kills something `faults` times; returns how often what was killed, and the grids it took."""
    runs, stream = grid(), generator(seed, "test:kills")
    reference = Store(folder / "reference")
    began = time.monotonic()
    truth = {r.identity: r for r in execute(runs, reference, Here()).finished}
    usual = time.monotonic() - began
    count: Counter[str] = Counter()
    while count["driver"] + count["worker"] < faults or not (count["driver"] and count["worker"]):
        store, before = Store(folder / f"grid-{count['grids']}"), 0
        while before < len(runs.specs):
            pid = driver(runs, store.root)
            over = False
            moment = time.monotonic() + float(stream.uniform(0, usual))
            while time.monotonic() < moment and not over:
                over = ended(pid)
                time.sleep(0.005)
            workers = [] if over else children(pid)
            if over:
                pass
            elif workers and stream.random() < 0.5:
                os.kill(workers[int(stream.integers(len(workers)))], signal.SIGKILL)
                count["worker"] += 1
                while not ended(pid):  # it goes on with the other runs
                    time.sleep(0.02)
            else:
                os.kill(pid, signal.SIGKILL)  # and leaves workers, which see it a moment later
                os.waitpid(pid, 0)
                count["driver"] += 1
            now = sound(store, truth)
            assert now >= before  # no record is ever lost
            before = now
        same(store, reference, runs)
        count["grids"] += 1
        print(dict(count), f"{time.monotonic() - began:.0f} s", flush=True)
    return count


def test_a_few_kills(tmp_path: Path) -> None:
    count = inject(8, 0, tmp_path)
    assert count["driver"] > 0
    assert count["worker"] > 0


@pytest.mark.slow
def test_two_hundred_kills(tmp_path: Path) -> None:
    count = inject(200, 1, tmp_path)
    print(
        f"\nkilled {count['driver']} drivers and {count['worker']} workers, {count['grids']} grids"
    )
    assert count["driver"] + count["worker"] >= 200
