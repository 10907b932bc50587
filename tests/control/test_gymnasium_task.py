from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pairbench.control.gymnasium_task import GymnasiumTask
from pairbench.errors import PairBenchError
from pairbench.registry import entries, get_algorithm, get_task, listing
from pairbench.results.record import Protocol, RunSpec
from pairbench.seeding import Streams
from pairbench.training.train import train

OURS = "gym:tests.support.environments:"
SMALL = {"contexts": 4, "segment": 5, "epochs": 2, "minibatches": 2}


def begun(task: str, method: str, **settings: Any) -> Any:
    cls, made = get_algorithm(method), get_task(task)
    grouped = {"group_size": 3} if method != "ppo" else {}
    config = cls.Config(**{**SMALL, **grouped, **settings})
    return made(made.Config()).begin(cls(config), Streams(0))


@pytest.mark.parametrize("task", ["gym:CartPole-v1", f"{OURS}Boxed-v0", f"{OURS}Locked-v0"])
def test_a_groups_members_start_from_the_same_state(task: str) -> None:
    session = begun(task, "grpo")
    left = list(session.chains.states[:, 0])
    for number in range(6):
        batch = session.collect(number).check()
        starts = batch.contexts[:, 0].view(4, 3, -1)
        assert bool((starts == starts[:, :1]).all())
        there = session.rollout.physics[0].reshape(4, 3, -1)
        assert bool((there == np.stack([m.physics for m in left])[:, None]).all())
        left = list(session.chains.states[:, 0])
    assert session.cost.steps <= 6 * 4 * 3 * 5


def test_actions_after_an_end_are_masked_and_not_charged() -> None:
    session = begun("gym:CartPole-v1", "grpo", segment=60)
    batch = session.collect(0)
    lengths = batch.mask.sum(1)
    assert bool((lengths < 60).any()) and bool((lengths > 5).all())
    assert bool((batch.mask.cumprod(1) == batch.mask).all())
    assert session.cost.steps == int(lengths.sum())


@pytest.mark.parametrize("method", ["ppo", "grpo", "soft-pair-grpo", "hard-pair-grpo", "rloo"])
@pytest.mark.parametrize("task", ["gym:CartPole-v1", f"{OURS}Boxed-v0"])
def test_group_and_step_methods_run(task: str, method: str) -> None:
    made: Any = get_task(task)
    cls = get_algorithm(method)
    spec = RunSpec(
        row=method,
        algorithm=method,
        algorithm_config=cls.Config(**{**cls.presets["control"], **SMALL}).model_dump(mode="json"),
        task=task,
        task_version=made.version,
        task_config=made.Config(evaluation_episodes=2).model_dump(mode="json"),
        protocol=Protocol.model_validate({"budget": {"steps": 200}, "evaluations": 1, "probes": 1}),
        seed=0,
    )
    record = train(spec).record
    assert record.status == "finished", record.reason
    assert record.evaluation is not None and record.cost.steps >= 200


def test_a_new_environment_is_a_task_in_five_lines() -> None:
    class Mine(GymnasiumTask):
        """A pole."""

        source = "Gymnasium"
        name = "mine"
        gymnasium_id = "CartPole-v1"

    method = get_algorithm("reference")
    task: Any = Mine
    session = task(task.Config()).begin(method(method.Config()), Streams(0))
    evaluation = session.evaluate(final=True)
    assert list(evaluation.scores) == ["stochastic", "mean"]
    assert evaluation.measures["episode_length"] == evaluation.reward  # a reward of 1 a step


def test_the_time_limit_can_be_set_and_is_not_an_end_that_values_believe_in() -> None:
    task: Any = get_task(f"{OURS}Endless-v0")
    method = get_algorithm("ppo")
    made = task(task.Config(time_limit=7))
    session: Any = made.begin(method(method.Config(**{**SMALL, "segment": 7})), Streams(0))
    batch = session.collect(0)
    cut = (batch.boundary == 1) & (torch.arange(7) < 6)
    assert bool(cut.any()) and bool((batch.next_value[cut] != 0).all())


def test_methods_that_do_not_fit_are_refused_in_a_sentence() -> None:
    def said(task: str, method: str) -> str | None:
        made, cls = get_task(task), get_algorithm(method)
        return made(made.Config()).refusal(cls(cls.Config()))

    assert "no data set" in (said("gym:CartPole-v1", "dpo") or "")
    assert "several scores" in (said("gym:CartPole-v1", "gdpo") or "")
    assert "where actions are a Box of [-1, 1]" in (said("gym:CartPole-v1", "sb3-ppo") or "")
    assert said("gym:Swimmer-v5", "sb3-ppo") is None
    assert said("gym:CartPole-v1", "grpo") is None


def test_what_the_environment_is_made_of_is_part_of_the_record() -> None:
    needs = get_algorithm("ppo")(get_algorithm("ppo").Config()).needs
    ours, theirs = get_task(f"{OURS}Walk-v0"), get_task("gym:CartPole-v1")
    read = ours(ours.Config()).read(needs)
    assert list(read) == ["environment tests.support.environments:Walk-v0"]
    assert theirs(theirs.Config()).read(needs) == {}
    assert theirs(theirs.Config()).provenance(needs)["gymnasium"]


def test_the_family_by_itself_says_that_it_needs_a_name() -> None:
    assert "gym" in entries("task") and any(e.name == "gym" for e in listing("task"))
    task = get_task("gym")
    with pytest.raises(PairBenchError, match="name one, as in gym:CartPole-v1"):
        task(task.Config()).check()


def test_an_environment_that_has_a_task_of_its_own_is_left_to_it() -> None:
    with pytest.raises(PairBenchError, match="is the task halfcheetah-v4, which computes the same"):
        get_task("gym:HalfCheetah-v4")
    assert get_task("gym:HalfCheetah-v5") is get_task("gym:HalfCheetah-v5")
