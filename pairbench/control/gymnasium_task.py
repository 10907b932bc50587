"""`GymnasiumTask`: any Gymnasium environment with bounded Box or Discrete actions as a task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import External, Method, Needs
from pairbench.batch import Batch
from pairbench.control.categorical import CategoricalPolicy, UniformChoice
from pairbench.control.environment import Environments, Surface, make, surface
from pairbench.control.gaussian import GaussianPolicy, UniformPolicy
from pairbench.control.rollout import Rollout
from pairbench.control.session import (
    Chains,
    ControlConfig,
    ControlSession,
    _check_sizes,
    rows_first,
)
from pairbench.control.task import ControlTask
from pairbench.control.value import ValueEstimate
from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.seeding import Streams
from pairbench.task import Session
from pairbench.teacher import Teacher
from pairbench.training.sources import reached


class GymnasiumTask(ControlTask):
    """A Gymnasium environment, one of them at a time, as `ControlTask` says of simulator states.

    A subclass gives `gymnasium_id`, as `gymnasium.make` takes it: also "module:Id-v0", of a module
    that registers it. Observations are flattened. Actions are a bounded Box, of which the policy's
    [-1, 1] is the whole range, or Discrete, for which the policy is categorical. The time limit is
    the environment's own unless it is set; its wrapper is left out, and the end of an episode
    there is no end that a value estimate believes in.

    A group's members start from the same state. Where an environment can be copied (its attributes,
    or MuJoCo's data) that is the chain's state; where a copy does not go on as the original, each
    member starts the episode anew from its seed and takes the same actions again, which costs time
    and is not charged. An environment that gives another episode from the same seed and actions is
    refused.
    """

    gymnasium_id: ClassVar[str] = ""

    class Config(ControlConfig):
        """A control task's settings, and the environment's time limit."""

        time_limit: int | None = Field(
            None,
            ge=1,
            description="steps after which an episode is cut off; absent: the environment's own",
            exclude_if=lambda limit: limit is None,
        )

    config: Config

    @cached_property
    def surface(self) -> Surface:
        """What the environment's spaces and limits are."""
        if not self.gymnasium_id:
            raise PairBenchError(
                f"task {self.name} names no environment: name one, as in {self.name}:CartPole-v1"
            )
        return surface(self.gymnasium_id, self.config.time_limit)

    def check(self) -> None:
        self.surface  # noqa: B018 (raises)

    def skip(self, algorithm: Method) -> str | None:
        needs = algorithm.needs
        if needs.components:
            return (
                f"{algorithm.name} needs several scores of each response, and {self.name} has one"
            )
        if isinstance(algorithm, External) and not self._as_made:
            return (
                f"{algorithm.name} brings its own trainer, which {self.name} lends its environment "
                "where actions are a Box of [-1, 1] and the time limit is its own"
            )
        if needs.probabilities and self.surface.discrete:  # which have them: all else is asked
            needs = replace(needs, probabilities=False)
        asking: Any = SimpleNamespace(name=algorithm.name, needs=needs)
        return super().skip(asking)

    @property
    def _as_made(self) -> bool:
        """Whether `gymnasium.make` gives the very environment that policies act in here."""
        if self.surface.discrete or self.config.time_limit is not None:
            return False
        env = make(self.gymnasium_id)
        space: Any = env.action_space
        env.close()
        return bool(((space.low == -1.0) & (space.high == 1.0)).all())

    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> ControlSession:
        return GymnasiumSession(
            self.name, self.gymnasium_id, self.surface, self.config, algorithm, streams
        )

    def random_policy(self) -> UniformPolicy:
        return UniformChoice() if self.surface.discrete else UniformPolicy()

    def read(self, needs: Needs) -> Mapping[str, str]:
        """Returns the digest of the environment's module and of what comes with it."""
        module = _module(self.gymnasium_id)
        if module.split(".")[0] == "gymnasium":  # whose version each record has
            return {}
        found = sorted(set(reached([(module, "")]).values()))
        digest = hashlib.sha256("".join(found).encode()).hexdigest()
        return {f"environment {self.gymnasium_id}": digest}

    def provenance(self, needs: Needs) -> dict[str, Any]:
        made_by = metadata.packages_distributions().get(_module(self.gymnasium_id).split(".")[0])
        names = sorted({"gymnasium", "mujoco", *(made_by or ())})
        return {
            "environment": self.gymnasium_id,
            **{name: metadata.version(name) for name in names},
        }


def _module(name: str) -> str:
    """Returns the module of an environment's class."""
    env = make(name)
    inner = type(env.unwrapped)
    env.close()
    return inner.__module__


class GymnasiumSession(ControlSession):
    """A run on a Gymnasium environment; its chains' states are `Moment`s."""

    surface: Surface
    simulations: Environments

    def __init__(
        self,
        name: str,
        environment: str,
        found: Surface,
        config: ControlConfig,
        algorithm: Method,
        streams: Streams,
    ) -> None:
        """Begins with the algorithm's sizes; see `Task.begin`."""
        sizes, needs = algorithm.config, algorithm.needs
        self.environment, self.walker, self.surface, self.threads = environment, found, found, 1
        self.config, self.needs, self.streams = config, needs, streams
        self.grouped = needs.data not in ("steps", "nothing")
        _check_sizes(name, found, algorithm, self.grouped)
        self.contexts, self.steps = sizes.contexts, sizes.segment
        self.size = sizes.group_size if self.grouped else 1
        self.teacher = Teacher(config)
        self.simulations = Environments(environment, found, self.contexts * self.size)
        self.rollout = Rollout.empty(self.simulations, self.steps)
        self.value = None
        if self.grouped and config.oracle == "value":
            self.value = ValueEstimate(
                found.observations,
                seeding.generator(streams.seed, "init/teacher"),
                gamma=config.gamma,
                passes=config.value_passes,
                minibatches=config.value_minibatches,
                lr=config.value_lr,
            )
        self.chains = Chains(
            np.full((self.contexts, 1), None, object),
            np.arange(self.contexts) * found.time_limit // self.contexts,
        )
        if needs.data != "nothing":
            self._renew(self.chains, np.arange(self.contexts), streams["contexts"])
        floor = sizes.log_std_floor
        critic, seed = needs.critic, streams.seed
        if found.discrete:
            self.learner = CategoricalPolicy(
                found.observations, found.actions, seed=seed, critic=critic
            )
        else:
            self.learner = GaussianPolicy(
                found.observations,
                found.actions,
                seed=seed,
                log_std=config.log_std,
                log_std_floor=config.log_std_floor if floor is None else floor,
                critic=critic,
            )
        Session.__init__(self, self.learner)
        self._evaluators = {}
        self._evaluation_noise = {}

    def _batch(self, iteration: int, mask: Tensor | None = None, **fields: Tensor | None) -> Batch:
        if not self.surface.discrete:
            return super()._batch(iteration, mask, **fields)
        out, policy = self.rollout, self.learner
        steps, count = out.actions.shape[:2]
        contexts, responses = rows_first(out.observations[:-1]), rows_first(out.actions)
        raw = self.walker.observe(out.physics[:-1]).astype(np.float32).clip(-10, 10)
        old = policy.distribution(contexts.flatten(0, 1)).view(count, steps, -1)
        ref = policy.distribution(rows_first(raw).flatten(0, 1), reference=True)
        ref = ref.view(count, steps, -1)
        return Batch(
            contexts=contexts,
            responses=responses,
            mask=torch.ones(count, steps) if mask is None else mask,
            old_logp=(old * responses).sum(-1),
            ref_logp=(ref * responses).sum(-1),
            old_dist=old,
            ref_dist=ref,
            group=torch.arange(count // self.size).repeat_interleave(self.size),
            sampler=iteration,
            offline=None,
            **fields,
        )

    def evaluate(self, final: bool) -> Evaluation:
        count = self.config.evaluation_episodes * (2 if final else 1)
        if count not in self._evaluators:
            envs = Environments(self.environment, self.surface, count)
            self._evaluators[count] = envs, Rollout.empty(envs, self.surface.time_limit)
        return super().evaluate(final)

    def state(self) -> dict[str, Any]:
        moments = self.chains.states[:, 0] if self.needs.data != "nothing" else ()
        taken = [moment.actions() for moment in moments]
        flat = [action for actions in taken for action in actions]
        return {
            "seeds": np.array([moment.seed for moment in moments], np.int64),
            "lengths": np.array([len(actions) for actions in taken], np.int64),
            "actions": np.array(flat, np.float32).reshape(-1, self.surface.actions),
            "ages": self.chains.ages.copy(),
            "teacher": None if self.value is None else self.value.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        actions = np.asarray(state["actions"])
        ends = np.cumsum(state["lengths"])
        for chain, (seed, end, length) in enumerate(zip(state["seeds"], ends, state["lengths"])):
            row = chain * self.size
            self.simulations.replay(row, int(seed), actions[end - length : end])
            self.chains.states[chain] = self.simulations.state[row]
        self.chains.ages[...] = np.asarray(state["ages"])
        if self.value is not None:
            self.value.load_state(state["teacher"])
