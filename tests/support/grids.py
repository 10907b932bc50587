"""What tests of whole grids share: what of a record must repeat, and folders that must be equal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairbench.experiments.suite import Plan
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record import RunRecord


def wait_for(condition: Callable[[], Any], seconds: float = 600.0) -> Any:
    """Returns the first true value of `condition`, which must come in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return value


def children(pid: int) -> list[int]:
    """Returns the process numbers of the children of a process (Linux); none of one that ended."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def alive(pid: int) -> bool:
    """Whether a process has not ended (Linux)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def outcome(record: RunRecord) -> dict[str, Any]:
    """Returns all of a record that must repeat: everything but time and place."""
    return record.model_dump(exclude={"provenance": True, "cost": {"seconds"}})


def same(one: Store, other: Store, runs: Plan) -> None:
    """Asserts that two folders hold the records of a grid, once each, and equal bit for bit.

    The hashes of the weights and of the series are in the records.
    """
    for spec in runs.specs:
        a, b = one.find(spec)[0], other.find(spec)[0]
        assert a is not None
        assert b is not None
        assert outcome(a) == outcome(b)
    loaded = load_records(one.root)
    assert len(loaded.records) == len(runs.specs)
    assert not loaded.problems
    assert len(list(one.root.glob("*/*/????????????????.json"))) == len(runs.specs)
