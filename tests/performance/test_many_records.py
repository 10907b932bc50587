"""Ten thousand records loaded and ranked, in one thread."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pairbench.leaderboard import build
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record_file import as_json
from tests.performance.bounds import BOUNDS
from tests.support.records import ROWS, record

pytestmark = pytest.mark.performance

TASKS, SEEDS = 25, 50  # times eight rows: 10,000 runs


def test_seconds_of_ten_thousand_records(tmp_path: Path) -> None:
    """Loading and ranking together take few seconds of the processor, the median of three times."""
    store = Store(tmp_path)
    for task in range(TASKS):
        for row in ROWS:
            for seed in range(SEEDS):
                one = record(row, seed, task=f"task-{task}", level=ROWS[row][2] + 10 * task)
                path = store.path(one)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(as_json(one))
    spent = []
    for _ in range(3):  # the machine may be shared
        began = time.process_time()
        records, problems = load_records(tmp_path)
        loaded = time.process_time()
        boards = build(records)
        spent.append((time.process_time() - began, loaded - began))
        assert not problems
        assert len(records) == TASKS * SEEDS * len(ROWS) == 10_000
        assert len(boards) == TASKS
    seconds, loading = sorted(spent)[1]
    print(f"\n{seconds:.2f} s, {loading:.2f} of them to load, for {len(records)} records; {spent}")
    assert seconds < BOUNDS["ten thousand records"]
