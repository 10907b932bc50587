"""`import pairbench`: the words of a method or a task, the verbs, and nothing loaded for them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import pairbench
from pairbench.errors import PairBenchError
from pairbench.leaderboard import build, render
from pairbench.results.folder import Store
from tests.support.records import board_records


def test_leaderboard_reads_a_folder(tmp_path: Path) -> None:
    records = [record for record in board_records(2) if record.status != "failed"]
    store = Store(tmp_path)
    for record in records:
        store.write(record)
    boards = pairbench.leaderboard(tmp_path)
    assert [board.task for board in boards] == [board.task for board in build(records)] != []
    task = boards[0].task
    text = pairbench.leaderboard(tmp_path, task=task, format="markdown")
    assert text == "\n".join(render(board, "markdown") for board in build(records, task))


@pytest.mark.parametrize("workers", [0, -1])
def test_run_needs_a_worker(tmp_path: Path, workers: int) -> None:
    bandit = {"algorithms": ["grpo"], "tasks": ["preference-bandit"], "budget": {"steps": 10}}
    with pytest.raises(PairBenchError, match="out of range: it must be at least 1"):
        pairbench.run(**bandit, results=tmp_path, workers=workers)


def test_every_name_is_there() -> None:
    found = {name: getattr(pairbench, name) for name in pairbench.__all__}
    modules = {name for name in found if isinstance(found[name], ModuleType)}
    assert modules == {"leaderboard", "objectives", "shared"}
    assert all(callable(found[name]) for name in {*pairbench._HOME, "leaderboard"})
    assert set(found) == {*pairbench._HOME, *modules, "__version__"}
    assert dir(pairbench) == sorted(found)
    assert found["__version__"] == version("pairbench")


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reproduces'"):
        _ = pairbench.reproduces  # type: ignore[attr-defined]


def test_importing_the_package_loads_no_library() -> None:
    script = "import pairbench, sys; dir(pairbench); print(*sys.modules)"
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert {"torch", "numpy", "pydantic"}.isdisjoint(ran.stdout.split())
