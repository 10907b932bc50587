"""`exact-rlhf`: a language model all of whose responses are listed: nothing is estimated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pairbench.algorithm import External, Floor, Method, Needs
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.evaluation import Cost, Evaluation, Measure
from pairbench.language.exact.llama import SmallLlama, chosen
from pairbench.language.exact.problem import (
    best_of,
    reference,
    reference_file,
    rewards,
    tilted,
)
from pairbench.language.exact.space import CONTEXT, Space
from pairbench.language.exact.table import Table
from pairbench.language.model_cache import file_sha256
from pairbench.objectives import net_wins
from pairbench.registry import register_task
from pairbench.seeding import Streams, generator
from pairbench.task import Draws, Session, Task
from pairbench.teacher import Float, Teacher, TeacherConfig

SHARE = "share of the optimum"


@register_task("exact-rlhf")
class ExactRLHF(Task):
    """RLHF in which expected reward, KL and the best policy are computed instead of sampled.

    A Llama of 82,496 weights answers 64 contexts with 6 of 4 symbols: 4,096 responses. The
    reference, and initial, policy was taught a random grammar. The reward is hidden and drawn by a
    run's seed: ten seeds are ten problems, the same for all rows. A row is ranked by J = E[r] -
    `beta` KL(pi || reference), as a share of the best policy's, which is pi_ref exp(r / beta) / Z.

    All pay the same price. A method that asks for the reference charges it by a setting of its own,
    which its presets set to `beta`; any other learns from r - beta log(pi / pi_ref) as the policy
    stood when it drew. A method that can do neither has no anchor, and is skipped.

    Under `feedback="scores"` methods are told r, or which of two is larger. Under "comparisons" all
    learn from noisy comparisons of two responses, one for every two of them. A score is a
    response's own answer, against another of its group (alone, against another to the same
    context): +-2 temperatures, by the link's slope where both are equal. Offline pairs are draws of
    the reference. `mistake` turns answers round; a score it turns to -r. At .5 nothing can be
    learned from either, but that moving costs.

    A step is a symbol of a response that was drawn or read.
    """

    version = "1"
    kind = "exact"
    source = "generated: a random grammar and hidden rewards"
    unit = "completion tokens"
    scores_of = "measure"
    adam_eps = 1e-8
    floors = ("reference", "random", "optimum", "best-of-n")
    measures = (
        Measure(
            name="reward",
            title="E[r]",
            meaning="Expected reward; the untrained policy's is 0, and its standard deviation 1",
            better=1,
        ),
        Measure(
            name="kl_ref",
            title="KL to reference",
            meaning="KL to the untrained policy",
            unit="nats per response",
            role="distance",
            levels=(0.5, 1.0, 1.5),
        ),
        Measure(name="objective", title="J", meaning="E[r] less the price of the KL", better=1),
        Measure(name="optimum", title="J*", meaning="J of the best policy"),
        Measure(name="entropy", title="entropy", meaning="Entropy", unit="nats per response"),
    )
    variants = {  # noqa: RUF012 (read by name, never changed)
        "comparisons": {"feedback": "comparisons", "temperature": 1.0},
        "large": {"symbols": 6},
    }

    class Config(TeacherConfig):
        """The problem and its feedback; those of the teacher's noise are inherited."""

        symbols: int = Field(4, ge=2, le=6, description="V, symbols of the language")
        length: int = Field(6, ge=4, le=6, description="T, symbols of a response")
        contexts: int = Field(64, ge=1, description="X, contexts of three symbols")
        data_seed: int = Field(0, ge=0, description="seed of the reference and its grammar")
        beta: float = Field(0.5, gt=0, description="price of a nat of KL, in units of reward")
        feedback: Literal["scores", "comparisons"] = Field(
            "scores", description="what all methods learn from"
        )
        queries: Literal["disjoint-pairs", "all-pairs"] = Field(
            "disjoint-pairs",
            description="pairs of a group that are compared to make scores; disjoint, all methods "
            "have one answer for two responses",
        )
        pairs: int = Field(19_200, ge=1, description="offline pairs, drawn from the reference")
        covered: Literal["all", "random", "better", "worse", "prefix"] = Field(
            "all",
            description="responses in offline pairs: all, a random fifth, the better or worse half "
            "of the reference's mass, or those that begin with the first half of the symbols",
        )

    config: Config

    @cached_property
    def space(self) -> Space:
        """All contexts and responses."""
        config = self.config
        most = config.symbols**CONTEXT
        if config.contexts > most:
            raise PairBenchError(
                f"{self.name} has {most} contexts of {config.symbols} symbols, fewer than the "
                f"{config.contexts} asked for: lower contexts"
            )
        return Space(config.symbols, config.length, config.contexts)

    @cached_property
    def initial(self) -> tuple[Tensor, Table]:
        """The reference's weights, and its probabilities."""
        return reference(self.space, self.config.data_seed)

    def skip(self, algorithm: Method) -> str | None:
        needs, name = algorithm.needs, algorithm.name
        if isinstance(algorithm, External):
            return f"{name} brings its own trainer, which cannot read numbered contexts"
        if needs.components:
            return f"{name} needs several scores of each response, and {self.name} has one reward"
        if needs.enumerable:
            return f"{name} needs responses of one step"
        if needs.offline and not needs.reference:
            return f"{name} has no anchor: nothing in it charges for KL to the reference"
        if self.config.feedback == "scores" and (needs.offline or needs.data == "pairs"):
            return f"{name} learns from answers, not scores: see {self.name}@comparisons"
        return None

    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> ExactSession:
        """Begins a run on the problem of the streams' seed; see `Task.begin`.

        Raises:
            PairBenchError: sizes that do not fit.
        """
        return ExactSession(self, algorithm, streams)

    def random_policy(self) -> Table:
        count = len(self.space.responses)
        uniform = torch.full((self.config.contexts, count), -np.log(count), dtype=torch.float64)
        return Table(self.space, uniform)

    def read(self, needs: Needs) -> dict[str, str]:
        path = reference_file(self.space, self.config.data_seed)
        return {"reference": file_sha256(path)} if path.exists() else {}

    def provenance(self, needs: Needs) -> dict[str, Any]:
        _, table = self.initial
        entropy = float(-(table.log.exp() * table.log).sum(1).mean())
        return {"reference_entropy": entropy, "seeds": "problems", "yardstick": "raft"}


class ExactSession(Session):
    """A run on the problem that its seed draws.

    Attributes:
        reward: (X, K), hidden from learners.
        optimum: the best policy, and `value` (X,) its J.
        data_set: contexts (P,) and numbers (P, 2), preferred and rejected, of offline pairs.
    """

    policy: SmallLlama | Table

    def __init__(self, task: ExactRLHF, algorithm: Method, streams: Streams) -> None:
        self.task, self.config, self.needs = task, task.config, algorithm.needs
        self.sizes, self.draws = algorithm.config, Draws.of_run(streams)
        self.space, self.teacher = task.space, Teacher(task.config)
        flat, self.reference = task.initial
        held_out = self.config.held_out
        self._of = "exact" if held_out == "evaluation" else f"exact/{held_out}"
        self._seed = streams.seed
        self.reward = rewards(self.reference, generator(self._seed, f"{self._of}/reward"))
        self.optimum, self.value = tilted(self.reference, self.reward, self.config.beta)
        super().__init__(SmallLlama(self.space, flat, critic=self.needs.critic))
        self.data_set = self._offline_pairs() if self.needs.offline else None

    # what a run collects

    def collect(self, iteration: int) -> Batch:
        batch, price = self._gather(self.sizes.contexts, self.draws, iteration)
        self.cost.steps += price.steps
        self.cost.comparisons += price.comparisons
        self.cost.scores += price.scores
        return batch

    def probe(self, units: int, streams: Streams) -> Batch:
        return self._gather(units, Draws.of_probe(streams), -1)[0]

    def _gather(self, count: int, draws: Draws, iteration: int) -> tuple[Batch, Cost]:
        """Returns a batch of `count` groups, and what it costs."""
        needs, size, cost = self.needs, self.sizes.group_size, Cost()
        offline = None
        if needs.offline:
            offline = self._read(count, draws.oracle)
            cost = Cost(steps=offline.responses.numel(), comparisons=count)
            if needs.data == "pairs":
                return offline, cost
            needs = replace(needs, data="groups")
        where = self._contexts(count, draws.contexts).repeat_interleave(size)
        acting = self.optimum if needs.demonstrations else self.policy
        responses, dist = acting.sample(where, draws.sampling)
        cost.steps += responses.numel()
        if needs.demonstrations:
            return self._batch(where, responses, self._now(where, responses), size, iteration), cost
        batch = replace(self._batch(where, responses, dist, size, iteration), offline=offline)
        reward = self.reward[where, self.space.numbers(responses)].numpy().reshape(count, size)
        price = None
        if not needs.reference:
            assert batch.ref_logp is not None
            moved = batch.old_logp.double().sum(1) - batch.ref_logp.double().sum(1)
            price = (self.config.beta * moved.numpy()).reshape(count, size)
        if needs.feedback in ("scores", "rewards"):
            batch = self._scored(batch, reward, price, draws.oracle, cost)
        if needs.feedback == "comparisons" or "pairs" in needs.data:
            asked = replace(needs, feedback="comparisons")
            batch, answered, _ = self.teacher.label(batch, reward, asked, draws.oracle, price=price)
            cost.comparisons += answered
        return batch, cost

    def _contexts(self, count: int, draw: np.random.Generator) -> Tensor:
        """Returns (count,) context numbers: each once before any comes again.

        Responses that come alone, and are to be compared, come two to a context.
        """
        alone = self.sizes.group_size == 1 and self.config.feedback == "comparisons"
        if alone and count % 2:
            raise PairBenchError(
                f"{self.task.name} compares single responses two by two: make contexts, {count} "
                "here, an even number"
            )
        wanted = count // (1 + alone)
        rounds: list[np.ndarray] = []
        while len(rounds) * self.config.contexts < wanted:
            rounds.append(draw.permutation(self.config.contexts))
        where = torch.from_numpy(np.concatenate(rounds)[:wanted])
        return where.repeat_interleave(1 + alone)

    def _batch(
        self, where: Tensor, responses: Tensor, dist: Tensor, size: int, iteration: int
    ) -> Batch:
        """Returns responses (B, T) to contexts (B,) in groups of `size`.

        `dist` (B, T, V) are the policy's log-probabilities of each step.
        """
        reference = self.reference.dist(where, responses)
        return Batch(
            contexts=where.unsqueeze(1),
            responses=responses,
            mask=torch.ones(responses.shape),
            old_logp=chosen(dist, responses),
            ref_logp=chosen(reference, responses),
            group=torch.arange(len(where) // size).repeat_interleave(size),
            old_dist=dist,
            ref_dist=reference,
            sampler=iteration,
        )

    def _now(self, where: Tensor, responses: Tensor) -> Tensor:
        with torch.no_grad():
            return self.policy.dist(where, responses)

    def _scored(
        self,
        batch: Batch,
        reward: Float,
        price: Float | None,
        draw: np.random.Generator,
        cost: Cost,
    ) -> Batch:
        """Returns the batch with a score for each response, from rewards and prices (K, G)."""
        teacher, config = self.teacher, self.config
        if config.feedback == "scores":
            score = teacher.perceive(reward, draw)
            cost.scores += score.size
            if config.mistake:
                score = np.where(draw.random(score.shape) < config.mistake, -score, score)
            score = score if price is None else score - price
        else:
            fellows, asked = max(2, self.sizes.group_size), config.queries
            costs = None if price is None else price.reshape(-1, fellows)
            answers = teacher.ask(reward.reshape(-1, fellows), asked, draw, price=costs)
            cost.comparisons += answers.answered
            wins = net_wins(torch.from_numpy(answers.pairs), reward.size, torch.float64).numpy()
            opponents = fellows - 1 if asked == "all-pairs" else 1
            score = wins * (2.0 * (config.temperature or 0.5) / opponents)
        told = torch.from_numpy(score.reshape(-1).astype(np.float32))
        if self.needs.data != "steps":
            return replace(batch, score=told)
        end = torch.zeros_like(batch.mask)
        end[:, -1] = 1.0
        reward_of_step, value, following = end * told.unsqueeze(1), None, None
        if self.needs.critic:
            with torch.no_grad():
                value = self.policy(batch).value
            assert value is not None
            following = torch.nn.functional.pad(value[:, 1:], (0, 1))
        return replace(
            batch, step_reward=reward_of_step, value=value, next_value=following, boundary=end
        )

    # offline pairs

    def _offline_pairs(self) -> tuple[Tensor, Tensor]:
        """Returns contexts (P,) and response numbers (P, 2), preferred and rejected."""
        config, draw = self.config, generator(self._seed, f"{self._of}/pairs")
        source = Table(self.space, self._covered(draw))
        where = torch.from_numpy(draw.integers(config.contexts, size=config.pairs))
        responses, _ = source.sample(where.repeat_interleave(2), draw)
        numbers = self.space.numbers(responses)
        reward = self.reward[where.repeat_interleave(2), numbers].view(-1, 2).numpy()
        answers = self.teacher.ask(reward, "all-pairs", draw)
        pairs = torch.from_numpy(answers.pairs)
        return where[pairs[:, 0] // 2], numbers[pairs]

    def _covered(self, draw: np.random.Generator) -> Tensor:
        """Returns (X, K) log-probabilities of what offline pairs are drawn from."""
        log, how = self.reference.log, self.config.covered
        if how == "all":
            return log
        if how == "random":
            kept = torch.from_numpy(draw.random(log.shape) < 0.2)
        elif how == "prefix":
            kept = (self.space.responses[:, 0] < (self.space.symbols + 1) // 2).expand_as(log)
        else:
            order = self.reward.argsort(dim=1, descending=how == "better")
            before = log.exp().gather(1, order).cumsum(1) < 0.5
            kept = torch.zeros_like(before).scatter_(1, order, before)
        return log.masked_fill(~kept, -np.inf).log_softmax(1)

    def _read(self, count: int, draw: np.random.Generator) -> Batch:
        """Returns `count` pairs of the data set, all different."""
        assert self.data_set is not None  # __init__ drew it, as the needs are offline
        places, numbers = self.data_set
        if count > len(places):
            raise PairBenchError(
                f"{self.task.name} has {len(places)} offline pairs, fewer than the {count} an "
                "iteration asks for: lower contexts"
            )
        index = torch.from_numpy(draw.choice(len(places), count, replace=False))
        where = places[index].repeat_interleave(2)
        responses = self.space.responses[numbers[index].view(-1)]
        batch = self._batch(where, responses, self._now(where, responses), 2, -1)
        return replace(batch, pairs=torch.arange(2 * count).view(count, 2))

    # what is reported

    def evaluate(self, final: bool) -> Evaluation:
        """Exact, per context: J as a share of the mean J of the best policy."""
        log, base = self.policy.enumerate(), self.reference.log
        self.cost.evaluation_steps += log.numel() * self.space.length
        probability = log.exp()
        reward = (probability * self.reward).sum(1)
        moved = (probability * (log - base)).sum(1)
        objective, best = reward - self.config.beta * moved, self.value.mean()
        return Evaluation(
            scores={SHARE: (objective / best).tolist()},
            measures={
                "reward": float(reward.mean()),
                "kl_ref": float(moved.mean()),
                "objective": float(objective.mean()),
                "optimum": float(best),
                "entropy": float(-(probability * log).sum(1).mean()),
            },
        )

    def known_policy(self, method: Floor) -> Table | None:
        if method.policy == "optimum":
            return self.optimum
        if method.policy == "best-of-n":
            return best_of(self.reference, self.reward, method.config.group_size)
        return None

    def state(self) -> dict[str, Any]:
        """Nothing: all that changes is in the run's streams, which the training loop keeps."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""
