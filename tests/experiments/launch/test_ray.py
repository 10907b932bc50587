"""Runs on a real Ray cluster of two nodes on this machine: every run ends once, nothing differs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import open_launcher
from pairbench.experiments.launch.base import Execution
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.suite import Plan, plan
from pairbench.results.folder import Store
from pairbench.results.heartbeat import read_log
from pairbench.results.load import load_records
from tests.faults.forked import Here
from tests.support.gate import Gate
from tests.support.grids import alive, same, wait_for

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairbench[ray]'")


@contextmanager
def head(cpus: int) -> Iterator[Any]:
    """A cluster of one node."""
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 2**27},
    )
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


NODE = {"num_cpus": 2, "object_store_memory": 2**27}
"""With room for two runs: one that waits at the gate holds up no other."""


@contextmanager
def cluster(**node: Any) -> Iterator[tuple[Any, Any]]:
    """A head without room for runs and one node that has it; yields both."""
    with head(cpus=0) as made:
        yield made, made.add_node(**NODE, **node)


class KillsANode(Monitor):
    """Kills the node that runs are on when one waits at the gate, opens that, and adds a node."""

    def __init__(self, made: Any, node: Any, store: Store, gate: Gate, runs: Plan) -> None:
        self.made, self.node, self.store, self.gate = made, node, store, gate
        self.gated = [spec for spec in runs.specs if spec.algorithm == gate.name]
        self.killed = 0

    def tick(self, tally: Tally) -> None:
        waiting = [spec for spec in self.gated if self.store.checkpoint(spec).exists()]
        if not self.killed and tally.finished and waiting:
            self.killed = read_log(self.store.log(waiting[0]))[0]["pid"]
            self.made.remove_node(self.node, allow_graceful=False)
            wait_for(lambda: not alive(self.killed))
            self.gate.open()
            self.made.add_node(**NODE)


@pytest.mark.slow
def test_a_node_killed_in_mid_grid_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    runs = plan(
        algorithms=["grpo", gate.name], tasks=["preference-bandit"], seeds="0-1",
        budget={"steps": 6000},
    )  # fmt: skip
    local, remote = Store(tmp_path / "local"), Store(tmp_path / "remote")
    execute(runs, local, Here())
    gate.shut()
    with cluster() as (made, node):
        monitor = KillsANode(made, node, remote, gate, runs)
        launcher = open_launcher(
            Execution(backend="ray", workers=2, options={"address": made.address})
        )
        tally = execute(
            runs, remote, launcher, monitor=monitor, execution=Execution(checkpoint_seconds=0.0)
        )
    assert monitor.killed
    assert not tally.failed
    assert len(tally.finished) == 4
    same(remote, local, runs)
    logs = [path.read_text() for path in (remote.root / ".runs").glob("*.jsonl")]
    assert len(logs) == 4
    assert sum(log.count('"event": "started"') for log in logs) > 4  # one was begun again
    assert any('"event": "resumed"' in log for log in logs)


@pytest.mark.slow
def test_a_thousand_trivial_runs_end_once_each(tmp_path: Path) -> None:
    runs = plan(
        algorithms=["random"], tasks=["preference-bandit"], seeds="0-999", budget={"steps": 10},
        protocol={"evaluations": 1, "probes": 0},
    )  # fmt: skip
    tally = execute(runs, Store(tmp_path), open_launcher(Execution(backend="ray", workers=8)))
    assert len(tally.finished) == 1000


def test_ray_on_this_machine_gives_the_records_of_local_workers(tmp_path: Path) -> None:
    runs = plan(algorithms=["grpo"], tasks=["preference-bandit"], budget={"steps": 2000})
    local, remote = Store(tmp_path / "local"), Store(tmp_path / "remote")
    execute(runs, local, Here())
    execute(runs, remote, open_launcher(Execution(backend="ray", workers=1)))
    same(remote, local, runs)


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    runs = plan(algorithms=["grpo"], tasks=["preference-bandit"], budget={"steps": 2000})
    launcher = open_launcher(Execution(backend="ray", workers=1, options={"address": "auto"}))
    with pytest.raises(PairBenchError, match=r"Ray at 'auto' cannot be used .*check --address"):
        execute(runs, Store(tmp_path), launcher)
    with pytest.raises(PairBenchError, match="the backend ray has no option 'colour'"):
        open_launcher(Execution(backend="ray", workers=1, options={"colour": "red"}))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [("gcs_server", "raylet"), ("raylet",)], ids=["head", "raylet"])
def test_a_head_killed_in_mid_grid_is_one_sentence_and_costs_nothing(
    killed: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver has 30 s for it to come back, and says so before Ray would end the process."""
    gate = Gate(tmp_path / "site", monkeypatch)
    runs = plan(
        algorithms=["grpo", gate.name], tasks=["preference-bandit"], seeds="0-3",
        budget={"steps": 6000}, protocol={"evaluations": 2, "probes": 0},
    )  # fmt: skip
    local, remote = Store(tmp_path / "local"), Store(tmp_path / "remote" / "results")
    execute(runs, local, Here())
    gate.shut()

    def driver(address: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable, "-m", "pairbench", "run", "--algorithms", f"grpo,{gate.name}",
                "--tasks", "preference-bandit", "--seeds", "0-3", "--budget-steps", "6000",
                "--evaluations", "2", "--probes", "0", "--checkpoint-seconds", "0", "--backend",
                "ray", "--address", address, "--workers", "2", "--results", str(remote.root),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip

    with head(cpus=2) as made:
        first = driver(made.address)
        checkpoints = [remote.checkpoint(s) for s in runs.specs if s.algorithm == gate.name]
        wait_for(
            lambda: list(remote.root.glob("*/*/*.json")) and any(p.exists() for p in checkpoints)
        )
        for name in killed:
            for one in made.head_node.all_processes[name]:
                one.process.kill()
        gate.open()  # what runs may end, and nothing more can begin
        _, said = first.communicate(timeout=600)
    assert first.returncode == 2, said
    assert "pairbench: the Ray cluster at '" in said
    assert "' is lost (" in said
    assert not list(remote.root.rglob("*.tmp"))
    before = load_records(remote.root)
    assert before.records
    assert {record.status for record in before.records} == {"finished"}
    assert not before.problems
    with head(cpus=2) as made:
        again = driver(made.address)
        _, said = again.communicate(timeout=600)
    assert again.returncode == 0
    assert f"{len(before.records)} done before" in said
    same(remote, local, runs)
