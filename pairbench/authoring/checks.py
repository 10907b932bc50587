"""The contract of an algorithm, as tests that anyone can import: no test framework is needed.

`check(MyMethod)` puts a class through synthetic batches of every structure its presets meet
(ragged responses of five steps with and without exact divergences, single steps of an enumerable
policy; groups, pairs, steps or offline pairs, as its `needs` say) and through three short runs on
`preference-bandit`. What it finds is a list of `Finding`, one for each of `NAMES`.

The synthetic policy is a table: one row of logits for every state, so that a gradient's rows say
which steps it reached. A batch holds only what the algorithm's `needs` ask for, and minibatches
hold what the trainer leaves in them: relying on more fails here rather than in a long run.
"""

from __future__ import annotations

import inspect
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, get_args, get_type_hints

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
from pairbench.batch import Batch, Signal, minibatches
from pairbench.errors import PairBenchError
from pairbench.policy import PolicyOutput
from pairbench.seeding import generator
from pairbench.space import check_space
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

STANDARD_ERRORS, LEAST_GAP = 3.0, 0.1
"""By which the runs on the bandit must beat the floor rows: standard errors, and reward.

Seeds differ so little there that the errors alone would let a method pass that hardly moves.
"""


DRAWS = 20
"""Settings drawn from each search space."""


MASKED = (
    "old_logp",
    "ref_logp",
    "step_reward",
    "value",
    "next_value",
    "old_dist",
    "ref_dist",
)
"""Fields of a batch that mean nothing where its mask is 0."""


class Finding(NamedTuple):
    """What one check says of an algorithm.

    Attributes:
        name: of the check, one of `NAMES`.
        passed: whether the algorithm keeps it; None where it does not apply.
        sentence: what was seen, or why it does not apply.
    """

    name: str
    passed: bool | None
    sentence: str


class Broken(Exception):
    """A check's own way to say what is wrong."""


class DoesNotApply(Exception):
    """A check's own way to say why it says nothing."""


# A policy and batches to try a loss on


class Table:
    """A softmax policy over `WORDS` with a row of logits for each state in `Batch.contexts`."""

    density = False

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


def _as_trained(
    situation: Situation, algorithm: Algorithm, batch: Batch, progress: float, iteration: int
) -> tuple[Batch, Signal]:
    """What the trainer would hand to a loss: the signal, and the batch without what it used up."""
    batch, signal = algorithm.study(batch, progress, iteration)
    return as_trained(situation.needs, situation.stepwise, batch, signal)


def _look(
    situation: Situation,
    batch: Batch,
    table: Table,
    algorithm: Algorithm | None = None,
    progress: float = 0.25,
    iteration: int = 3,
) -> Seen:
    """Returns the loss of a whole batch with its gradient."""
    algorithm = algorithm or situation.fresh()
    lean, signal = _as_trained(situation, algorithm, batch, progress, iteration)
    return _slope(algorithm.loss(table.view(lean), lean, signal), table)


def _slope(loss: Loss, table: Table) -> Seen:
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


def _finite(seen: Seen) -> None:
    if not bool(torch.isfinite(seen.loss.value)):
        raise Broken(f"the loss is {float(seen.loss.value)}")
    for gradient, of in zip(seen.gradients, ("policy", "critic"), strict=False):
        if not bool(torch.isfinite(gradient).all()):
            raise Broken(f"the gradient of the {of} is not finite")


def _same_bits(a: Seen, b: Seen, when: str) -> None:
    if not torch.equal(a.loss.value, b.loss.value):
        ours, theirs = a.loss.value.item(), b.loss.value.item()
        raise Broken(f"the loss changes from {ours!r} to {theirs!r} {when}")
    if not all(torch.equal(x, y) for x, y in zip(a.gradients, b.gradients, strict=True)):
        raise Broken(f"the gradient changes {when}")


def _near(a: Seen, b: Seen, tolerance: float, when: str) -> None:
    ours, theirs = float(a.loss.value), float(b.loss.value)
    if not abs(ours - theirs) <= tolerance * max(1.0, abs(ours)):
        raise Broken(f"the loss changes from {ours:.9g} to {theirs:.9g} {when}")
    for x, y in zip(a.gradients, b.gradients, strict=True):
        gap, scale = (x.double() - y.double()).abs().max(), x.double().abs().max()
        if not float(gap) <= tolerance * max(1e-6, float(scale)):
            raise Broken(f"the gradient changes by {float(gap):.3g} of {float(scale):.3g} {when}")


# The checks. Each takes a Subject and returns a sentence, or raises Broken or DoesNotApply.


class Subject:
    """An algorithm under test, and what several checks share."""

    def __init__(self, algorithm: type[Method], settings: Mapping[str, Any]) -> None:
        self.algorithm, self.settings = algorithm, dict(settings)

    @cached_property
    def situations(self) -> list[Situation]:
        """The default settings on every structure, then each preset on its own."""
        cls = self.algorithm
        if issubclass(cls, Floor):
            raise DoesNotApply(f"{_name(cls)} is a floor row: it does not learn and has no loss")
        if not issubclass(cls, Algorithm):
            raise DoesNotApply(f"{_name(cls)} brings its own trainer and has no loss here")
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
                raise DoesNotApply(f"{_name(cls)} says that it needs no data, and so has no loss")
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
                raise Broken(f"with {situation.label}, it raises {_words(error)}") from error
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
            raise DoesNotApply(f"{_name(cls)} is a floor row: the bandit is no test of it")
        if cls.kinds is not None and task.kind not in cls.kinds:
            raise DoesNotApply(f"{_name(cls)} runs on {' and '.join(cls.kinds)} tasks only")
        settings = {**cls.presets.get(task.kind, {}), **self.settings}
        reason = task(task.Config()).skip(cls(cls.Config(**settings)))
        if reason is not None:
            raise DoesNotApply(reason)
        limits = {"steps": BANDIT_STEPS, "seconds": BANDIT_SECONDS}
        budget = Budget.model_validate(limits)

        def reward(of: type[Method], settings: Mapping[str, Any], seed: int) -> tuple[float, float]:
            spec = RunSpec(
                algorithm=_name(of),
                algorithm_config=of.Config(**settings).model_dump(mode="json"),
                task="preference-bandit",
                task_version=task.version,
                task_config=task.Config().model_dump(mode="json"),
                protocol=Protocol(budget=budget, evaluations=1, probes=0, engine="pairbench"),
                seed=seed,
                row=_name(of),
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


def _name(cls: type[Method]) -> str:
    return getattr(cls, "name", cls.__name__)


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {text}' if text else ''}"


def documents(subject: Subject) -> str:
    """It has a name, a docstring of its own and a source."""
    cls = subject.algorithm
    if not getattr(cls, "name", ""):
        raise Broken("the class has no name: decorate it with @register_algorithm('...')")
    if not (cls.__dict__.get("__doc__") or "").strip():
        raise Broken("the class has no docstring: say in a line what the method is")
    if not getattr(cls, "source", "").strip():
        raise Broken("the class has no source: name the paper and the equation, or the library")
    if "Config" in vars(cls):
        bare = [
            name
            for name, field in cls.Config.model_fields.items()
            if not field.description and name not in AlgorithmConfig.model_fields
        ]
        if bare:
            raise Broken(f"settings without a description: {', '.join(bare)}")
    return f"{cls.name}: {inspect.cleandoc(cls.__doc__ or '').splitlines()[0]}"


def settings(subject: Subject) -> str:
    """Defaults and presets are valid, survive JSON, and what they need can be had.

    So is whatever a search draws from the space around each preset.
    """
    cls = subject.algorithm
    hints = get_type_hints(Needs)
    configs = [("default settings", cls.Config(**subject.settings))]
    for name, preset in cls.presets.items():
        merged = {**cls.presets.get(name.partition("@")[0], {}), **preset, **subject.settings}
        configs.append((f"the {name} preset", cls.Config(**merged)))
    for label, config in configs:
        if not isinstance(config, AlgorithmConfig):
            raise Broken("its Config is no pairbench.algorithm.AlgorithmConfig")
        back = cls.Config(**json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False)))
        if back != config:
            raise Broken(f"with {label}, the settings are others after a way through JSON")
        try:
            cls.Config(**{**config.model_dump(), "no_such_setting": 1})
        except ValueError:
            pass
        else:
            raise Broken("its Config takes settings that it does not have: forbid extra ones")
        needs = cls(config).needs
        for name in ("data", "feedback", "queries"):
            allowed = get_args(hints[name])
            if getattr(needs, name) not in allowed:
                raise Broken(
                    f"with {label}, needs.{name} is {getattr(needs, name)!r}, none of "
                    f"{', '.join(allowed)}"
                )
        asks = needs.feedback == "comparisons" or needs.data in ("pairs", "groups+pairs")
        if asks and not needs.offline and needs.queries == "none":
            raise Broken(f"with {label}, it needs pairs but says by no queries which to compare")
        if needs.offline and needs.data not in ("pairs", "groups+pairs"):
            raise Broken(f"with {label}, it needs offline {needs.data}: only pairs can be offline")
        if needs.components and needs.feedback != "scores":
            raise Broken(f"with {label}, it needs components of {needs.feedback}: say scores")
    searched = sum(_searches(cls, name) for name in cls.presets)
    drawn = f"; {DRAWS} draws from the spaces of {searched} are valid" if searched else ""
    return f"defaults and {len(configs) - 1} presets are valid, and the same after JSON{drawn}"


def _searches(cls: type[Method], preset: str) -> bool:
    """Looks at the search space around a preset; returns whether there is one."""
    kind, _, variant = preset.partition("@")
    space = cls.space(kind, variant)
    settings = {**cls.presets.get(kind, {}), **cls.presets[preset]}
    try:
        check_space(cls, space, cls.Config(**settings).model_dump(mode="json"))
    except PairBenchError as error:
        raise Broken(f"with the {preset} preset, {error}") from error
    draw = generator(0, "contract:space")
    for _ in range(DRAWS):
        drawn = {key: values.draw(draw) for key, values in space.items()}
        try:
            cls.Config(**{**settings, **drawn})
        except ValueError as error:
            raise Broken(f"the space of {preset} gives {drawn}: {_words(error)}") from error
    return bool(space)


def signal(subject: Subject) -> str:
    """`prepare` gives tensors by name, one row per response, without a gradient."""

    def look(situation: Situation) -> None:
        batch, _ = situation.world()
        algorithm = situation.fresh()
        with torch.no_grad():
            batch = algorithm.select(batch)
            if not isinstance(batch, Batch):
                raise Broken("select() must return a Batch")
            found = algorithm.prepare(batch.check(), 0.25, 3)
        if not isinstance(found, Mapping):
            raise Broken("prepare() must return a mapping of names to tensors")
        for name, tensor in found.items():
            if not isinstance(tensor, Tensor):
                raise Broken(f"prepare()'s {name!r} is a {type(tensor).__name__}, no tensor")
            if tensor.ndim == 0 or len(tensor) != len(batch):
                raise Broken(
                    f"prepare()'s {name!r} has shape {tuple(tensor.shape)}: its first axis must be "
                    f"the batch's {len(batch)} rows"
                )
            if situation.needs.data == "steps" and tensor.shape[:2] != batch.mask.shape:
                raise Broken(
                    f"prepare()'s {name!r} has shape {tuple(tensor.shape)}: a method that needs "
                    f"steps is trained on single ones, so it must be {tuple(batch.mask.shape)}"
                )
            if tensor.requires_grad:
                raise Broken(f"prepare()'s {name!r} carries a gradient")

    return subject.everywhere(look, "tensors with a row per response")


def gradient(subject: Subject) -> str:
    """The loss is a finite scalar whose gradient reaches the policy at real steps."""

    def look(situation: Situation) -> None:
        for moved in (0.0, 0.2):
            batch, table = situation.world(moved=moved)
            for progress, iteration in ((0.0, 0), (0.25, 3), (0.99, 100_000)):
                seen = _look(situation, batch, table, None, progress, iteration)
                _finite(seen)
                for name, value in seen.loss.diagnostics.items():
                    if not isinstance(value, Tensor) or value.ndim or value.requires_grad:
                        raise Broken(f"diagnostic {name!r} must be a detached scalar tensor")
                if iteration == 3 and not bool(seen.gradients[0].any()):
                    raise Broken("no step of the policy gets a gradient")
                if iteration == 3 and len(seen.gradients) > 1 and not bool(seen.gradients[1].any()):
                    raise Broken("it needs a critic, but the loss has no gradient in its values")

    return subject.everywhere(look, "finite, and its gradient reaches the policy")


def padding(subject: Subject) -> str:
    """What stands at masked steps changes no bit, and gets no gradient."""

    def look(situation: Situation) -> bool | None:
        if situation.steps == 1:
            return False
        batch, table = situation.world()
        draw = generator(1, "contract:padding")
        other, idle = _padded(batch, draw)
        if batch.offline is not None:
            beside, more = _padded(batch.offline, draw)
            other, idle = replace(other, offline=beside), torch.cat([idle, more])
        logits = table.logits.detach().clone()
        logits[idle] += torch.from_numpy(3.0 * draw.normal(size=(len(idle), WORDS)))
        values = None if table.values is None else table.values.detach().clone()
        if values is not None:
            values[idle] += 3.0
        moved = Table(logits, values, table.exact, table.stepwise)
        before, after = _look(situation, batch, table), _look(situation, other.check(), moved)
        for leaf in before.gradients:
            if bool(leaf[idle].any()):
                raise Broken("masked steps get a gradient")
        _same_bits(before, after, "when only what stands at masked steps changes")
        return None

    return subject.everywhere(look, "what stands at masked steps changes no bit")


def _padded(batch: Batch, draw: np.random.Generator) -> tuple[Batch, Tensor]:
    """Returns a batch with other values at its masked steps, and the states that stand there."""
    unreal = batch.mask == 0

    def noise(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        extra = torch.from_numpy(3.0 * draw.normal(size=tuple(tensor.shape)))
        where = unreal if tensor.ndim == 2 else unreal.unsqueeze(2)
        return torch.where(where, tensor + extra.to(tensor.dtype), tensor)

    changed: dict[str, Any] = {name: noise(getattr(batch, name)) for name in MASKED}
    changed["responses"] = torch.where(unreal, (batch.responses + 3) % WORDS, batch.responses)
    return replace(batch, **changed), batch.contexts[unreal]


def _shuffled(subject: Subject, members: bool) -> str:
    what = "responses of each group" if members else "groups"

    def look(situation: Situation) -> bool | None:
        batch, table = situation.world()
        size = batch.group_size
        if members and size == 1:
            return False
        if members and situation.algorithm.ordered:
            name = _name(situation.algorithm)
            raise DoesNotApply(f"{name} says that the order of a group's responses is part of it")
        draw = generator(2, "contract:order")
        order = draw.permutation(batch.n_groups) if not members else np.arange(batch.n_groups)
        rows = order[:, None] * size + np.arange(size)
        if members:
            rows = draw.permuted(rows, axis=1)
        other = batch.select(torch.from_numpy(rows.reshape(-1)))
        before, after = _look(situation, batch, table), _look(situation, other, table)
        _near(before, after, 1e-9, f"when the {what} are in another order")
        return None

    return subject.everywhere(look, f"the same with the {what} in another order")


def repeat(subject: Subject) -> str:
    """The same call gives the same bits, from the same instance and from a new one."""

    def look(situation: Situation) -> None:
        batch, table = situation.world()
        algorithm = situation.fresh()
        first = _look(situation, batch, table, algorithm)
        _same_bits(first, _look(situation, batch, table, algorithm), "when it is called again")
        _same_bits(first, _look(situation, batch, table), "in a new instance")

    return subject.everywhere(look, "the same bits from the same call")


def random_state(subject: Subject) -> str:
    """It draws from no global random generator and seeds none."""

    def look(situation: Situation) -> None:
        batch, table = situation.world()
        with _known_state() as changed:
            _look(situation, batch, table)
            if names := changed():
                raise Broken(f"it draws from, or seeds, the global generator of {names}")

    return subject.everywhere(look, "the generators of torch, numpy and random are left alone")


@contextmanager
def _known_state() -> Iterator[Callable[[], str]]:
    """Puts the global generators into a known state; yields what asks whose has changed."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 (looked at)
    torch.manual_seed(7_919)
    np.random.seed(7_919)  # noqa: NPY002 (put back below)
    random.seed(7_919)

    def state() -> dict[str, str]:
        _, keys, *rest = np.random.get_state()  # noqa: NPY002 (looked at)
        return {
            "torch": torch.get_rng_state().numpy().tobytes().hex(),
            "numpy": f"{np.asarray(keys).tobytes().hex()} {rest}",
            "random": repr(random.getstate()),
        }

    before = state()
    try:
        yield lambda: " and ".join(name for name, text in state().items() if text != before[name])
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002 (put back)
        random.setstate(kept[2])


def mutation(subject: Subject) -> str:
    """Neither the batch nor the signal is written to."""

    def look(situation: Situation) -> None:
        batch, table = situation.world()
        algorithm = situation.fresh()
        before = _copies(batch, {})
        with torch.no_grad():
            algorithm.prepare(algorithm.select(batch), 0.25, 3)
        _unchanged(before, _copies(batch, {}), "prepare()")
        lean, found = _as_trained(situation, algorithm, batch, 0.25, 3)
        before = _copies(lean, found)
        loss = algorithm.loss(table.view(lean), lean, found)
        _unchanged(before, _copies(lean, found), "loss()")
        _slope(loss, table)
        _unchanged(before, _copies(lean, found), "the loss's backward()")

    return subject.everywhere(look, "batch and signal are as they were")


def _copies(batch: Batch, found: Signal) -> dict[str, Tensor]:
    named = {
        f"batch.{name}": tensor
        for name, tensor in vars(batch).items()
        if isinstance(tensor, Tensor)
    }
    if batch.offline is not None:
        named |= {f"offline {name}": tensor for name, tensor in _copies(batch.offline, {}).items()}
    named |= {f"signal[{name!r}]": tensor for name, tensor in found.items()}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def _unchanged(before: Mapping[str, Tensor], after: Mapping[str, Tensor], who: str) -> None:
    for name, tensor in before.items():
        if not torch.equal(tensor, after[name]):
            raise Broken(f"{who} writes to {name}")


def precision(subject: Subject) -> str:
    """float32 gives what float64 gives, in float32."""

    def look(situation: Situation) -> None:
        seen = {}
        for dtype in (torch.float64, torch.float32):
            seen[dtype] = _look(situation, *situation.world(dtype=dtype))
            if (got := seen[dtype].loss.value.dtype) != dtype:
                raise Broken(f"the loss of a batch of {_short(dtype)} is {_short(got)}")
        _near(seen[torch.float64], seen[torch.float32], 1e-3, "from float64 to float32")

    return subject.everywhere(look, "float32 agrees with float64 within a thousandth")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def ties(subject: Subject) -> str:
    """An oracle without a preference gives a finite loss that can still be differentiated."""

    def look(situation: Situation) -> None:
        for dtype in (torch.float64, torch.float32):
            for moved in (0.0, 0.2):
                _finite(_look(situation, *situation.world(dtype=dtype, moved=moved, tied=True)))

    return subject.everywhere(look, "finite where the oracle has no preference")


def extremes(subject: Subject) -> str:
    """Policies that disagree by `EXTREME` nats a step give a finite loss and gradient."""

    def look(situation: Situation) -> None:
        _finite(_look(situation, *situation.world(dtype=torch.float32, extreme=True)))

    return subject.everywhere(
        look, f"finite at log-ratios of up to {EXTREME:g} nats a step, {EXTREME_RESPONSE:g} in all"
    )


def minibatch(subject: Subject) -> str:
    """The loss works on minibatches of whole groups, down to a single group."""

    def look(situation: Situation) -> None:
        for tied in (False, True):
            batch, table = situation.world(dtype=torch.float32, tied=tied)
            algorithm = situation.fresh()
            lean, found = _as_trained(situation, algorithm, batch, 0.25, 3)
            for count in (2, lean.n_groups):
                stream = generator(3, "contract:minibatch")
                for part, rows in minibatches(lean, found, count, stream):
                    _finite(_slope(algorithm.loss(table.view(part), part, rows), table))

    return subject.everywhere(look, "finite on every minibatch, down to a single group")


def bandit(subject: Subject) -> str:
    """Runs on `preference-bandit` in seconds and ends above the `random` row."""
    return _beats(subject, "random")


def learning(subject: Subject) -> str:
    """Ends above the policy that it began with: doing nothing is above random there."""
    return _beats(subject, "reference")


def _beats(subject: Subject, floor: str) -> str:
    rewards, floors, seconds = subject.bandit
    mean, error = float(np.mean(rewards)), float(np.std(rewards, ddof=1)) / math.sqrt(len(rewards))
    gap = mean - floors[floor]
    said = (
        f"{len(rewards)} runs on preference-bandit end at {mean:.3f} (standard error {error:.3f}), "
        f"the {floor} row at {floors[floor]:.3f}"
    )
    if not (gap > STANDARD_ERRORS * error and gap > LEAST_GAP):
        raise Broken(f"{said}: not {STANDARD_ERRORS:g} standard errors and {LEAST_GAP:g} above it")
    return f"{said}; {seconds:.0f} s"


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "documents": documents,
    "settings": settings,
    "signal": signal,
    "gradient": gradient,
    "padding": padding,
    "group-order": partial(_shuffled, members=False),
    "member-order": partial(_shuffled, members=True),
    "repeat": repeat,
    "random-state": random_state,
    "mutation": mutation,
    "precision": precision,
    "ties": ties,
    "extremes": extremes,
    "minibatch": minibatch,
    "bandit": bandit,
    "learning": learning,
}

NAMES = tuple(CHECKS)
"""The checks, in the order in which they are made."""


def check(
    algorithm: type[Method],
    *,
    only: Sequence[str] = NAMES,
    settings: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Returns what each check says of an algorithm class, registered or not.

    Args:
        algorithm: the class.
        only: names of the checks to make.
        settings: replace defaults and presets alike, to check a row that is not the default.

    Raises:
        PairBenchError: `only` names no check.
    """
    for name in only:
        if name not in CHECKS:
            raise PairBenchError(f"there is no check {name!r}; known are {', '.join(NAMES)}")
    subject = Subject(algorithm, settings or {})
    return [_finding(subject, name) for name in NAMES if name in only]


def _finding(subject: Subject, name: str) -> Finding:
    try:
        return Finding(name, True, CHECKS[name](subject))
    except Broken as error:
        return Finding(name, False, str(error))
    except DoesNotApply as error:
        return Finding(name, None, str(error))
    except Exception as error:  # noqa: BLE001 (whatever a class under test raises is a finding)
        return Finding(name, False, f"it raises {_words(error)}")
