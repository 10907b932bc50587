"""`ControlTask`: locomotion as contexts (simulator states) and responses (segments of actions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import Method, Needs
from pairbench.batch import Batch, join
from pairbench.control.gaussian import GaussianPolicy, UniformPolicy, log_density
from pairbench.control.mujoco_env import Float, Simulations, Single, Walker, provenance
from pairbench.control.rollout import Actable, Rollout, roll
from pairbench.control.value import ValueEstimate
from pairbench.errors import PairBenchError
from pairbench.evaluation import Cost, Evaluation, Measure
from pairbench.policy import Policy
from pairbench.seeding import Streams
from pairbench.task import Task
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
class Sources:
    """The random generators one collection draws from."""

    contexts: np.random.Generator
    sampling: np.random.Generator
    oracle: np.random.Generator


class ControlTask(Task):
    """A Gymnasium locomotion task; a subclass gives its facts as `walker`, and
    `gymnasium_id` for libraries that make the environment themselves.

    Under "steps" each of `contexts` chains takes `segment` steps with their rewards. Under "groups"
    each chain's exact simulator state (warm start included) is a context, `group_size` segments of
    `segment` actions branch from it, and the end of a member drawn at random is the chain's next
    context; a chain starts anew when its episode ended or fewer than `segment` steps of the time
    limit remain. Under "pairs" only the two members the teacher told apart stay as rows. The ages
    of the chains are staggered at the start, so that they do not start anew together.

    The learner sees no reward but under "steps": a segment's score, or comparisons of segments. A
    score of several components is two: the segment's progress (closed by the teacher's value where
    the score is) and what its actions cost, negative; they sum to the score.

    Validation episodes have starts and noise from streams of their own.
    """

    version = "1"
    kind = "control"
    unit = "environment steps"
    measures = (
        Measure(
            name="episode_length", title="episode length", meaning="Mean length of an episode",
            unit="steps",
        ),
    )  # fmt: skip
    packages = ("gymnasium", "mujoco")
    walker: ClassVar[Walker]
    gymnasium_id: ClassVar[str]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "critic-free": {"oracle": "return", "log_std": -1.0, "log_std_floor": -1.4}
    }

    class Config(ControlConfig):
        """A control task's settings."""

    config: ControlConfig

    def skip(self, algorithm: Method) -> str | None:
        needs = algorithm.needs
        if needs.probabilities:
            return (
                f"{algorithm.name}'s log odds need probabilities below one; "
                "continuous actions have densities"
            )
        if needs.offline:
            return f"{algorithm.name} learns from offline pairs, and {self.name} has no data set"
        if needs.enumerable:
            return f"{algorithm.name} enumerates all responses, and actions here are continuous"
        if self.config.oracle == "return" and (needs.critic or needs.data == "steps"):
            return (
                f"{algorithm.name} needs a critic or step rewards; the critic-free variant gives "
                "only scores or comparisons of segments"
            )
        return None

    def start(self, algorithm: Method, streams: Streams, threads: int = 1) -> GaussianPolicy:
        """Begins a run; see `Task.start`.

        Raises:
            PairBenchError: if the algorithm's sizes do not fit the task.
        """
        config, needs = algorithm.config, algorithm.needs
        self._needs: Needs = needs
        self._streams, self._threads = streams, threads
        self.cost = Cost()
        self._evaluator: dict[int, tuple[Simulations, Rollout]] = {}
        self._evaluation_noise: dict[str, Single] = {}
        if config.segment > self.walker.time_limit:
            raise PairBenchError(
                f"{algorithm.name}.segment is {config.segment}, longer than an episode of "
                f"{self.name}; set it to at most {self.walker.time_limit}"
            )
        self._grouped = needs.data not in ("steps", "nothing")
        self._comparing = needs.feedback == "comparisons" or "pairs" in needs.data
        if self._grouped and self._comparing and (config.group_size < 2 or needs.queries == "none"):
            raise PairBenchError(
                f"{algorithm.name} compares segments but asks for {config.group_size} a context "
                f"and {needs.queries} queries; set group_size to at least 2 and name the queries"
            )
        if needs.data == "pairs" and needs.queries != "best-worst":
            raise PairBenchError(
                f"{self.name} gives one pair a group under best-worst queries only; "
                f"{algorithm.name} must ask for those in place of {needs.queries}"
            )
        self._contexts, self._steps = config.contexts, config.segment
        self._size = config.group_size if self._grouped else 1
        self._teacher = Teacher(self.config)
        self._sims = Simulations(self.walker, self._contexts * self._size, threads)
        self._rollout = Rollout.empty(self._sims, self._steps)
        self._value: ValueEstimate | None = None
        if self._grouped and self.config.oracle == "value":
            self._value = ValueEstimate(
                self._sims.observations,
                seeding.generator(streams.seed, "init/teacher"),
                gamma=self.config.gamma,
                passes=self.config.value_passes,
                minibatches=self.config.value_minibatches,
                lr=self.config.value_lr,
            )
        self._first = np.arange(self._contexts) * self._size
        self._chains = Chains(
            np.empty((self._contexts, self._sims.state.shape[1])),
            np.arange(self._contexts) * self.walker.time_limit // self._contexts,
        )
        if needs.data != "nothing":
            self._begin(self._chains, np.arange(self._contexts), streams["contexts"])
        floor = config.log_std_floor
        return GaussianPolicy(
            self._sims.observations,
            self._sims.actions,
            seed=streams.seed,
            log_std=self.config.log_std,
            log_std_floor=self.config.log_std_floor if floor is None else floor,
            critic=needs.critic,
        )

    def random_policy(self) -> UniformPolicy:
        return UniformPolicy()

    def _begin(
        self, chains: Chains, which: NDArray[np.integer], generator: np.random.Generator
    ) -> None:
        """Starts new episodes of the chains `which`; their ages are the caller's."""
        rows = self._first[which]
        self._sims.reset(rows, generator)
        chains.states[which] = self._sims.state[rows]

    def collect(self, policy: Policy, iteration: int) -> Batch:
        assert isinstance(policy, GaussianPolicy)
        streams = self._streams
        sources = Sources(streams["contexts"], streams["sampling"], streams["oracle"])
        if not self._grouped:
            return self._collect_steps(policy, self._chains, sources, iteration, self.cost)
        return self._collect_groups(policy, self._chains, sources, iteration, self.cost)

    def probe(self, policy: Policy, units: int, streams: Streams) -> Batch:
        assert isinstance(policy, GaussianPolicy)
        source = streams["probe"]
        sources, chains = Sources(source, source, source), self._chains.copy()
        gather = self._collect_groups if self._grouped else self._collect_steps
        rounds = -(-units // self._contexts)
        return join([gather(policy, chains, sources, -1, None) for _ in range(rounds)])

    def _collect_steps(
        self,
        policy: GaussianPolicy,
        chains: Chains,
        sources: Sources,
        iteration: int,
        cost: Cost | None,
    ) -> Batch:
        """Returns K rows of T steps; `cost` None leaves the normaliser as it is, too."""
        sims, out, walker = self._sims, self._rollout, self.walker
        boundary = np.zeros((self._steps, self._contexts), bool)
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
                sims.reset(which, sources.contexts)
                chains.ages[which] = 0

        noise = self._noise(policy, sources)
        roll(sims, policy.actor(self._contexts), noise, out, follow)
        chains.states[...] = sims.state
        boundary[-1] = True
        after = out.after()
        reward = walker.reward(out.physics[:-1], after, out.clipped, sims.dt)
        value = next_value = None
        if policy.critic is not None:
            flat = torch.from_numpy(out.observations).flatten(0, 1)
            values = policy.values(flat).view(self._steps + 1, self._contexts)
            following = values[1:].clone()
            for t, which, physics in out.ends:
                last = torch.from_numpy(policy.normaliser(walker.observe(physics)))
                following[t, torch.from_numpy(which)] = policy.values(last)
            following[torch.from_numpy(died)] = 0.0
            value, next_value = values[:-1].t().contiguous(), following.t().contiguous()
        batch = self._batch(
            policy,
            out,
            iteration,
            step_reward=rows_first(reward.astype(np.float32)),
            value=value,
            next_value=next_value,
            boundary=rows_first(boundary.astype(np.float32)),
        )
        if cost is not None:
            cost.steps += boundary.size
            cost.scores += boundary.size
            policy.normaliser.update(walker.observe(out.physics[:-1]).reshape(boundary.size, -1))
        return batch

    def _collect_groups(
        self,
        policy: GaussianPolicy,
        chains: Chains,
        sources: Sources,
        iteration: int,
        cost: Cost | None,
    ) -> Batch:
        """Returns whole groups; `cost` None leaves the normaliser and teacher as they are, too."""
        sims, out, walker = self._sims, self._rollout, self.walker
        count, size = self._contexts, self._size
        sims.state[...] = np.repeat(chains.states, size, axis=0)
        noise = self._noise(policy, sources)
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
        if self._value is None:
            score = reward.sum(0)
        else:
            final = np.where(died, 0.0, self._value(walker.observe(out.physics[-1])))
            returns = self._value.returns(reward, final, mask)
            score = returns[0]
        components = None
        if self._needs.components:
            effort = walker.effort(out.clipped).astype(np.float64) * mask
            spent = (
                effort.sum(0)
                if self._value is None
                else self._value.returns(effort, np.zeros(sims.count), mask)[0]
            )
            components = np.stack([score + spent, -spent], -1).reshape(count, size, 2)

        batch = self._batch(policy, out, iteration, mask=rows_first(mask.astype(np.float32)))
        batch, answers, scored = self._teacher.label(
            batch, score.reshape(count, size), self._needs, sources.oracle, components
        )

        member = sources.contexts.integers(size, size=count) + self._first
        chains.states[...] = sims.state[member]
        chains.ages += self._steps
        over = died[member] | (chains.ages + self._steps > walker.time_limit)
        if over.any():
            which = over.nonzero()[0]
            self._begin(chains, which, sources.contexts)
            chains.ages[which] = 0
        if cost is not None:
            cost.steps += int(mask.sum())
            cost.scores += scored
            cost.comparisons += answers
            seen = walker.observe(out.physics[:-1])[mask]
            policy.normaliser.update(seen)
            if self._value is not None and returns is not None:
                self._value.fit(seen, returns[mask], sources.oracle)
        return batch

    def _noise(self, policy: Actable, sources: Sources) -> Single:
        shape = self._rollout.actions.shape
        return policy.noise(sources.sampling, shape)

    def _batch(
        self,
        policy: GaussianPolicy,
        out: Rollout,
        iteration: int,
        mask: Tensor | None = None,
        **fields: Tensor | None,
    ) -> Batch:
        """Returns the batch of a rollout, rows first, with log-probabilities and distributions."""
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
            group=torch.arange(count // self._size).repeat_interleave(self._size),
            sampler=iteration,
            offline=None,
            **fields,
        )

    def evaluate(self, policy: Policy, final: bool) -> Evaluation:
        ways = ["stochastic", "mean"] if final else ["stochastic"]
        episodes, limit = self.config.evaluation_episodes, self.walker.time_limit
        count = episodes * len(ways)
        if count not in self._evaluator:
            sims = Simulations(self.walker, count, self._threads)
            self._evaluator[count] = (sims, Rollout.empty(sims, limit))
        sims, out = self._evaluator[count]
        stream = self.config.held_out
        starts = seeding.generator(EVALUATION_SEED, f"{stream}/starts")
        sims.reset(np.arange(episodes), starts)
        sims.state[...] = np.tile(sims.state[:episodes], (len(ways), 1))
        actable: Actable = policy  # type: ignore[assignment]
        name = type(policy).__name__
        if name not in self._evaluation_noise:
            source = seeding.generator(EVALUATION_SEED, f"{stream}/noise")
            self._evaluation_noise[name] = actable.noise(source, (limit, episodes, sims.actions))
        noise = np.zeros((limit, count, sims.actions), np.float32)
        noise[:, :episodes] = self._evaluation_noise[name]
        roll(sims, actable.actor(count), noise, out)
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
            "chains": self._chains.states.copy(),
            "ages": self._chains.ages.copy(),
            "teacher": None if self._value is None else self._value.state(),
            "cost": self.cost.model_dump(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._chains.states[...] = np.asarray(state["chains"])
        self._chains.ages[...] = np.asarray(state["ages"])
        if self._value is not None:
            self._value.load_state(state["teacher"])
        self.cost = Cost(**state["cost"])

    def provenance(self) -> dict[str, Any]:
        return dict(provenance(self.walker))


def rows_first(array: NDArray[np.float32]) -> Tensor:
    """Returns (T, N, ...) as an (N, T, ...) tensor of its own."""
    return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))
