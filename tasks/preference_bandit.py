"""`preference-bandit`: a small tabular problem whose optimum and expectations are known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pairbench.algorithm import External, Method, Needs
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation, Measure
from pairbench.registry import register_task
from pairbench.results.record import digest
from pairbench.seeding import Streams, generator
from pairbench.tabular import Categorical
from pairbench.task import Draws, Session, Task, TaskConfig, TunableConfig


@register_task("preference-bandit")
class PreferenceBandit(Task):
    """X contexts of K arms with fixed rewards: every method in seconds, the optimum known.

    Rewards are standard normal, the logits of the reference (and initial) policy half the rewards
    plus standard normal noise: better than random, far from best. Both are drawn once from
    `data_seed`, so that all runs face the same problem whatever their seed. A
    score is the arm's reward plus noise. In components it is two that sum to it: half of it plus,
    and half of it less, a normal draw of the arm's with standard deviation 1/2. A comparison is
    between two scores, or a draw from the Bradley-Terry model of the two noiseless rewards; equal
    scores leave no preference. `mistake` turns answers round, each by a draw of its own. As every
    context is evaluated, validation is another problem.

    A step is one arm pulled. An iteration's offline pairs are distinct, so at most the whole data
    set; beside on-policy groups there is one for each group. A pair of it counts as two steps and
    one comparison each time it is read, so that any budget ends an offline run.
    """

    version = "1"
    kind = "tabular"
    source = "generated: standard normal rewards"
    unit = "arms pulled"
    measures = (
        Measure(
            name="kl_ref",
            title="KL to reference",
            meaning="KL to the untrained policy",
            unit="nats per response",
            role="distance",
            levels=(1.0, 3.0, 8.0),
        ),
        Measure(
            name="regret",
            title="regret",
            meaning="Expected reward of the best policy less the policy's",
            better=-1,
        ),
        Measure(name="entropy", title="entropy", meaning="Mean entropy over contexts", unit="nats"),
    )
    variants = {  # noqa: RUF012 (read by name, never changed)
        "noisy": {"reward_noise": 1.0},
        "bradley-terry": {"comparison": "bradley-terry"},
        "reward-noise-1": {"reward_noise": 1.0},
        "reward-noise-2": {"reward_noise": 2.0},
        "reward-noise-4": {"reward_noise": 4.0},
        "label-noise-0.1": {"mistake": 0.1},
        "label-noise-0.2": {"mistake": 0.2},
        "label-noise-0.3": {"mistake": 0.3},
        "label-noise-0.4": {"mistake": 0.4},
    }

    class Config(TunableConfig):
        """The problem; all of it is part of a run's identity."""

        contexts: int = Field(8, ge=1, description="X, contexts")
        arms: int = Field(10, ge=2, description="K, arms per context")
        data_seed: int = Field(0, ge=0, description="seed of rewards, reference and data set")
        reference_scale: float = Field(1.0, ge=0, description="factor of the reference's logits")
        reward_noise: float = Field(0.0, ge=0, description="std of a score around its reward")
        comparison: Literal["scores", "bradley-terry"] = Field(
            "scores", description="preferred is the larger score, or drawn from Bradley-Terry"
        )
        temperature: float = Field(1.0, gt=0, description="of Bradley-Terry, in units of reward")
        pairs: int = Field(1024, ge=1, description="offline pairs, drawn from the reference")
        mistake: float = Field(
            0.0,
            ge=0,
            le=1,
            description="probability that a comparison's answer is turned round",
            exclude_if=lambda mistake: mistake == 0,
        )

    config: Config

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        size = (self.config.contexts, self.config.arms)
        data = self.stream("data")
        self.rewards = torch.from_numpy(data.normal(size=size))
        logits = 0.5 * self.rewards + torch.from_numpy(data.normal(size=size))
        self.reference = Categorical(self.config.reference_scale * logits)
        # Drawn last: rewards and reference are what they were before rewards had components.
        apart = torch.from_numpy(data.normal(scale=0.5, size=size))
        self.parts = torch.stack([self.rewards / 2 + apart, self.rewards / 2 - apart], -1)

    def stream(self, stream: str) -> np.random.Generator:
        """Returns a stream of the problem's seed; the problem of validation has its own."""
        other = "" if self.config.held_out == "evaluation" else f"{self.config.held_out}/"
        return generator(self.config.data_seed, f"{other}{stream}")

    @property
    def optimum(self) -> float:
        """Expected reward of the best policy, mean over contexts."""
        return float(self.rewards.amax(1).mean())

    def skip(self, algorithm: Method) -> str | None:
        if isinstance(algorithm, External):
            return f"{algorithm.name} brings its own trainer, which has no bandit"
        return None

    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> BanditSession:
        return BanditSession(self, algorithm, streams)

    def random_policy(self) -> Categorical:
        return Categorical(torch.zeros_like(self.rewards))

    def provenance(self, needs: Needs) -> dict[str, Any]:
        return {
            "rewards_sha256": digest(self.rewards.tolist()),
            "optimum": self.optimum,
            "reference": float(
                (self.reference.log_probabilities().exp() * self.rewards).sum(1).mean()
            ),
        }


class BanditSession(Session):
    """A run on the bandit.

    Attributes:
        problem: rewards, reference policy and settings.
        needs: what the algorithm asks for, and `sizes` how much of it.
        draws: the run's random generators.
        data_set: the offline pairs, for algorithms that read them; the same in every run.
    """

    policy: Categorical

    def __init__(self, problem: PreferenceBandit, algorithm: Method, streams: Streams) -> None:
        self.problem, self.needs, self.sizes = problem, algorithm.needs, algorithm.config
        super().__init__(Categorical(problem.reference.logits, critic=self.needs.critic))
        self.draws = Draws.of_run(streams)
        self.data_set: Batch | None = None
        if self.needs.offline:
            data = problem.stream("oracle")
            offline = Draws(data, data, data)
            self.data_set, _ = self._pairs(problem.reference, problem.config.pairs, 2, offline)

    def collect(self, iteration: int) -> Batch:
        batch, comparisons = self._collect(self.sizes.contexts, self.draws, iteration)
        if self.needs.data == "pairs" and not self.needs.offline:
            self.cost.steps += self.sizes.contexts * self.sizes.group_size
        else:
            self.cost.steps += len(batch) + (0 if batch.offline is None else len(batch.offline))
        if self.needs.feedback == "comparisons" or self.needs.data == "groups+pairs":
            self.cost.comparisons += comparisons
        if self.needs.feedback in ("scores", "rewards"):
            self.cost.scores += len(batch) if batch.components is None else batch.components.numel()
        return batch

    def probe(self, units: int, streams: Streams) -> Batch:
        return self._collect(units, Draws.of_probe(streams), 0)[0]

    def evaluate(self, final: bool) -> Evaluation:
        """Exact, per context: "stochastic" is the expected reward, "mean" the likeliest arm's."""
        problem = self.problem
        log_policy = self.policy.log_probabilities()
        probabilities = log_policy.exp()
        expected = (probabilities * problem.rewards).sum(1)
        best = problem.rewards.gather(1, log_policy.argmax(1, keepdim=True)).squeeze(1)
        moved = (probabilities * (log_policy - problem.reference.log_probabilities())).sum(1)
        return Evaluation(
            scores={"stochastic": expected.tolist(), "mean": best.tolist()},
            measures={
                "regret": problem.optimum - float(expected.mean()),
                "kl_ref": float(moved.mean()),
                "entropy": float(-(probabilities * log_policy).sum(1).mean()),
            },
        )

    def state(self) -> dict[str, Any]:
        """Nothing: all that changes is in the run's streams, which the training loop keeps."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def _collect(self, contexts: int, draws: Draws, iteration: int) -> tuple[Batch, int]:
        """Returns a batch of `contexts` groups, and the comparisons it took."""
        acting, needs = self.policy, self.needs
        if needs.offline and needs.data == "pairs":
            return self._read(contexts, acting, draws.contexts)
        if needs.data == "pairs":
            batch, comparisons = self._pairs(acting, contexts, self.sizes.group_size, draws)
            return self._with_policy(batch, acting, iteration), comparisons
        if needs.offline:
            contexts = min(contexts, self.problem.config.pairs)
        batch = self._groups(acting, contexts, self.sizes.group_size, draws)
        score, comparisons = batch.score, 0
        assert score is not None
        if needs.offline:
            # not the contexts' stream, which all methods of a seed share
            offline, comparisons = self._read(contexts, acting, draws.oracle)
            batch = replace(batch, offline=offline)
        elif needs.feedback == "comparisons" or needs.data == "groups+pairs":
            pairs, comparisons = self._compare(batch, needs.queries, draws)
            batch = replace(batch, pairs=pairs)
        if needs.components:
            parts = self.problem.parts[batch.contexts[:, 0], batch.responses[:, 0]]
            noise = (score - parts.sum(1)) / 2
            batch = replace(batch, components=parts + noise.unsqueeze(1))
        if needs.feedback != "scores" or needs.components:
            batch = replace(batch, score=None)
        if needs.data == "steps":
            zero, one = torch.zeros_like(batch.mask), torch.ones_like(batch.mask)
            batch = replace(batch, step_reward=score.unsqueeze(1), next_value=zero, boundary=one)
        return self._with_policy(batch, acting, iteration), comparisons

    def _read(
        self, count: int, policy: Categorical, choosing: np.random.Generator
    ) -> tuple[Batch, int]:
        """Returns `count` distinct pairs of the data set, and the comparisons they hold."""
        index = torch.from_numpy(choosing.permutation(self.problem.config.pairs)[:count])
        rows = (2 * index.unsqueeze(1) + torch.arange(2)).reshape(-1)
        assert self.data_set is not None  # __init__ drew it, as the needs are offline
        batch = self.data_set.select(rows)
        assert batch.pairs is not None
        return self._with_policy(batch, policy, -1), len(batch.pairs)

    def _groups(self, policy: Categorical, contexts: int, size: int, draws: Draws) -> Batch:
        """Returns groups of `size` arms drawn from `policy`, with noisy scores."""
        problem, config = self.problem, self.problem.config
        drawn = draws.contexts.integers(config.contexts, size=contexts)
        where = torch.from_numpy(drawn).repeat_interleave(size)
        arms = policy.sample(where, draws.sampling)
        score = problem.rewards[where, arms]
        if config.reward_noise:
            noise = torch.from_numpy(draws.oracle.normal(size=len(arms)))
            score = score + config.reward_noise * noise
        mask = torch.ones(len(arms), 1, dtype=problem.rewards.dtype)
        return Batch(
            contexts=where.unsqueeze(1),
            responses=arms.unsqueeze(1),
            mask=mask,
            old_logp=torch.zeros_like(mask),
            group=torch.arange(contexts).repeat_interleave(size),
            score=score,
        )

    def _pairs(
        self, policy: Categorical, contexts: int, size: int, draws: Draws
    ) -> tuple[Batch, int]:
        """Returns the best and the worst of each group of `size`, and the comparisons it took.

        A group whose members all tie keeps its first two, without a pair.
        """
        batch = self._groups(policy, contexts, size, draws)
        pairs, comparisons = self._compare(batch, "best-worst", draws)
        decided = pairs[:, 0] // size
        members = torch.arange(contexts).unsqueeze(1) * size + torch.arange(2)
        members[decided] = pairs
        rows = members.reshape(-1)
        kept = Batch(
            contexts=batch.contexts[rows],
            responses=batch.responses[rows],
            mask=batch.mask[rows],
            old_logp=batch.old_logp[rows],
            group=torch.arange(contexts).repeat_interleave(2),
            pairs=2 * decided.unsqueeze(1) + torch.arange(2),
        )
        return kept, comparisons

    def _compare(self, batch: Batch, queries: str, draws: Draws) -> tuple[Tensor, int]:
        """Returns (P, 2) (preferred, rejected) rows in the order of the groups, and the queries."""
        problem, config = self.problem, self.problem.config
        size, groups = batch.group_size, batch.n_groups
        if queries == "disjoint-pairs":
            order = draws.oracle.random((groups, size)).argsort(axis=1)
            members = order[:, : size // 2 * 2].reshape(groups, -1, 2)
        elif queries in ("all-pairs", "best-worst"):
            every = np.stack(np.triu_indices(size, 1), axis=1)
            members = np.broadcast_to(every, (groups, *every.shape))
        else:
            raise PairBenchError(
                f"preference-bandit cannot ask for the comparisons {queries!r}: "
                "choose all-pairs, disjoint-pairs or best-worst"
            )
        rows = torch.from_numpy(members + size * np.arange(groups)[:, None, None])
        if config.comparison == "scores":
            assert batch.score is not None
            gap = batch.score[rows[..., 0]] - batch.score[rows[..., 1]]
        else:
            reward = problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]]
            odds = (reward[rows[..., 0]] - reward[rows[..., 1]]) / config.temperature
            gap = odds.sigmoid() - torch.from_numpy(draws.oracle.random(odds.shape))
        if config.mistake:
            wrong = torch.from_numpy(draws.oracle.random(gap.shape)) < config.mistake
            gap = torch.where(wrong, -gap, gap)
        ordered = torch.where((gap < 0).unsqueeze(2), rows.flip(2), rows)
        asked, decided = gap.numel(), gap != 0
        if queries != "best-worst":
            return ordered[decided], asked
        sign = gap.sign().to(torch.int64)
        wins = torch.zeros(len(batch), dtype=torch.int64)
        wins.index_add_(0, rows[..., 0].reshape(-1), sign.reshape(-1))
        wins.index_add_(0, rows[..., 1].reshape(-1), -sign.reshape(-1))
        table = wins.view(groups, size)
        start = size * torch.arange(groups)
        extremes = torch.stack([start + table.argmax(1), start + table.argmin(1)], dim=1)
        return extremes[table.amax(1) > table.amin(1)], asked

    def _with_policy(self, batch: Batch, policy: Categorical, iteration: int) -> Batch:
        """Fills what depends on the policy of the moment and on the reference."""
        where = batch.contexts[:, 0]
        old, reference = (
            policy.log_probabilities()[where],
            self.problem.reference.log_probabilities()[where],
        )
        value = None
        if policy.values is not None:
            value = policy.values.detach()[where].unsqueeze(1)
        return replace(
            batch,
            old_logp=old.gather(1, batch.responses),
            ref_logp=reference.gather(1, batch.responses),
            old_dist=old.unsqueeze(1),
            ref_dist=reference.unsqueeze(1),
            value=value,
            sampler=iteration,
        )
