"""The verbs in Python are those of the command line."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize("name", pairbench.__all__)
def test_every_verb_is_there(name: str) -> None:
    assert callable(getattr(pairbench, name))


def test_nothing_else_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reproduces'"):
        _ = pairbench.reproduces
