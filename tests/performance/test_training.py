"""Training end to end against the raw limit, Stable-Baselines3, and the clock.

Everything that is compared is timed in turns in this process, medians of five, and judged as a
ratio; seconds and steps per second are printed for whoever reads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

from pairbench.experiments.launch.base import Advanced
from pairbench.experiments.suite import Row, Suite, expand
from pairbench.registry import get_algorithm, get_task
from pairbench.results.folder import Store
from pairbench.results.record import Budget, Protocol, RunSpec
from pairbench.seeding import Streams
from pairbench.training import loop as loop_module
from pairbench.training.loop import Loop
from pairbench.training.run import Run
from pairbench.training.train import train
from tests.performance.bounds import BOUNDS
from tests.performance.test_collection import Limit, seconds

pytestmark = pytest.mark.performance

ROUNDS = 5
TASK = "halfcheetah-v4"
WIDE = {"contexts": 64, "segment": 250, "epochs": 10, "minibatches": 16}
"""16,000 steps an iteration in minibatches of 1,000: the settings both libraries are timed at."""
WIDE_GROUPS = {"contexts": 125, "group_size": 4, "segment": 32, "epochs": 10, "minibatches": 16}
METHODS = ("ppo", "grpo", "soft-pair-grpo", "hard-pair-grpo", "dpo")


def cell(
    algorithm: str,
    settings: Mapping[str, Any] | None = None,
    task: str = TASK,
    steps: int = 10**9,
    **protocol: Any,
) -> RunSpec:
    """Returns a run, of a budget never reached unless told otherwise."""
    rules = Protocol(budget=Budget(steps=steps), **{"probes": 0, **protocol})
    row = Row(name=algorithm, algorithm=algorithm, tasks=(task,), settings=dict(settings or {}))
    return expand(Suite(name="speed", protocol=rules, rows=(row,))).specs[0]


def loop(spec: RunSpec, threads: int) -> Loop:
    """Returns a started training loop after a first iteration, to be timed further."""
    cls, task_class = get_algorithm(spec.algorithm), get_task(spec.task)
    algorithm = cls(cls.Config(**spec.algorithm_config))
    task = task_class(task_class.Config(**spec.task_config))
    streams = Streams(0)
    run = Run(spec, algorithm, task, task.begin(algorithm, streams, threads), streams)
    started = Loop(run, None, 0.0)
    started.iterate()
    return started


def repeat(work: Callable[[], object], count: int) -> Callable[[], None]:
    """Returns a function that calls `work` `count` times."""

    def several() -> None:
        for _ in range(count):
            work()

    return several


def medians(work: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Returns the median time of each, timed in turns."""
    rounds = [{name: seconds(each) for name, each in work.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(one[name] for one in rounds) for name in work}


def stable_baselines(envs: int) -> Callable[[], object]:
    """Returns one iteration of Stable-Baselines3's PPO: 16,000 steps, as `WIDE`."""
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    pool = VecNormalize(
        DummyVecEnv([lambda: gymnasium.make("HalfCheetah-v4") for _ in range(envs)]),
        norm_reward=False,
    )
    model = sb3.PPO("MlpPolicy", pool, n_steps=16_000 // envs, batch_size=1000, device="cpu")
    return lambda: model.learn(total_timesteps=16_000, reset_num_timesteps=False)


def test_ppo_against_the_limit_and_stable_baselines(benchmark: Any) -> None:
    """Shares of the raw limit, and times faster than SB3 with 16 environments and with one."""
    ours = loop(cell("ppo", WIDE), threads=2)
    work = {
        "raw": Limit(ours.task, 2),  # type: ignore[arg-type]
        "ppo": ours.iterate,
        "sb3, 16 environments": stable_baselines(16),
        "sb3, 1 environment": stable_baselines(1),
    }
    times = medians(work)
    speeds = {name: round(16_000 / took) for name, took in times.items()}
    benchmark.extra_info.update(speeds)
    benchmark.pedantic(ours.iterate, rounds=1)
    print(f"\nsteps/s: {speeds}")
    assert times["raw"] / times["ppo"] >= BOUNDS["ppo"]
    for peer in ("sb3, 16 environments", "sb3, 1 environment"):
        assert times[peer] / times["ppo"] >= BOUNDS[peer]


@pytest.mark.parametrize("algorithm", ["grpo", "soft-pair-grpo", "hard-pair-grpo", "dpo"])
def test_group_methods_against_the_limit(algorithm: str, benchmark: Any) -> None:
    """A share of the raw limit, ten passes over 16,000 steps, without a teacher's critic."""
    ours = loop(cell(algorithm, WIDE_GROUPS, f"{TASK}@critic-free"), threads=2)
    times = medians({"raw": Limit(ours.task, 2), algorithm: ours.iterate})  # type: ignore[arg-type]
    speeds = {name: round(16_000 / took) for name, took in times.items()}
    benchmark.extra_info.update(speeds)
    benchmark.pedantic(ours.iterate, rounds=1)
    print(f"\nsteps/s: {speeds}, {times['raw'] / times[algorithm]:.2f} of raw")
    assert times["raw"] / times[algorithm] >= BOUNDS["group methods"]


@pytest.mark.parametrize("algorithm", METHODS)
def test_a_standard_run_at_its_preset(algorithm: str, benchmark: Any) -> None:
    """A run of 1M steps, its eleven evaluations included, beside the raw limit of one thread."""
    ours = loop(cell(algorithm), threads=1)
    steps = ours.run.cost.steps
    ours.iterate()
    steps = ours.run.cost.steps - steps
    times = medians(
        {
            "raw": Limit(ours.task, 1),  # type: ignore[arg-type]
            "iterations": repeat(ours.iterate, 20),
            "evaluation": lambda: ours.session.evaluate(final=False),
        }
    )
    raw = times["raw"] / steps * 1e6
    whole = times["iterations"] / 20 / steps * 1e6 + 11 * times["evaluation"]
    benchmark.extra_info.update(seconds=round(whole), raw_seconds=round(raw))
    benchmark.pedantic(ours.iterate, rounds=1)
    print(f"\n{algorithm}: 1M steps in {whole:.0f} s, raw {raw:.0f} s, {raw / whole:.2f} of it")
    assert raw / whole >= BOUNDS["a standard run"]


def test_the_machine_around_training_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress, checkpoints, series and records take a small share of a run."""
    spent = [0.0]

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                spent[0] += time.perf_counter() - begin

        return call

    monkeypatch.setattr(Run, "report", timed(Run.report))
    monkeypatch.setattr(loop_module, "measure", timed(loop_module.measure))
    monkeypatch.setattr(Loop, "save_if_due", timed(Loop.save_if_due))
    spec = cell("grpo", steps=100_000, evaluations=1)
    store = Store(tmp_path)
    said: list[Advanced] = []
    begin = time.perf_counter()
    result = train(
        spec,
        checkpoint=store.checkpoint(spec),
        checkpoint_seconds=1.0,
        on_progress=lambda p: said.append(
            Advanced(spec.identity, p.spent, p.iteration, p.reward, p.seconds)
        ),
    )
    total, each = time.perf_counter() - begin, spent[0]
    timed(store.write)(result.record, result.series)
    written = (spent[0] - each) / 10  # once a run, and a standard one is ten times as long
    assert result.record.status == "finished" and said
    print(f"\n{each:.3f} + {written:.3f} s of {total:.2f} s: {100 * (each + written) / total:.2f}%")
    assert (each + written) / total < BOUNDS["progress, checkpoints and records"]


def test_threads_do_not_matter_to_torch() -> None:
    """The figures above hold for one torch thread, which is what a run uses."""
    assert torch.get_num_threads() == 1
