"""A million runs, compacted: ranked task by task in memory that does not grow with their number.

Each task's folder holds 4,000 runs: ten budgets, eight rows, fifty seeds. Rows are written by
the code that `pairbench compact` writes with, but the million JSON files are stand-ins of no bytes,
which the rows name, so that listing them and asking for their state is part of what is measured and
making them takes a minute instead of an hour. The tasks differ in their names alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pairbench.results.cache import Row, write_part
from pairbench.results.folder import Store
from pairbench.results.layout import COMPACT
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json
from tests.support.records import ROWS, record

pytestmark = pytest.mark.performance

BUDGETS, SEEDS = range(100_000, 1_100_000, 100_000), 50
MOST_MB = 1_000

RANK = """
import json, resource, sys, time
from pairbench.leaderboard import build
from pairbench.results.load import load_by_task
told = {"records": 0, "boards": 0, "load": 0.0, "rank": 0.0}
parts = load_by_task(sys.argv[1])
while True:
    began = time.process_time()
    part = next(parts, None)
    loaded = time.process_time()
    if part is None:
        break
    assert not part.problems
    boards = build(part.records)
    told["records"] += len(part.records)
    told["boards"] += len(boards)
    told["load"] += loaded - began
    told["rank"] += time.process_time() - loaded
told["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(told))
"""


def of_task(templates: list[RunRecord], texts: list[str], task: str) -> Iterator[tuple[str, str]]:
    """Yields the identity and text of each template's run as one of that task."""
    for one, text in zip(templates, texts, strict=True):
        identity = one.spec.model_copy(update={"task": task}).identity
        yield identity, text.replace(one.identity, identity).replace('"a-task"', f'"{task}"')


def populate(root: Path, tasks: int) -> None:
    """Makes the stand-ins of a results folder and what is kept of them."""
    store = Store(root)
    templates = [
        record(row, seed, task="a-task", steps=steps)
        for steps in BUDGETS
        for row in ROWS
        for seed in range(SEEDS)
    ]
    texts = [as_json(one).decode() for one in templates]
    (root / COMPACT).mkdir(parents=True)
    for number in range(tasks):
        task = f"task-{number:04d}"
        batch = []
        for one, (identity, text) in zip(templates, of_task(templates, texts, task), strict=True):
            path = store.path(one.model_copy(update={"task": task, "identity": identity}))
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            os.utime(path, ns=(0, 0))
            batch.append((path.relative_to(root).as_posix(), Row(0, 0, task, text)))
        write_part(root, root / task, 0, batch)


@pytest.mark.parametrize("runs", [40_000, 1_000_000])
def test_a_million_compacted_runs_are_ranked_in_bounded_memory(runs: int, tmp_path: Path) -> None:
    tasks = runs // (len(BUDGETS) * len(ROWS) * SEEDS)
    began = time.perf_counter()
    populate(tmp_path, tasks)
    made = time.perf_counter() - began
    kept = sum(path.stat().st_size for path in (tmp_path / COMPACT).iterdir()) / 1e6
    done = subprocess.run(
        [sys.executable, "-c", RANK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    print(f"\n{made:.0f} s to make {runs} runs in {kept:.0f} MB; {told}")
    assert told["records"] == runs
    assert told["boards"] == tasks * len(BUDGETS)
    assert told["MB"] < MOST_MB
