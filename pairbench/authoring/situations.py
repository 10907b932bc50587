"""What an algorithm is looked at in: synthetic batches, a policy whose gradient can be read, runs.

The synthetic policy is a table: one row of logits for every state, so that a gradient's rows say
which steps it reached. A batch holds only what the algorithm's `needs` ask for, and minibatches
hold what the trainer leaves in them: relying on more fails here rather than in a long run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pairbench.algorithm import (
    Algorithm,
    AlgorithmConfig,
    Floor,
    Loss,
    Method,
    Needs,
)
from pairbench.batch import Batch, Signal
from pairbench.policy import PolicyOutput
from pairbench.seeding import generator
from pairbench.training.steps import as_trained

GROUPS = 6
"""Groups of a synthetic batch; four times as many where a response stands alone."""

STEPS = 5
"""Steps of the longest response of a synthetic batch that is not tabular."""

WORDS = 7
"""Responses (or tokens) the synthetic policy chooses from at each step."""

EXTREME, EXTREME_RESPONSE = 20.0, 80.0
"""Largest log-ratio of a step, and of a whole response, at which a loss must be finite, nats."""

BANDIT_STEPS, BANDIT_SEEDS, BANDIT_SECONDS = 10_000, 3, 60.0
"""Arms pulled by each run on the bandit, the number of runs, and what a run may last at most."""


class Broken(Exception):
    """A check's own way to say what is wrong."""


class DoesNotApply(Exception):
    """A check's own way to say why it says nothing."""


class Table:
    """A softmax policy over `WORDS` with a row of logits for each state in `Batch.contexts`."""

    def __init__(self, logits: Tensor, values: Tensor | None, exact: bool, stepwise: bool) -> None:
        """Takes the logits (S, K) and the critic's values (S,) as leaves.

        `exact` says whether divergences are given in closed form.
        """
        self.logits = logits.detach().clone().requires_grad_()
        self.values = None if values is None else values.detach().clone().requires_grad_()
        self.exact, self.stepwise = exact, stepwise

    def __call__(self, batch: Batch) -> PolicyOutput:
        every = self.logits.log_softmax(1)[batch.contexts]
        logp = every.gather(2, batch.responses.unsqueeze(2)).squeeze(2)
        old, reference = batch.old_dist, batch.ref_dist
        return PolicyOutput(
            logp,
            None if self.values is None else self.values[batch.contexts],
            entropy=lambda: -(every.exp() * every).sum(2),
            kl_old=partial(_divergence, every, old) if self.exact and old is not None else None,
            kl_ref=partial(_divergence, every, reference)
            if self.exact and reference is not None
            else None,
            all_logp=every[:, 0] if batch.steps == 1 else None,
        )

    def view(self, batch: Batch) -> PolicyOutput:
        """Returns what it makes of a batch, and of the offline pairs beside it if it has any."""
        output = self(batch)
        if batch.offline is not None:
            output.offline = self(batch.offline)
        return output

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that a loss may have a gradient in."""
        return [self.logits] if self.values is None else [self.logits, self.values]


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(2)


@dataclass(frozen=True)
class Situation:
    """One configuration of an algorithm on one structure of batches.

    Attributes:
        label: which, for people.
        algorithm: the class.
        config: its settings.
        kind: "control" (ragged, exact divergences, each step on its own), "language" (ragged, no
            exact divergences, two domains) or "tabular" (one step, all responses enumerable).
        unit: whether scores are in [0, 1], as rewards that can be verified are; else any numbers.
    """

    label: str
    algorithm: type[Algorithm]
    config: AlgorithmConfig
    kind: str
    unit: bool = False

    def fresh(self) -> Algorithm:
        """Returns a new instance."""
        return self.algorithm(self.config)

    @property
    def needs(self) -> Needs:
        return self.fresh().needs

    @property
    def steps(self) -> int:
        return 1 if self.kind == "tabular" else STEPS

    @property
    def stepwise(self) -> bool:
        """Whether the policy's output at a step depends on that step alone."""
        return self.kind != "language"

    def world(
        self,
        *,
        dtype: torch.dtype = torch.float64,
        moved: float = 0.2,
        tied: bool = False,
        extreme: bool = False,
    ) -> tuple[Batch, Table]:
        """Returns a batch and the policy that looks at it, the same at every call.

        Args:
            dtype: of every floating tensor.
            moved: how far the policy is from the sampler, in standard deviations of its logits.
            tied: the oracle has no preference: equal scores, no pairs, no rewards.
            extreme: policy, sampler and reference disagree by up to `EXTREME` nats a step.
        """
        needs = self.needs
        draw = generator(0, f"contract:{self.kind}")
        both = needs.offline and needs.data == "groups+pairs"
        size = 2 if needs.data == "pairs" else self.config.group_size
        groups = GROUPS if size > 1 else 4 * GROUPS
        draft = _Draft(needs, self.kind, draw, dtype, moved, tied, extreme, self.unit)
        batch, logits, values = draft.batch(groups, size, self.steps, needs.offline and not both)
        if both:
            longer = self.steps if self.kind == "tabular" else self.steps + 1
            offline, more, _ = draft.batch(groups, 2, longer, True, len(logits))
            batch = replace(batch, offline=offline)
            logits = torch.cat([logits, more])
        exact = self.kind != "language"
        return batch.check(), Table(logits, values, exact=exact, stepwise=self.stepwise)


@dataclass(frozen=True)
class _Draft:
    """What the batches of one world have in common; see `Situation.world`."""

    needs: Needs
    kind: str
    draw: np.random.Generator
    dtype: torch.dtype
    moved: float
    tied: bool
    extreme: bool
    unit: bool

    def batch(
        self, groups: int, size: int, T: int, offline: bool, first: int = 0
    ) -> tuple[Batch, Tensor, Tensor | None]:
        """Returns a batch whose states are numbered from `first`, their logits and values."""
        needs, draw = self.needs, self.draw
        B = groups * size
        lengths = draw.integers(1, T + 1, size=B)
        lengths[0], lengths[-1] = T, 1
        mask = (np.arange(T) < lengths[:, None]).astype(np.float64)
        where = np.arange(B * T).reshape(B, T)
        if self.kind == "tabular":
            where = np.repeat(np.arange(groups), size)[:, None]
        states = int(where.max()) + 1
        sampler = draw.normal(size=(states, WORDS))
        now = sampler + self.moved * draw.normal(size=sampler.shape)
        reference = sampler + 0.3 * draw.normal(size=sampler.shape)
        responses = (sampler[where] + draw.gumbel(size=(B, T, WORDS))).argmax(2)
        if self.extreme:
            height = min(EXTREME, EXTREME_RESPONSE / T)
            now, sampler, reference = (
                height * draw.integers(0, 2, size=sampler.shape).astype(np.float64)
                for _ in range(3)
            )
            responses = draw.integers(0, WORDS, size=(B, T))
        old, ref = _log_softmax(sampler)[where], _log_softmax(reference)[where]
        spread = 0.0 if self.tied and not offline else 1.0
        parts = draw.random((B, 2)) if self.unit else draw.normal(size=(B, 2))
        parts = 0.1 * (1.0 - spread) + spread * parts
        utility = parts.mean(1)
        value = spread * draw.normal(size=states)
        reward = spread * draw.normal(size=(B, T)) * mask
        estimate = value[where] * mask
        last = np.arange(T) >= lengths[:, None] - 1
        after = np.where(last, 0.0, np.roll(estimate, -1, axis=1))
        shares = draw.choice([0.25, 0.75], size=groups).repeat(size)
        compares = needs.data in ("pairs", "groups+pairs") or needs.feedback == "comparisons"
        pairs = None
        if offline or (compares and not needs.offline):
            pairs = _pairs(utility, size, needs, self.tied and not offline, draw)

        def real(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(self.dtype)

        def said(array: np.ndarray) -> Tensor:
            chosen = np.take_along_axis(array, responses[:, :, None], 2)[:, :, 0]
            return real(chosen * mask)

        learns = needs.data == "steps"
        scores = needs.feedback == "scores" and not offline
        exact = self.kind != "language"
        batch = Batch(
            contexts=torch.from_numpy(where + first),
            responses=torch.from_numpy(responses),
            mask=real(mask),
            old_logp=said(old),
            group=torch.arange(groups).repeat_interleave(size),
            ref_logp=said(ref) if needs.reference else None,
            score=real(utility) if scores and not needs.components else None,
            components=real(parts) if scores and needs.components else None,
            domain_share=None if exact or offline else real(shares),
            step_reward=real(reward) if learns else None,
            value=real(estimate) if needs.critic else None,
            next_value=real(after) if learns and needs.critic else None,
            boundary=real(last.astype(np.float64)) if learns else None,
            pairs=pairs,
            old_dist=real(old) if exact else None,
            ref_dist=real(ref) if exact and needs.reference else None,
            sampler=-1 if offline else 3,
        )
        return batch, real(now), real(value) if needs.critic else None


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).log_softmax(1).numpy()


def _pairs(
    utility: np.ndarray, size: int, needs: Needs, tied: bool, draw: np.random.Generator
) -> Tensor:
    """The pairs (preferred, rejected) that an oracle of these utilities gives."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, 0 if tied else len(utility), size):
        rows = list(range(start, start + size))
        if needs.data == "pairs" or needs.offline or needs.queries == "best-worst":
            order = sorted(rows, key=lambda row: float(utility[row]))
            pairs.append((order[-1], order[0]))
            continue
        asked = [(i, j) for i in rows for j in rows if i < j]
        if needs.queries == "disjoint-pairs":
            shuffled = draw.permutation(rows).tolist()
            asked = list(zip(shuffled[::2], shuffled[1::2], strict=False))
        pairs += [(i, j) if utility[i] > utility[j] else (j, i) for i, j in asked]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


class Seen(NamedTuple):
    """A loss and its gradient in the policy's logits and, with a critic, in its values."""

    loss: Loss
    gradients: list[Tensor]


def studied(
    situation: Situation, algorithm: Algorithm, batch: Batch, progress: float, iteration: int
) -> tuple[Batch, Signal]:
    """What the trainer would hand to a loss: the signal, and the batch without what it used up."""
    batch, signal = algorithm.study(batch, progress, iteration)
    return as_trained(situation.needs, situation.stepwise, batch, signal)


def look_at(
    situation: Situation,
    batch: Batch,
    table: Table,
    algorithm: Algorithm | None = None,
    progress: float = 0.25,
    iteration: int = 3,
) -> Seen:
    """Returns the loss of a whole batch with its gradient."""
    algorithm = algorithm or situation.fresh()
    lean, signal = studied(situation, algorithm, batch, progress, iteration)
    return slope(algorithm.loss(table.view(lean), lean, signal), table)


def slope(loss: Loss, table: Table) -> Seen:
    """Returns a loss with its gradient; `Broken` if it is no scalar or has none."""
    if not isinstance(loss, Loss) or not isinstance(loss.value, Tensor):
        raise Broken("loss() must return a pairbench.algorithm.Loss with a tensor as its value")
    if loss.value.ndim:
        raise Broken(f"the loss has shape {tuple(loss.value.shape)} and must be a scalar")
    if not loss.value.requires_grad:
        raise Broken("the loss has no gradient: it was detached from the policy's output")
    found = torch.autograd.grad(loss.value, table.leaves, allow_unused=True)
    pairs = zip(found, table.leaves, strict=True)
    gradients = [torch.zeros_like(leaf) if g is None else g for g, leaf in pairs]
    return Seen(replace(loss, value=loss.value.detach()), gradients)


def finite(seen: Seen) -> None:
    """Raises `Broken` unless a loss and its gradient are finite."""
    if not bool(torch.isfinite(seen.loss.value)):
        raise Broken(f"the loss is {float(seen.loss.value)}")
    for gradient, of in zip(seen.gradients, ("policy", "critic"), strict=False):
        if not bool(torch.isfinite(gradient).all()):
            raise Broken(f"the gradient of the {of} is not finite")


def same_bits(a: Seen, b: Seen, when: str) -> None:
    """Raises `Broken` unless two losses and their gradients are the same bit for bit."""
    if not torch.equal(a.loss.value, b.loss.value):
        ours, theirs = a.loss.value.item(), b.loss.value.item()
        raise Broken(f"the loss changes from {ours!r} to {theirs!r} {when}")
    if not all(torch.equal(x, y) for x, y in zip(a.gradients, b.gradients, strict=True)):
        raise Broken(f"the gradient changes {when}")


def near(a: Seen, b: Seen, tolerance: float, when: str) -> None:
    """Raises `Broken` unless they agree within `tolerance`, relative to the first."""
    ours, theirs = float(a.loss.value), float(b.loss.value)
    if not abs(ours - theirs) <= tolerance * max(1.0, abs(ours)):
        raise Broken(f"the loss changes from {ours:.9g} to {theirs:.9g} {when}")
    for x, y in zip(a.gradients, b.gradients, strict=True):
        gap, scale = (x.double() - y.double()).abs().max(), x.double().abs().max()
        if not float(gap) <= tolerance * max(1e-6, float(scale)):
            raise Broken(f"the gradient changes by {float(gap):.3g} of {float(scale):.3g} {when}")


class Subject:
    """An algorithm under test, and what several checks share."""

    def __init__(self, algorithm: type[Method], settings: Mapping[str, Any]) -> None:
        self.algorithm, self.settings = algorithm, dict(settings)

    @cached_property
    def situations(self) -> list[Situation]:
        """The default settings on every structure, then each preset on its own."""
        cls = self.algorithm
        if issubclass(cls, Floor):
            raise DoesNotApply(f"{name_of(cls)} is a floor row: it does not learn and has no loss")
        if not issubclass(cls, Algorithm):
            raise DoesNotApply(f"{name_of(cls)} brings its own trainer and has no loss here")
        kinds = cls.kinds or ("control", "language", "tabular")
        wanted: list[tuple[str, Mapping[str, Any], str, bool]] = [
            ("default settings and scores in [0, 1]", {}, kind, True) for kind in kinds
        ]
        for name, settings in cls.presets.items():
            kind = name.partition("@")[0]
            if kind in kinds:
                merged = {**cls.presets.get(kind, {}), **settings}
                wanted.append((f"the {name} preset", merged, kind, False))
        found: dict[tuple[str, str, bool], Situation] = {}
        for label, settings, kind, unit in wanted:
            config = cls.Config(**{**settings, **self.settings})
            needs = cls(config).needs
            if needs.data == "nothing":
                raise DoesNotApply(f"{name_of(cls)} says that it needs no data, and so has no loss")
            kind = "tabular" if needs.enumerable or kind not in _SHAPES else kind
            label = f"{label}, {_SHAPES[kind]}"
            situation = Situation(label, cls, config, kind, unit)
            found.setdefault((config.model_dump_json(), kind, unit), situation)
        return list(found.values())

    def everywhere(self, look: Callable[[Situation], bool | None], sentence: str) -> str:
        """Looks at every situation; `look` raises `Broken`, or returns False where it is moot."""
        count = 0
        for situation in self.situations:
            try:
                count += look(situation) is not False
            except DoesNotApply:
                raise
            except Broken as error:
                raise Broken(f"with {situation.label}, {error}") from error
            except Exception as error:
                raise Broken(f"with {situation.label}, it raises {words(error)}") from error
        if not count:
            raise DoesNotApply("no situation of this algorithm is of that kind")
        return f"{sentence} ({count} situation{'s' if count > 1 else ''})"

    @cached_property
    def bandit(self) -> tuple[list[float], dict[str, float], float]:
        """Final rewards of `BANDIT_SEEDS` runs on the bandit, those of the floor rows, seconds."""
        from pairbench.registry import get_algorithm, get_task
        from pairbench.results.record import Budget, Protocol, RunSpec
        from pairbench.training.train import train

        cls, task = self.algorithm, get_task("preference-bandit")
        if issubclass(cls, Floor):
            raise DoesNotApply(f"{name_of(cls)} is a floor row: the bandit is no test of it")
        if cls.kinds is not None and task.kind not in cls.kinds:
            raise DoesNotApply(f"{name_of(cls)} runs on {' and '.join(cls.kinds)} tasks only")
        settings = {**cls.presets.get(task.kind, {}), **self.settings}
        reason = task(task.Config()).refusal(cls(cls.Config(**settings)))
        if reason is not None:
            raise DoesNotApply(reason)
        limits = {"steps": BANDIT_STEPS, "seconds": BANDIT_SECONDS}
        budget = Budget.model_validate(limits)

        def reward(of: type[Method], settings: Mapping[str, Any], seed: int) -> tuple[float, float]:
            spec = RunSpec(
                algorithm=name_of(of),
                algorithm_config=of.Config(**settings).model_dump(mode="json"),
                task="preference-bandit",
                task_version=task.version,
                task_config=task.Config().model_dump(mode="json"),
                protocol=Protocol(budget=budget, evaluations=1, probes=0, engine="pairbench"),
                seed=seed,
                row=name_of(of),
            )
            record = train(spec, algorithm=of).record
            if record.evaluation is None:
                raise Broken(f"its run of seed {seed} on preference-bandit failed: {record.reason}")
            return record.evaluation.reward, record.cost.seconds

        runs = [reward(cls, settings, seed) for seed in range(BANDIT_SEEDS)]
        floors = {name: reward(get_algorithm(name), {}, 0)[0] for name in ("random", "reference")}
        return [run[0] for run in runs], floors, sum(run[1] for run in runs)


_SHAPES = {
    "control": f"segments of up to {STEPS} steps with exact divergences",
    "language": f"texts of up to {STEPS} tokens",
    "tabular": "single steps",
}


def name_of(cls: type[Method]) -> str:
    """Returns its registered name, or else that of the class."""
    return getattr(cls, "name", cls.__name__)


def words(error: BaseException) -> str:
    """Returns an error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}"
