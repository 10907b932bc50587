"""A worker that does run after run holds no more of them than of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench.experiments.launch.base import Job
from pairbench.experiments.launch.worker import encode, perform
from pairbench.experiments.suite import plan


def resident() -> float:
    """MiB of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.parametrize(
    ("task", "steps", "runs", "most"),
    [("preference-bandit", 600, 12, 20),
     pytest.param("toy-dialogue", 3000, 8, 150, marks=pytest.mark.slow)],
)  # fmt: skip
def test_memory_does_not_grow_with_runs(
    task: str, steps: int, runs: int, most: float, tmp_path: Path
) -> None:
    """The second run has loaded all that a run of its kind needs."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("looks at /proc")
    specs = plan(
        algorithms=["grpo"], tasks=[task], seeds=f"0-{runs - 1}", budget={"steps": steps},
        protocol={"evaluations": 1, "probes": 0},
    ).specs  # fmt: skip
    held = []
    for spec in specs:
        perform(encode(Job(spec, tmp_path / "c.safetensors")), lambda line: None)
        held.append(resident())
    assert min(held[-3:]) - held[1] < most
