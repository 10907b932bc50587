"""Results on an S3 server (moto's): drivers die, their machines' disks go, and nothing is lost."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import open_launcher
from pairbench.experiments.launch.base import Execution
from pairbench.experiments.launch.local import Local
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.suite import plan
from pairbench.results.folder import Store
from pairbench.results.heartbeat import read_log
from pairbench.results.load import load_records
from pairbench.results.place import open_store
from pairbench.results.url import lock
from tests.faults.forked import Here
from tests.support.gate import Gate
from tests.support.grids import alive, children, same, wait_for
from tests.support.records import record

pytest.importorskip("obstore", reason="obstore is missing: pip install 'pairbench[s3]'")
server = pytest.importorskip("moto.server", reason="moto is missing: pip install 'moto[s3]' flask")

URL = "s3://bucket/a/prefix"

RUNS = plan(
    algorithms=["grpo"], tasks=["preference-bandit"], seeds="0-2", budget={"steps": 5120},
    protocol={"evaluations": 2, "probes": 0},
)  # fmt: skip


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket on a server of our own, which also other processes find, and its client."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell of every request
    boto3 = pytest.importorskip("boto3")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "XDG_CACHE_HOME": str(tmp_path / "machine"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    finally:
        running.stop()


def downloaded(client: Any, folder: Path) -> Store:
    """Returns what the bucket holds, fetched by Amazon's own client."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket"):
        for one in page["Contents"]:
            target = folder / one["Key"].removeprefix("a/prefix/")
            target.parent.mkdir(parents=True, exist_ok=True)
            client.download_file("bucket", one["Key"], str(target))
    return Store(folder)


def keys(client: Any, ending: str) -> list[str]:
    found = client.list_objects_v2(Bucket="bucket").get("Contents", [])
    return [one["Key"] for one in found if one["Key"].endswith(ending)]


def test_a_driver_dies_with_its_machine_and_another_finishes(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    runs = plan(
        algorithms=["grpo", gate.name], tasks=["preference-bandit"], budget={"steps": 5120},
        protocol={"evaluations": 2, "probes": 0},
    )  # fmt: skip
    local = Store(tmp_path / "local")
    execute(runs, local, Here())
    gate.shut()
    driver = subprocess.Popen(
        [
            sys.executable, "-m", "pairbench", "run", "--algorithms", f"grpo,{gate.name}",
            "--tasks", "preference-bandit", "--seeds", "0", "--budget-steps", "5120",
            "--evaluations", "2", "--probes", "0", "--workers", "1", "--results", URL,
        ],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for(lambda: [key for key in keys(bucket, ".json") if "/grpo/" in key])
    for pid in (driver.pid, *children(driver.pid)):
        os.kill(pid, signal.SIGKILL)
    driver.communicate()
    gate.open()
    shutil.rmtree(tmp_path / "machine")
    (before,) = load_records(URL).records
    assert before.algorithm == "grpo"
    store = open_store(URL)
    with pytest.raises(PairBenchError, match=f"are in use by process {driver.pid} on"):
        execute(runs, store, Here())
    monkeypatch.setattr(lock, "EXPIRES", 0.0)
    tally = execute(runs, store, Here())
    assert (len(tally.cached), len(tally.finished)) == (1, 1)
    same(downloaded(bucket, tmp_path / "downloaded"), local, runs)
    assert not keys(bucket, ".safetensors")


def test_records_are_put_on_condition_that_there_is_none(bucket: Any) -> None:
    store, theirs = open_store(URL), record("grpo", 0)
    store.write(theirs)
    store.path(theirs).unlink()
    ours = theirs.model_copy(update={"cost": theirs.cost.model_copy(update={"seconds": 1.25})})
    with pytest.raises(PairBenchError, match="holds a finished run, which is never overwritten"):
        store.write(ours)
    assert load_records(URL).records == [theirs]


@pytest.mark.parametrize("key", ["../../outside", "/etc/outside", "x/./outside"])
def test_a_bucket_with_hostile_names_is_refused(bucket: Any, key: str, tmp_path: Path) -> None:
    open_store(URL).write(record("grpo", 0))
    bucket.put_object(Bucket="bucket", Key=f"a/prefix/{key}", Body=b"{}")
    with pytest.raises(PairBenchError, match="cannot be used") as error:
        load_records(URL)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("outside"))


def test_no_bucket_is_one_sentence(bucket: Any) -> None:
    with pytest.raises(PairBenchError, match=r"s3://nothing/x cannot be used .*404 Not Found"):
        execute(RUNS, open_store("s3://nothing/x"), Here())


@pytest.mark.slow
def test_local_workers_give_the_records_of_a_folder(bucket: Any, tmp_path: Path) -> None:
    local = Store(tmp_path / "local")
    execute(RUNS, local, Here())
    assert len(execute(RUNS, open_store(URL), Local(2), Execution(workers=2)).finished) == 3
    same(downloaded(bucket, tmp_path / "downloaded"), local, RUNS)
    assert len(keys(bucket, ".jsonl")) == 3


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_a_ray_node_dies_and_another_fetches_the_checkpoint(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes share no folder: each has a cache of its own, and the first one's is taken away."""
    from tests.experiments.launch.test_ray import NODE, cluster

    gate = Gate(tmp_path / "site", monkeypatch)
    runs = plan(algorithms=[gate.name], tasks=["preference-bandit"], budget={"steps": 6000})
    local, remote = Store(tmp_path / "local"), open_store(URL)
    execute(runs, local, Here())
    gate.shut()

    def node(name: str) -> dict[str, Any]:
        return {"env_vars": {**os.environ, "XDG_CACHE_HOME": str(tmp_path / name)}}

    class Kills(Monitor):
        """Kills the node when the url has a checkpoint, takes its disk and adds another node."""

        killed = 0

        def tick(self, tally: Tally) -> None:
            if not self.killed and keys(bucket, ".safetensors"):
                (log,) = (tmp_path / "first").rglob("*.jsonl")
                self.killed = read_log(log)[0]["pid"]
                made.remove_node(first, allow_graceful=False)
                wait_for(lambda: not alive(self.killed))
                (tmp_path / "first").rename(tmp_path / "gone")
                gate.open()
                made.add_node(**NODE, **node("second"))

    with cluster(**node("first")) as (made, first):
        launcher = open_launcher(
            Execution(backend="ray", workers=1, options={"address": made.address})
        )
        tally = execute(
            runs, remote, launcher, monitor=Kills(), execution=Execution(checkpoint_seconds=0.0)
        )
    assert len(tally.finished) == 1
    fetched = downloaded(bucket, tmp_path / "downloaded")
    same(fetched, local, runs)
    (log,) = (path.read_text() for path in (fetched.root / ".runs").glob("*.jsonl"))
    assert log.count('"event": "resumed"') == 1
    assert (tmp_path / "gone").is_dir()
    assert (tmp_path / "second").is_dir()
