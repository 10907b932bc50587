"""Runs on a real Ray cluster of two nodes on this machine: every run ends once, nothing differs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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
from pairbench.experiments.suite import plan
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from tests.faults.forked import Here
from tests.support.grids import same, wait_for

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairbench[ray]'")


@contextmanager
def head(cpus: int = 1) -> Iterator[Any]:
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


@contextmanager
def cluster(**second: Any) -> Iterator[tuple[Any, Any]]:
    """A head without room for runs and one node with room for one; yields both."""
    with head(cpus=0) as made:
        yield made, made.add_node(num_cpus=1, object_store_memory=2**27, **second)


class KillsANode(Monitor):
    """Kills the node that runs are on, in the middle of one that has a checkpoint, and adds one."""

    def __init__(self, made: Any, node: Any, store: Store) -> None:
        self.made, self.node, self.store = made, node, store
        self.killed = False

    def tick(self, tally: Tally) -> None:
        saved = {path.stem for path in (self.store.root / ".checkpoints").glob("*.safetensors")}
        far_from_done = {key[:16] for key, run in tally.running.items() if run.spent < 0.7}
        if not self.killed and tally.finished and saved & far_from_done:
            self.killed = True
            self.made.remove_node(self.node, allow_graceful=False)
            self.made.add_node(num_cpus=1, object_store_memory=2**27)


@pytest.mark.slow
def test_a_node_killed_in_mid_grid_costs_nothing(tmp_path: Path) -> None:
    runs = plan(
        algorithms=["grpo", "soft-pair-grpo"], tasks=["preference-bandit"], seeds="0-1",
        budget={"steps": 60_000},
    )  # fmt: skip
    local, remote = Store(tmp_path / "local"), Store(tmp_path / "remote")
    execute(runs, local, Here())
    with cluster() as (made, node):
        monitor = KillsANode(made, node, remote)
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
def test_a_thousand_trivial_runs_cost_little_each(tmp_path: Path) -> None:
    runs = plan(
        algorithms=["random"], tasks=["preference-bandit"], seeds="0-999", budget={"steps": 10},
        protocol={"evaluations": 1, "probes": 0},
    )  # fmt: skip
    began = time.perf_counter()
    tally = execute(runs, Store(tmp_path), open_launcher(Execution(backend="ray", workers=8)))
    seconds = time.perf_counter() - began
    inside = sum(record.cost.seconds for record in tally.finished)
    print(f"\n{seconds:.0f} s for 1000 runs, of which {inside:.0f} s inside them")
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
    killed: tuple[str, ...], tmp_path: Path
) -> None:
    """The driver has 30 s for it to come back, and says so before Ray would end the process."""
    runs = plan(
        algorithms=["grpo"], tasks=["preference-bandit"], seeds="0-3", budget={"steps": 30_000},
        protocol={"evaluations": 2, "probes": 0},
    )  # fmt: skip
    local, remote = Store(tmp_path / "local"), Store(tmp_path / "remote" / "results")
    execute(runs, local, Here())

    def driver(address: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable, "-m", "pairbench", "run", "--algorithms", "grpo", "--tasks",
                "preference-bandit", "--seeds", "0-3", "--budget-steps", "30000", "--evaluations",
                "2", "--probes", "0", "--checkpoint-seconds", "0", "--backend", "ray",
                "--address", address, "--results", str(remote.root),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip

    with head() as made:
        first = driver(made.address)
        checkpoints = remote.root / ".checkpoints"
        wait_for(lambda: list(remote.root.glob("*/*/*.json")) and list(checkpoints.glob("*s")))
        for name in killed:
            for one in made.head_node.all_processes[name]:
                one.process.kill()
        _, said = first.communicate(timeout=120)
    assert first.returncode == 2
    assert "pairbench: the Ray cluster at '" in said
    assert "' is lost (" in said
    assert not list(remote.root.rglob("*.tmp"))
    before = load_records(remote.root)
    assert before.records
    assert {record.status for record in before.records} == {"finished"}
    assert not before.problems
    with head() as made:
        again = driver(made.address)
        _, said = again.communicate(timeout=120)
    assert again.returncode == 0
    assert f"{len(before.records)} done before" in said
    same(remote, local, runs)
