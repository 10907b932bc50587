"""Collection with the training policy against the raw limit of the simulator.

The limit is whole-trajectory `mujoco.rollout` with the same actions, warm starts and threads, timed
in turns with the collection in this process. The share is that of the best of several rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

import mujoco
import mujoco.rollout
import numpy as np
import pytest
import torch

from pairbench.algorithm import Algorithm, AlgorithmConfig, Loss, Needs, Presets
from pairbench.batch import Batch, Signal
from pairbench.control.task import ControlTask
from pairbench.policy import PolicyOutput
from pairbench.seeding import Streams
from pairbench.tasks.halfcheetah_v4 import HalfCheetah
from tests.performance.bounds import BOUNDS

pytestmark = pytest.mark.performance


class Asks(Algorithm):
    """An algorithm that only asks for data."""

    name = "asks"
    source = "tests"
    presets: ClassVar[Presets] = {}

    def __init__(self, needs: Needs, **config: Any) -> None:
        super().__init__(AlgorithmConfig(**config))
        self._needs = needs

    @property
    def needs(self) -> Needs:
        return self._needs

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        return {}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        return Loss(output.logp.mean())


class Limit:
    """`mujoco.rollout` over what a task has just collected: its states and its actions."""

    def __init__(self, task: ControlTask, threads: int) -> None:
        walker = task.walker
        self.model = walker.compile()
        self.data = [mujoco.MjData(self.model) for _ in range(threads)]
        self.pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        sims, out = task._sims, task._rollout
        steps, count = out.actions.shape[:2]
        full = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)
        self.initial = np.empty((count, mujoco.mj_stateSize(self.model, full)))
        for row in range(count):
            data = self.data[0]
            data.qpos[:] = out.physics[0, row, : self.model.nq]
            data.qvel[:] = out.physics[0, row, self.model.nq :]
            mujoco.mj_getState(self.model, data, self.initial[row], full)
        controls = out.clipped.swapaxes(0, 1).astype(np.float64)
        self.control = np.repeat(controls, walker.frame_skip, axis=1)
        width = (count, steps * walker.frame_skip, self.initial.shape[1])
        self.state = np.empty(width)
        self.transitions = count * steps
        assert sims.count == count

    def __call__(self) -> None:
        data = self.data if len(self.data) > 1 else self.data[0]
        self.pool.rollout(self.model, data, self.initial, self.control, state=self.state)


def seconds(work: Callable[[], object]) -> float:
    """Returns the wall time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


SHAPES = {
    "steps 64x125": (Needs("steps", "rewards"), {"contexts": 64, "segment": 125}),
    "ppo 8x128": (Needs("steps", "rewards", critic=True), {"contexts": 8, "segment": 128}),
    "groups 32x4x8": (
        Needs("groups", "scores"),
        {"contexts": 32, "group_size": 4, "segment": 8},
    ),
}
THREADS = {"steps 64x125": 2, "ppo 8x128": 1, "groups 32x4x8": 1}


@pytest.mark.parametrize(("shape", "threads"), THREADS.items())
def test_share_of_the_raw_limit(shape: str, threads: int, benchmark: Any) -> None:
    torch.set_num_threads(1)
    needs, sizes = SHAPES[shape]
    task = HalfCheetah(HalfCheetah.Config())
    session = task.begin(Asks(needs, **sizes), Streams(0), threads)
    session.collect(0)
    limit = Limit(task, threads)
    limit()
    rounds = max(8, 60_000 // limit.transitions)
    pairs = [(seconds(limit), seconds(lambda: session.collect(1))) for _ in range(rounds)]
    raw, collected = (min(column) for column in zip(*pairs))
    share = raw / collected
    benchmark.extra_info.update(
        raw_steps_per_second=round(limit.transitions / raw),
        steps_per_second=round(limit.transitions / collected),
        share=round(share, 3),
    )
    benchmark.pedantic(lambda: session.collect(2), rounds=3)
    print(f"\n{shape}, {threads} threads: {limit.transitions / collected:.0f} steps/s, {share:.2f}")
    assert share >= BOUNDS[f"collection, {shape}"]
