"""What was computed before is computed still: identities of committed rows, and whole runs' bits.

`unmoved.json` has, for each kind of machine on which it was written, the digest of every case:
final weights and all series. On such a machine the bits must be equal. On another, the numbers must
be near those of the committed records, which a machine of a third kind made, in their beginning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairbench.experiments.launch.base import Ended
from pairbench.experiments.reproduce import compare
from pairbench.experiments.suite import plan
from pairbench.registry import get_task
from pairbench.results.load import load_records, load_series
from pairbench.results.record import RunRecord, RunSpec, name_of
from pairbench.training.train import RunResult, train

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((Path(__file__).parent / "unmoved.json").read_text(encoding="utf-8"))

CASES = [
    *(f"noise/{row}" for row in ("ppo", "soft-pair-grpo", "hard-pair-grpo")),
    *(f"control/{row}" for row in ("soft-pair-grpo", "hard-pair-grpo", "online-dpo")),
    "toy/grpo",
]


@cache
def committed() -> Mapping[str, RunRecord]:
    return {record.identity: record for record in load_records(ROOT / "results").records}


@cache
def specs() -> Mapping[str, RunSpec]:
    """The runs for seed 0 by suite and row; of several tasks in a suite, those on its first."""
    found: dict[str, RunSpec] = {}
    for suite in ("noise", "bandit", "control", "methods", "toy"):
        for spec in plan(suite, seeds=[0]).specs:
            found.setdefault(f"{suite}/{spec.row}", spec)
    return found


def machine(origin: Mapping[str, Any]) -> str:
    """The processor and the versions that bits depend on, of a run's provenance."""
    versions = ", ".join(f"{name} {origin['packages'][name]}" for name in ("numpy", "torch"))
    return f"{origin['cpu']}, Python {origin['python']}, {versions}"


def digest(result: RunResult) -> str:
    """SHA-256 (hex) of the final weights and of every column of the series."""
    total = hashlib.sha256(str(result.record.weights_sha256).encode())
    for name, column in sorted(result.series.items()):
        total.update(name.encode() + column.astype(np.float32).tobytes())
    return total.hexdigest()


def check(case: str) -> None:
    """Runs a case, on the bandit to its end and elsewhere two iterations, and compares."""
    spec = specs()[case]
    iterations = None if spec.task == "preference-bandit" else 2
    result = train(spec, iterations=iterations)
    here = machine(result.record.provenance)
    if here in GOLDEN:
        assert digest(result) == GOLDEN[here][case]
    if (record := committed().get(spec.identity)) is None:
        return
    # rounding of another machine grows from step to step: there the first iteration must be near
    near = machine(record.provenance) != here
    if near:
        iterations = 1
        result = train(spec, iterations=iterations)
    (series,) = load_series(ROOT / "results", [record]).values()
    verdict, where = compare(record, series, Ended(result.record, result.series), iterations)
    assert verdict in (("equal", "close") if near else ("equal",)), where


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_what_it_was(case: str) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted({*next(iter(GOLDEN.values()))} - {*CASES}))
def test_every_other_run_is_what_it_was(case: str) -> None:
    check(case)


def test_a_changed_constant_is_seen() -> None:
    """The comparisons above can fail: another learning rate gives other bits."""
    spec = specs()["control/soft-pair-grpo"]
    record = committed()[spec.identity]
    (series,) = load_series(ROOT / "results", [record]).values()
    changed = spec.model_copy(update={"algorithm_config": {**spec.algorithm_config, "lr": 1e-5}})
    result = train(changed, iterations=2)
    known = GOLDEN.get(machine(result.record.provenance), {})
    assert digest(result) != known.get("control/soft-pair-grpo")
    assert compare(record, series, Ended(result.record, result.series), 2)[0] == "different"


def test_suites_still_ask_for_the_committed_runs() -> None:
    """Of every identity: a default, a task's version or a field that moved would change it.

    A record that cannot be read any more, or whose identity is not the hash of what it says, is a
    problem that loading names.
    """
    assert load_records(ROOT / "results").problems == []
    suites = [path.stem for path in (ROOT / "pairbench/experiments/suites").glob("*.toml")]
    suites += [str(path) for path in (ROOT / "results" / "tuning").glob("*/tuned-*.toml")]
    plans = [plan(suite) for suite in suites]
    asked = {run.identity for each in plans for run in (*each.specs, *each.skipped)}
    missing = [
        name_of(record)
        for key, record in committed().items()
        if key not in asked and record.task_version == get_task(record.task).version
    ]
    assert missing == []
