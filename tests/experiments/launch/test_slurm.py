"""Runs through submitit, with its executor for this machine in Slurm's place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import open_launcher
from pairbench.experiments.launch.base import Execution
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.suite import plan
from pairbench.results.folder import Store
from pairbench.results.heartbeat import read_log
from pairbench.results.record import RunSpec
from tests.faults.forked import Here
from tests.support.gate import Gate
from tests.support.grids import same

pytest.importorskip("submitit", reason="submitit is missing: pip install 'pairbench[slurm]'")


class KillsAJob(Monitor):
    """Kills the process of the run that waits at the gate, and opens that."""

    def __init__(self, store: Store, gate: Gate, spec: RunSpec) -> None:
        self.store, self.gate, self.spec, self.killed = store, gate, spec, 0

    def tick(self, tally: Tally) -> None:
        if not self.killed and self.store.checkpoint(self.spec).exists():
            self.killed = read_log(self.store.log(self.spec))[0]["pid"]
            os.kill(self.killed, signal.SIGKILL)
            self.gate.open()


def test_jobs_give_the_records_of_local_workers_though_one_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    runs = plan(algorithms=[gate.name], tasks=["preference-bandit"], budget={"steps": 5000})
    local, remote = Store(tmp_path / "local"), Store(tmp_path / "remote")
    execute(runs, local, Here())
    gate.shut()
    folder = tmp_path / "jobs"
    launcher = open_launcher(
        Execution(backend="slurm", workers=1, options={"cluster": "local", "folder": str(folder)})
    )
    monitor = KillsAJob(remote, gate, runs.specs[0])
    tally = execute(
        runs, remote, launcher, monitor=monitor, execution=Execution(checkpoint_seconds=0.0)
    )
    assert monitor.killed
    assert not tally.failed
    same(remote, local, runs)
    events = [line["event"] for line in read_log(remote.log(runs.specs[0]))]
    assert events.count("started") == 2
    assert events.count("ended") == 1
    assert not list(folder.iterdir())  # nothing is left behind


def test_what_slurm_cannot_take_is_one_sentence(tmp_path: Path) -> None:
    options = {"cluster": "local", "folder": str(tmp_path)}
    with pytest.raises(PairBenchError, match="submitit refuses the backend's options"):
        open_launcher(Execution(backend="slurm", workers=1, options={**options, "colour": "red"}))
    (tmp_path / "file").write_text("")
    with pytest.raises(PairBenchError, match="cannot be written"):
        open_launcher(
            Execution(
                backend="slurm",
                workers=1,
                options={**options, "folder": str(tmp_path / "file" / "jobs")},
            )
        )
