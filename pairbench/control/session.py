"""`ControlSession`: one run on a control task, its simulations, its teacher and its chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import Method
from pairbench.batch import Batch, join
from pairbench.control.gaussian import GaussianPolicy, UniformPolicy, log_density
from pairbench.control.mujoco_env import Float, Simulations, Single, Walker
from pairbench.control.rollout import Rollout, roll
from pairbench.control.value import ValueEstimate
from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.seeding import Streams
from pairbench.task import Draws, Session
from pairbench.teacher import Teacher, TeacherConfig

EVALUATION_SEED = 0
"""Seed of the evaluation's starts and noise: the same for every seed and algorithm of a run."""


class ControlConfig(TeacherConfig):
    """Settings of a control task; those of the teacher's noise are inherited."""

    oracle: Literal["value", "return"] = Field(
        "value",
        description="a segment's score: discounted return and the teacher's value, or return",
    )
    log_std: float = Field(-0.5, description="initial log standard deviation of the policy")
    log_std_floor: float = Field(-1.6, description="least log standard deviation")
    gamma: float = Field(0.99, gt=0, lt=1, description="discount of the teacher's value")
    value_passes: int = Field(5, ge=1, description="passes of the teacher's fit per iteration")
    value_minibatches: int = Field(4, ge=1, description="Adam steps per pass of the teacher's fit")
    value_lr: float = Field(1e-3, gt=0, description="Adam learning rate of the teacher's value")
    evaluation_episodes: int = Field(16, ge=1, description="episodes from fixed starts")


@dataclass
class Chains:
    """K ongoing episodes whose present states are the contexts.

    Attributes:
        states: (K, S) integration states.
        ages: (K,) steps since the episode began.
    """

    states: Float
    ages: NDArray[np.int64]

    def copy(self) -> Chains:
        """Returns chains that go on by themselves."""
        return Chains(self.states.copy(), self.ages.copy())


@dataclass(frozen=True)
class Gathered:
    """A batch, what it cost, and what may be learned from the steps it took.

    Attributes:
        taken: (T, N) the steps that were taken before an episode ended, of the rollout as it lies.
        scores: scores shown to the learner.
        returns: (T, N) what the teacher's value estimate is fitted to, or None without one.
    """

    batch: Batch
    taken: NDArray[np.bool_]
    scores: int
    comparisons: int = 0
    returns: Float | None = None


class ControlSession(Session):
    """A run on a control task.

    Attributes:
        policy: what is evaluated: the learner, or what the random floor row puts in its place.
        learner: the policy that collects and is trained.
        contexts, size, steps: chains, segments that branch from each, and actions of a segment.
        grouped: whether segments are compared or scored in groups rather than step by step.
        chains: the ongoing episodes whose states are the next contexts.
        value: the teacher's estimate that closes a segment's score, or None where nothing does.
        rollout: the steps they took last.
    """

    policy: GaussianPolicy | UniformPolicy

    def __init__(
        self,
        name: str,
        walker: Walker,
        config: ControlConfig,
        algorithm: Method,
        streams: Streams,
        threads: int,
    ) -> None:
        """Begins with the algorithm's sizes; see `Task.begin`."""
        sizes, needs = algorithm.config, algorithm.needs
        self.walker, self.config, self.needs = walker, config, needs
        self.streams, self.threads = streams, threads
        self.grouped = needs.data not in ("steps", "nothing")
        _check_sizes(name, walker, algorithm, self.grouped)
        self.contexts, self.steps = sizes.contexts, sizes.segment
        self.size = sizes.group_size if self.grouped else 1
        self.teacher = Teacher(config)
        self.simulations = Simulations(walker, self.contexts * self.size, threads)
        self.rollout = Rollout.empty(self.simulations, self.steps)
        self.value: ValueEstimate | None = None
        if self.grouped and config.oracle == "value":
            self.value = ValueEstimate(
                self.simulations.observations,
                seeding.generator(streams.seed, "init/teacher"),
                gamma=config.gamma,
                passes=config.value_passes,
                minibatches=config.value_minibatches,
                lr=config.value_lr,
            )
        self.chains = Chains(
            np.empty((self.contexts, self.simulations.state.shape[1])),
            np.arange(self.contexts) * walker.time_limit // self.contexts,
        )
        if needs.data != "nothing":
            self._renew(self.chains, np.arange(self.contexts), streams["contexts"])
        floor = sizes.log_std_floor
        self.learner = GaussianPolicy(
            self.simulations.observations,
            self.simulations.actions,
            seed=streams.seed,
            log_std=config.log_std,
            log_std_floor=config.log_std_floor if floor is None else floor,
            critic=needs.critic,
        )
        super().__init__(self.learner)
        self._evaluators: dict[int, tuple[Simulations, Rollout]] = {}
        self._evaluation_noise: dict[str, Single] = {}

    def _renew(
        self, chains: Chains, which: NDArray[np.integer], generator: np.random.Generator
    ) -> None:
        """Starts new episodes of the chains `which`; their ages are the caller's."""
        rows = which * self.size
        self.simulations.reset(rows, generator)
        chains.states[which] = self.simulations.state[rows]

    def collect(self, iteration: int) -> Batch:
        draws = Draws.of_run(self.streams)
        gathered = self._gather(self.chains, draws, iteration)
        seen = self.walker.observe(self.rollout.physics[:-1])[gathered.taken]
        self.learner.normaliser.update(seen)
        if self.value is not None and gathered.returns is not None:
            self.value.fit(seen, gathered.returns[gathered.taken], draws.oracle)
        self.cost.steps += len(seen)
        self.cost.scores += gathered.scores
        self.cost.comparisons += gathered.comparisons
        return gathered.batch

    def probe(self, units: int, streams: Streams) -> Batch:
        draws, chains = Draws.of_probe(streams), self.chains.copy()
        rounds = -(-units // self.contexts)
        return join([self._gather(chains, draws, -1).batch for _ in range(rounds)])

    def _gather(self, chains: Chains, draws: Draws, iteration: int) -> Gathered:
        """Returns what the chains give next and moves them on; nothing else of the run changes."""
        gather = self._gather_groups if self.grouped else self._gather_steps
        return gather(chains, draws, iteration)

    def _gather_steps(self, chains: Chains, draws: Draws, iteration: int) -> Gathered:
        """Returns K rows of T steps."""
        sims, out, walker, policy = self.simulations, self.rollout, self.walker, self.learner
        boundary = np.zeros((self.steps, self.contexts), bool)
        died = np.zeros_like(boundary)
        sims.state[...] = chains.states

        def follow(t: int) -> None:
            chains.ages += 1
            over: NDArray[np.bool_] = chains.ages >= walker.time_limit
            if walker.terminates:
                died[t] = ~walker.healthy(sims.physics)
                over = over | died[t]
            if over.any():
                which = over.nonzero()[0]
                boundary[t] = over
                out.ends.append((t, which, sims.physics[which]))
                sims.reset(which, draws.contexts)
                chains.ages[which] = 0

        noise = policy.noise(draws.sampling, out.actions.shape)
        roll(sims, policy.actor(self.contexts), noise, out, follow)
        chains.states[...] = sims.state
        boundary[-1] = True
        after = out.after()
        reward = walker.reward(out.physics[:-1], after, out.clipped, sims.dt)
        value = next_value = None
        if policy.critic is not None:
            flat = torch.from_numpy(out.observations).flatten(0, 1)
            values = policy.values(flat).view(self.steps + 1, self.contexts)
            following = values[1:].clone()
            for t, which, physics in out.ends:
                last = torch.from_numpy(policy.normaliser(walker.observe(physics)))
                following[t, torch.from_numpy(which)] = policy.values(last)
            following[torch.from_numpy(died)] = 0.0
            value, next_value = values[:-1].t().contiguous(), following.t().contiguous()
        batch = self._batch(
            iteration,
            step_reward=rows_first(reward.astype(np.float32)),
            value=value,
            next_value=next_value,
            boundary=rows_first(boundary.astype(np.float32)),
        )
        return Gathered(batch, np.ones_like(boundary), scores=boundary.size)

    def _gather_groups(self, chains: Chains, draws: Draws, iteration: int) -> Gathered:
        """Returns whole groups, labelled by the teacher."""
        sims, out, walker, policy = self.simulations, self.rollout, self.walker, self.learner
        count, size = self.contexts, self.size
        sims.state[...] = np.repeat(chains.states, size, axis=0)
        noise = policy.noise(draws.sampling, out.actions.shape)
        roll(sims, policy.actor(sims.count), noise, out)
        mask = np.ones(noise.shape[:2], bool)
        died = np.zeros(sims.count, bool)
        if walker.terminates:
            healthy = walker.healthy(out.physics[1:])
            mask[1:] = np.logical_and.accumulate(healthy[:-1])
            died = np.logical_not(healthy.all(axis=0))
        reward = walker.reward(out.physics[:-1], out.physics[1:], out.clipped, sims.dt)
        reward *= mask
        returns = score = None
        if self.value is None:
            score = reward.sum(0)
        else:
            final = np.where(died, 0.0, self.value(walker.observe(out.physics[-1])))
            returns = self.value.returns(reward, final, mask)
            score = returns[0]
        components = None
        if self.needs.components:
            effort = walker.effort(out.clipped).astype(np.float64) * mask
            spent = (
                effort.sum(0)
                if self.value is None
                else self.value.returns(effort, np.zeros(sims.count), mask)[0]
            )
            components = np.stack([score + spent, -spent], -1).reshape(count, size, 2)

        batch = self._batch(iteration, mask=rows_first(mask.astype(np.float32)))
        batch, answers, scored = self.teacher.label(
            batch, score.reshape(count, size), self.needs, draws.oracle, components
        )
        member = draws.contexts.integers(size, size=count) + np.arange(count) * size
        chains.states[...] = sims.state[member]
        chains.ages += self.steps
        over = died[member] | (chains.ages + self.steps > walker.time_limit)
        if over.any():
            which = over.nonzero()[0]
            self._renew(chains, which, draws.contexts)
            chains.ages[which] = 0
        return Gathered(batch, mask, scored, answers, returns)

    def _batch(self, iteration: int, mask: Tensor | None = None, **fields: Tensor | None) -> Batch:
        """Returns the rollout as a batch, with log-probabilities and distributions."""
        out, policy = self.rollout, self.learner
        steps, count = out.actions.shape[:2]
        contexts, responses = rows_first(out.observations[:-1]), rows_first(out.actions)
        raw = self.walker.observe(out.physics[:-1]).astype(np.float32).clip(-10, 10)
        actions = responses.flatten(0, 1)
        old = policy.distribution(contexts.flatten(0, 1))
        ref = policy.distribution(rows_first(raw).flatten(0, 1), reference=True)
        shape = (count, steps)
        return Batch(
            contexts=contexts,
            responses=responses,
            mask=torch.ones(shape) if mask is None else mask,
            old_logp=log_density(actions, old).view(shape),
            ref_logp=log_density(actions, ref).view(shape),
            old_dist=old.view(*shape, -1),
            ref_dist=ref.view(*shape, -1),
            group=torch.arange(count // self.size).repeat_interleave(self.size),
            sampler=iteration,
            offline=None,
            **fields,
        )

    def evaluate(self, final: bool) -> Evaluation:
        ways = ["stochastic", "mean"] if final else ["stochastic"]
        episodes, limit = self.config.evaluation_episodes, self.walker.time_limit
        count = episodes * len(ways)
        if count not in self._evaluators:
            sims = Simulations(self.walker, count, self.threads)
            self._evaluators[count] = (sims, Rollout.empty(sims, limit))
        sims, out = self._evaluators[count]
        stream = self.config.held_out
        starts = seeding.generator(EVALUATION_SEED, f"{stream}/starts")
        sims.reset(np.arange(episodes), starts)
        sims.state[...] = np.tile(sims.state[:episodes], (len(ways), 1))
        policy, name = self.policy, type(self.policy).__name__
        if name not in self._evaluation_noise:
            source = seeding.generator(EVALUATION_SEED, f"{stream}/noise")
            self._evaluation_noise[name] = policy.noise(source, (limit, episodes, sims.actions))
        noise = np.zeros((limit, count, sims.actions), np.float32)
        noise[:, :episodes] = self._evaluation_noise[name]
        roll(sims, policy.actor(count), noise, out)
        reward = self.walker.reward(out.physics[:-1], out.physics[1:], out.clipped, sims.dt)
        lasted = np.full(count, float(limit))
        if self.walker.terminates:
            alive = np.ones(reward.shape, bool)
            alive[1:] = np.logical_and.accumulate(self.walker.healthy(out.physics[1:-1]))
            reward *= alive
            lasted = alive.sum(0).astype(float)
        self.cost.evaluation_steps += int(lasted.sum())
        returns = reward.sum(0).reshape(len(ways), episodes)
        scores = {way: [float(value) for value in row] for way, row in zip(ways, returns)}
        return Evaluation(
            scores=scores, measures={"episode_length": float(lasted[:episodes].mean())}
        )

    def state(self) -> dict[str, Any]:
        return {
            "chains": self.chains.states.copy(),
            "ages": self.chains.ages.copy(),
            "teacher": None if self.value is None else self.value.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.chains.states[...] = np.asarray(state["chains"])
        self.chains.ages[...] = np.asarray(state["ages"])
        if self.value is not None:
            self.value.load_state(state["teacher"])


def _check_sizes(name: str, walker: Walker, algorithm: Method, grouped: bool) -> None:
    """Raises `PairBenchError` if the algorithm's sizes do not fit the task."""
    sizes, needs = algorithm.config, algorithm.needs
    if sizes.segment > walker.time_limit:
        raise PairBenchError(
            f"{algorithm.name}.segment is {sizes.segment}, longer than an episode of "
            f"{name}; set it to at most {walker.time_limit}"
        )
    comparing = needs.feedback == "comparisons" or "pairs" in needs.data
    if grouped and comparing and (sizes.group_size < 2 or needs.queries == "none"):
        raise PairBenchError(
            f"{algorithm.name} compares segments but asks for {sizes.group_size} a context "
            f"and {needs.queries} queries; set group_size to at least 2 and name the queries"
        )
    if needs.data == "pairs" and needs.queries != "best-worst":
        raise PairBenchError(
            f"{name} gives one pair a group under best-worst queries only; "
            f"{algorithm.name} must ask for those in place of {needs.queries}"
        )


def rows_first(array: NDArray[np.float32]) -> Tensor:
    """Returns (T, N, ...) as an (N, T, ...) tensor of its own."""
    return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))
