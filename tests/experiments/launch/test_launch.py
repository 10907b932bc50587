"""Runs in worker processes: none is lost, none outlives its parent, all continue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pairbench.experiments.launch.base import Advanced, Ended, Event, Execution, Job
from pairbench.experiments.launch.local import Local
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.suite import Plan, plan
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.training.train import train
from tests.support.gate import Gate
from tests.support.grids import alive, children, outcome, wait_for

BANDIT = "preference-bandit"


def grid(steps: int = 2000, seeds: str = "0", algorithms: str = "grpo") -> Plan:
    return plan(
        algorithms=algorithms.split(","), tasks=[BANDIT], seeds=seeds, budget={"steps": steps}
    )


def command(results: Path, steps: int, algorithm: str = "grpo") -> list[str]:
    return [
        sys.executable, "-m", "pairbench", "run", "--algorithms", algorithm, "--tasks", BANDIT,
        "--budget-steps", str(steps), "--workers", "1", "--checkpoint-seconds", "0",
        "--evaluations", "2", "--probes", "0", "--results", str(results),
    ]  # fmt: skip


def test_a_grid_runs_in_workers_and_a_second_call_runs_nothing(tmp_path: Path) -> None:
    store, runs = Store(tmp_path), grid(seeds="0-1", algorithms="grpo,soft-pair-grpo")
    tally = execute(runs, store, Local(2), Execution(workers=2))
    assert len(tally.finished) == 4
    assert {r.identity for r in tally.records} == {spec.identity for spec in runs.specs}
    for spec in runs.specs:
        record, _ = store.find(spec)
        assert record is not None
        assert record.weights_sha256 == train(spec).record.weights_sha256
        assert store.path(spec).with_suffix(".parquet").exists()
        assert not store.checkpoint(spec).exists()

    class Refuses:
        def submit(self, job: Job) -> None:
            raise AssertionError("a finished run was submitted again")

        def poll(self, timeout: float) -> list[Event]:
            raise AssertionError

        def close(self) -> None: ...

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    again = execute(runs, store, Refuses())
    assert [outcome(r) for r in again.cached] == [
        outcome(r) for spec in runs.specs if (r := store.find(spec)[0])
    ]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}


def test_a_worker_that_dies_fails_its_run_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    store, runs = Store(tmp_path / "results"), grid(seeds="0-1", algorithms=gate.name)
    gate.shut()
    launcher = Local(1)

    class Kills(Monitor):
        """Kills the first run's worker once that run has a checkpoint."""

        killed = False

        def tick(self, tally: Tally) -> None:
            if not self.killed and store.checkpoint(runs.specs[0]).exists():
                self.killed = True
                os.kill(launcher._workers[0]._process.pid, signal.SIGKILL)
                gate.open()

    tally = execute(
        runs, store, launcher, monitor=Kills(), execution=Execution(checkpoint_seconds=0.0)
    )
    (lost,) = tally.failed
    (kept,) = tally.finished
    assert (lost.seed, kept.seed) == (0, 1)
    assert lost.failure is not None
    assert lost.failure.kind == "WorkerDied"
    assert "SIGKILL" in lost.failure.message
    assert store.checkpoint(runs.specs[0]).exists()

    (resumed,) = execute(runs, store, Local(1)).finished  # from where its worker died
    whole = train(runs.specs[0]).record
    assert outcome(resumed) | {"series_sha256": None} == outcome(whole)
    assert [r.status for r in load_records(store.root).records] == ["finished", "finished"]


def test_a_run_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = plan(
        algorithms=["grpo", "ppo"], tasks=[BANDIT], budget={"steps": 2000},
        overrides=["grpo.beta=1e300"],
    )  # fmt: skip
    tally = execute(runs, store, Local(1))
    (lost,) = tally.failed
    (kept,) = tally.finished
    assert (lost.row, kept.row) == ("grpo", "ppo")
    assert lost.failure is not None
    assert lost.failure.kind == "DivergedError"
    assert lost.failure.iteration is not None
    assert "not finite in iteration" in lost.failure.message
    (path,) = store.path(lost).parent.glob("*.json")
    assert path.name.endswith(".failed-1.json")


def test_events_tell_progress_and_noise_on_standard_output_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("print('a chatty library')")
    monkeypatch.setenv("PYTHONPATH", str(site))
    launcher, events = Local(1), []
    try:
        (spec,) = grid(steps=20_000).specs
        launcher.submit(Job(spec, tmp_path / "c.safetensors"))
        wait_for(
            lambda: events.extend(launcher.poll(0.1)) or any(isinstance(e, Ended) for e in events)
        )
    finally:
        launcher.close()
    shares = [event.spent for event in events if isinstance(event, Advanced)]
    assert shares
    assert shares == sorted(shares)
    assert isinstance(events[-1], Ended)
    assert events[-1].record.status == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_call_leaves_no_worker_and_continues_to_the_same_end(
    how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    (spec,) = plan(
        algorithms=[gate.name], tasks=[BANDIT], budget={"steps": 2000},
        protocol={"evaluations": 2, "probes": 0},
    ).specs  # fmt: skip
    store = Store(tmp_path / "results")
    gate.shut()
    process = subprocess.Popen(
        command(store.root, 2000, gate.name),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores SIGINT, and its children would, too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: store.checkpoint(spec).exists())
    workers = children(process.pid)
    assert workers
    process.send_signal(how)
    if how == signal.SIGKILL:  # whoever hears of Ctrl-C could else hear of the run's end before
        gate.open()
    _, errors = process.communicate(timeout=600)
    wait_for(lambda: not any(map(alive, workers)))
    gate.open()
    assert store.find(spec) == (None, None)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1] == (
            "pairbench: interrupted: the same command continues from here"
        )

    again = command(store.root, 2000, gate.name)
    ran = subprocess.run(again, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    record, _ = store.find(spec)
    assert record is not None
    assert outcome(record) | {"series_sha256": None} == outcome(train(spec).record)
    assert json.loads(store.path(spec).read_text())["cost"]["steps"] >= 2000


def test_two_calls_on_one_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    results = tmp_path / "results"
    gate.shut()
    process = subprocess.Popen(
        command(results, 2000, gate.name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: list((results / ".checkpoints").glob("*.safetensors")))
        second = subprocess.run(command(results, 100), capture_output=True, text=True, timeout=600)
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert f"is in use by process {process.pid}:" in second.stderr
    finally:
        process.kill()
        process.wait()
