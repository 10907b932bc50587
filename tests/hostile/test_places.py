"""Links, pipes and devices where a results folder has files: nothing leaves it, nothing waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pairbench
from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.experiments.submission import copy, look
from pairbench.leaderboard import write_site
from pairbench.results.folder import Store
from pairbench.results.heartbeat import RunLog, heartbeat_path
from pairbench.results.marks import MARKS, Reproduction, keep, marks
from pairbench.results.record import RunRecord
from pairbench.training.checkpoint import load_state, save_state
from tests.support.records import record

BANDIT = ["--algorithms", "grpo", "--tasks", "preference-bandit", "--budget-steps", "600"]


def ended(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    place.mkdir()
    (place / "precious").write_bytes(b"precious")
    return place


@pytest.mark.parametrize("name", [".runs", ".checkpoints", "preference-bandit", "leaderboards"])
def test_a_run_writes_through_no_link(
    name: str, tmp_path: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "mine"
    results.mkdir()
    (results / name).symlink_to(outside)
    assert ended("run", *BANDIT, "--results", str(results)) == 2
    assert "is a link out of" in capsys.readouterr().err
    assert snapshot(outside) == {"precious": b"precious"}


@pytest.mark.parametrize("name", ["tuning", "tuning/preference-bandit"])
def test_a_search_writes_through_no_link(name: str, tmp_path: Path, outside: Path) -> None:
    results = tmp_path / "mine"
    (results / name).parent.mkdir(parents=True)
    (results / name).symlink_to(outside)
    with pytest.raises(PairBenchError, match="is a link out of"):
        pairbench.tune(
            algorithms=["grpo"], task="preference-bandit", trials=1, budget={"steps": 600},
            results=results,
        )  # fmt: skip
    assert snapshot(outside) == {"precious": b"precious"}


def test_pages_are_written_through_no_link(tmp_path: Path, outside: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "runs").symlink_to(outside)
    with pytest.raises(PairBenchError, match="is a link out of"):
        write_site([record("grpo", 0)], site)
    (site / "runs").unlink()
    (site / "index.html").symlink_to(outside / "precious")
    write_site([record("grpo", 0)], site)
    assert not (site / "index.html").is_symlink()
    assert snapshot(outside) == {"precious": b"precious"}


def test_logs_and_marks_are_written_through_no_link(tmp_path: Path, outside: Path) -> None:
    one = record("grpo", 0)
    mark = Reproduction(
        identity=one.identity, name="x", verdict="equal", detail="", date="2026-01-01", cpu="x"
    )
    log = tmp_path / "x.jsonl"
    for path in (log, heartbeat_path(log), tmp_path / MARKS):
        path.symlink_to(outside / "precious")
    with RunLog(log, one.spec) as kept:
        kept.note("hello")
    with pytest.raises(PairBenchError, match="it is a link, which is not followed"):
        keep(mark, tmp_path)
    checkpoint = tmp_path / "c.safetensors"
    checkpoint.symlink_to(outside / "precious")
    with pytest.raises(ValueError, match="it is a link"):
        load_state(checkpoint)
    save_state(checkpoint, {})
    assert snapshot(outside) == {"precious": b"precious"}


@pytest.mark.parametrize("status", ["finished", "skipped"])
@pytest.mark.parametrize("end", [".parquet", ".texts.parquet"])
def test_nothing_but_what_a_record_knows_of_is_submitted(
    status: str, end: str, tmp_path: Path, outside: Path
) -> None:
    """A link beside a skipped record would take its target into a pull request."""
    reason = "it does not apply" if status == "skipped" else None
    one = Store(tmp_path / "mine").write(record("grpo", 0, status=status, reason=reason))
    path = Store(tmp_path / "mine").path(one)
    path.with_suffix(end).symlink_to(outside / "precious")
    (found,) = look([path], tmp_path / "theirs")
    assert f"{path.with_suffix(end).name} lies beside it" in " ".join(found.problems)
    copy([found], tmp_path / "theirs")
    assert [p.name for p in (tmp_path / "theirs").rglob("*.*")] == [path.name]


def test_a_link_in_the_place_of_series_is_not_submitted(tmp_path: Path, outside: Path) -> None:
    store = Store(tmp_path / "mine")
    one = store.write(record("grpo", 0), {"loss": np.ones(3, np.float32)})
    series = store.path(one).with_suffix(".parquet")
    series.rename(outside / "series")
    series.symlink_to(outside / "series")
    (found,) = look([store.path(one)], tmp_path / "theirs")
    assert "it is a link, which is not followed" in " ".join(found.problems)
    into = tmp_path / "theirs"
    into.mkdir()
    (into / one.task).symlink_to(outside)
    with pytest.raises(PairBenchError, match="is a link out of"):
        copy([found], into)


def made(folder: Path) -> RunRecord:
    (one,) = pairbench.run(
        algorithms=["grpo"], tasks=["preference-bandit"], budget={"steps": 600},
        protocol={"evaluations": 1}, results=folder, workers=1,
    )  # fmt: skip
    return one


@pytest.mark.slow
def test_pipes_in_every_place_hold_up_nobody(tmp_path: Path) -> None:
    """Each is opened by nobody else, so that whoever opens it plainly waits for ever."""
    first = made(tmp_path / "whole")
    results = tmp_path / "mine"
    store = Store(results)
    log = store.log(first.spec)
    places = [
        store.path(first), store.path(first).with_suffix(".parquet"), store.checkpoint(first.spec),
        log, heartbeat_path(log), store.driver_heartbeat, results / MARKS, results / ".pid.lock",
        store.path(first).with_suffix(".failed-1.json"),
    ]  # fmt: skip
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(place)
    code = (
        "import sys, pairbench; pairbench.run(algorithms=['grpo'], tasks=['preference-bandit'], "
        "budget={'steps': 600}, protocol={'evaluations': 1}, results=sys.argv[1], workers=1)"
    )
    subprocess.run([sys.executable, "-c", code, str(results)], timeout=600, check=True)
    (again,) = pairbench.load_records(results).records
    assert again.weights_sha256 == first.weights_sha256
    for command in (
        "status",
        "leaderboard",
        f"reproduce --no-mark {again.identity}",
        f"show {again.identity}",
    ):
        ran = [sys.executable, "-m", "pairbench", *command.split(), "--results", str(results)]
        done = subprocess.run(ran, timeout=600, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
    with pytest.raises(PairBenchError, match="no ordinary file"):
        marks(results)


def test_what_a_killed_copy_left_is_swept(tmp_path: Path) -> None:
    one = Store(tmp_path / "mine").write(record("grpo", 0))
    found = look([Store(tmp_path / "mine").path(one)], tmp_path / "theirs")
    place = Store(tmp_path / "theirs").path(one)
    place.parent.mkdir(parents=True)
    dead, alive = (place.with_name(f".{place.name}.{n}.tmp") for n in (2**22 + 5, os.getppid()))
    for path in (dead, alive):
        path.touch()
    copy(found, tmp_path / "theirs")
    assert sorted(p.name for p in place.parent.iterdir()) == sorted([alive.name, place.name])
