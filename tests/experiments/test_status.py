"""How far a grid is, from the files its runs leave: running, waiting, stalled, failed, done."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.status import IDLE, SILENT, look, profiles, render
from pairbench.experiments.suite import plan
from pairbench.results.folder import Store
from pairbench.results.heartbeat import RunLog, heartbeat_path, read_log
from pairbench.results.record import RunRecord
from tests.faults.forked import Here
from tests.support.records import record


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_states_of_runs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    done, failed = record("grpo", 0), record("grpo", 1, status="failed", reason="it diverged")
    store.write(done)
    store.write(failed)
    store.write(record("ppo", 0, status="failed", reason="made good since"))
    store.write(record("ppo", 0))
    running, waiting, dead, hung = (record("dpo", seed) for seed in range(4))
    runs = (done, running, waiting, dead, hung)
    with RunLog(store.log(running.spec), running.spec) as log:
        log.advanced(0.25, 3, 1.5, 60.0)
        log._write()
        live = heartbeat_path(store.log(running.spec))
        for other, idle, old in ((dead, 0.0, SILENT + 1), (hung, IDLE + 1, 0.0)):
            sign = {**json.loads(live.read_text()), "identity": other.identity, "idle": idle}
            path = heartbeat_path(store.log(other.spec))
            path.write_text(json.dumps({**sign, "seed": other.seed}))
            age(path, old)
        names = {r.identity: f"{r.row} {r.seed}" for r in runs}
        store.driver_heartbeat.write_text(json.dumps({"runs": names}))
        found = look(tmp_path)
        states = {run.identity: run for run in found.runs}
        assert {one: states[one].state for one in states} == {
            running.identity: "running", waiting.identity: "waiting", dead.identity: "stalled",
            hung.identity: "stalled", failed.identity: "failed",
        }  # fmt: skip
        assert found.counts == {
            "running": 1,
            "waiting": 1,
            "stalled": 2,
            "failed": 1,
            "finished": 2,
        }
        assert (states[running.identity].spent, states[running.identity].reward) == (0.25, 1.5)
        assert "has been silent for 0:31: run it again" in states[dead.identity].detail
        assert "has ended no iteration for 15:01" in states[hung.identity].detail
        assert "dpo on halfcheetah-v4, seed 0" in render(found)
        age(store.driver_heartbeat, SILENT + 1)  # the call that was to run the rest is gone
        assert look(tmp_path).counts["waiting"] == 0
    assert not live.exists()
    assert look(tmp_path).counts["running"] == 0
    with pytest.raises(PairBenchError, match="there is no results folder"):
        look(tmp_path / "none")


def test_a_run_leaves_its_log_and_what_its_seconds_went_into(tmp_path: Path) -> None:
    runs = plan(algorithms=["grpo"], tasks=["preference-bandit"], budget={"steps": 1000})
    store = Store(tmp_path)
    began = time.monotonic()
    (done,) = execute(runs, store, Here()).finished
    took = time.monotonic() - began
    lines = read_log(store.log(done.spec))
    assert lines[0]["event"] == "started"
    assert lines[-1]["event"] == "ended"
    assert lines[-1]["status"] == "finished"
    spent_on = lines[-1]["spent_on"]
    assert {"collect", "update", "evaluate"} <= set(spent_on)
    assert 0 < sum(spent_on.values()) <= took + 0.001 * len(spent_on)
    assert "grpo on preference-bandit, seed 0" in profiles([done], tmp_path)
    assert not list(store.driver_heartbeat.parent.glob("*.json"))
    with store.log(done.spec).open("a") as file:
        file.write('{"event": "cut o')  # by its writer's death
    assert read_log(store.log(done.spec)) == lines


def test_a_profile_of_nothing_or_of_a_stranger_is_none(tmp_path: Path) -> None:
    one = record("grpo", 0)
    log = Store(tmp_path).log(one.spec)
    log.parent.mkdir(parents=True)
    for spent in ({"a": 0.0, "b": 0}, {"a": "x"}, {"a": None, "b": [1]}, {"a": -1.0}, "x", {}):
        log.write_text(json.dumps({"event": "ended", "spent_on": spent}) + "\n")
        assert profiles([one], tmp_path) == "no run has left a profile\n"
    log.write_text(json.dumps({"event": "ended", "spent_on": {"a\x1b": 3, "b": "x", "c": 1.0}}))
    assert profiles([one], tmp_path).split() == [
        "run", "seconds", "a", "c", "grpo", "on", "halfcheetah-v4,", "seed",
        "0", "4.0", "75%", "25%",
    ]  # fmt: skip


def test_what_another_clock_wrote_ahead_of_this_one_is_not_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.driver_heartbeat.parent.mkdir()
    store.driver_heartbeat.write_text(json.dumps({"runs": {"x": "grpo on t, seed 0"}}))
    assert look(tmp_path).counts["waiting"] == 1
    sign = heartbeat_path(store.log(record("grpo", 0).spec))
    sign.write_text(json.dumps({"identity": "y", "row": "a", "task": "t", "seed": 0}))
    for path in (store.driver_heartbeat, sign):
        os.utime(path, (time.time() + 9000, time.time() + 9000))
    counts = look(tmp_path).counts
    assert (counts["waiting"], counts["stalled"]) == (0, 1)
    assert "wrote last 2:30:00 from now" in look(tmp_path).runs[0].detail


def test_records_that_are_removed_under_a_call_are_missed(tmp_path: Path) -> None:
    runs = plan(
        algorithms=["grpo"], tasks=["preference-bandit"], seeds="0-1", budget={"steps": 600},
        protocol={"evaluations": 1, "probes": 0},
    )  # fmt: skip
    store = Store(tmp_path)

    class Removes(Monitor):
        def ended(self, record: RunRecord, tally: Tally) -> None:
            if record.seed == 0:
                store.path(record).unlink()

    with pytest.raises(PairBenchError, match=r"1 of 2 records were removed from .*seed 0, \.\.\."):
        execute(runs, store, Here(), monitor=Removes())
    left = store.checkpoint(runs.specs[1])
    left.write_bytes(b"of a call that was killed after its record's rename")
    tally = execute(runs, store, Here())
    assert (len(tally.cached), len(tally.finished)) == (1, 1)
    assert not left.exists()
