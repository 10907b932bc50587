"""What an algorithm is: a configuration, what it needs, a signal per batch and a loss.

An algorithm never samples, never steps an optimiser, never scores itself and never touches a seed;
everything but the objective is the machine's, and so is the same for every row of a leaderboard.

`Method` is what all that can have a row share. There are three kinds: an `Algorithm` has a loss and
is trained by PairBench's loop, an `External` is a library's own trainer, and a `Floor` is a policy
that nobody trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from torch import Tensor

from pairbench.batch import Batch, Signal
from pairbench.errors import PairBenchError
from pairbench.policy import PolicyOutput
from pairbench.space import Choice, Range, Space, Spaces

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass

    from pairbench.training.run import Run
else:
    ModelMetaclass = type(BaseModel)

Queries = Literal["none", "all-pairs", "disjoint-pairs", "best-worst"]
Settings = Mapping[str, Any]
Presets = Mapping[str, Settings]


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of a task.

    Attributes:
        data: "groups" of G responses to one context; "steps", single responses with a reward per
            step; "pairs", a preferred and a rejected response; "groups+pairs", both: comparisons
            of a group's own members, or, if `offline`, one pair of the data set for each group, in
            `Batch.offline`; or "nothing" for floors, which do not learn.
        feedback: what the oracle is asked for: "scores" of responses, "comparisons" of pairs of
            them, "rewards" of steps, or "none". It decides which labels are counted.
        queries: which pairs of a group the oracle is asked to compare. Under "best-worst" all are
            compared and each group's `pairs` is the most winning against the least winning member.
        offline: whether the pairs come from the task's data set rather than the policy.
        critic: whether the policy carries a value estimate that the loss trains.
        reference: whether `Batch.ref_logp` (and `ref_dist` where it exists) is used.
        probabilities: whether log-probabilities must be of a discrete distribution, at most 0.
        enumerable: whether all K responses must be enumerable: `PolicyOutput.all_logp` (B, K),
            `Batch.old_dist` (B, 1, K) their log-probabilities under the sampler, and
            `Batch.responses` (B, 1) int64 which of them was drawn.
        components: whether the oracle scores several things of each response apart, under
            feedback "scores": `Batch.components` (B, R) then takes the place of `Batch.score`, and
            a response costs R labels.
        demonstrations: whether responses are drawn from the best policy there is rather than the
            learner's own, which tasks can give that know it (see `Task.floors`).
    """

    data: Literal["groups", "steps", "pairs", "groups+pairs", "nothing"]
    feedback: Literal["scores", "comparisons", "rewards", "none"]
    queries: Queries = "none"
    offline: bool = False
    critic: bool = False
    reference: bool = False
    probabilities: bool = False
    enumerable: bool = False
    components: bool = False
    demonstrations: bool = False

    def missing(self, batch: Batch) -> list[str]:
        """Returns the names of the fields of a batch that are asked for here and are None."""
        compared = self.data in ("pairs", "groups+pairs") or self.feedback == "comparisons"
        beside = self.offline and self.data == "groups+pairs"
        scored = self.feedback == "scores" and (beside or not self.offline)
        asked = {
            "score": scored and not self.components,
            "components": scored and self.components,
            "step_reward": self.data == "steps",
            "boundary": self.data == "steps",
            "value": self.critic,
            "next_value": self.critic and self.data == "steps",
            "pairs": compared and not beside,
            "ref_logp": self.reference,
            "old_dist": self.enumerable,
            "offline": beside,
        }
        names = [name for name, wanted in asked.items() if wanted and getattr(batch, name) is None]
        if beside and batch.offline is not None:
            pairs = replace(self, data="pairs", enumerable=False)
            names += [f"offline.{name}" for name in pairs.missing(batch.offline)]
        return names


@dataclass(frozen=True)
class Loss:
    """A loss to minimise, and detached scalars worth a curve (each a 0-dimensional tensor)."""

    value: Tensor
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


class Inheriting(ModelMetaclass):
    """Lets a class of settings change what it inherits by the new default alone: `lr = 1e-5`.

    Type, bounds, description and place stay those of the field that is inherited.
    """

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any
    ) -> type:
        inherited: dict[str, FieldInfo] = {}
        for base in reversed(bases):
            inherited |= getattr(base, "__pydantic_fields__", {})
        own = namespace.get("__annotations__", {})
        changed = {key: namespace.pop(key) for key in inherited if key in namespace.keys() - own}
        if changed:
            fields = {key: Annotated[inherited[key].annotation, inherited[key]] for key in changed}
            place = {key: namespace[key] for key in ("__module__", "__qualname__")}
            between = {**place, "__annotations__": fields, **changed}
            bases = (super().__new__(mcs, name, bases, between, **keywords),)
        return super().__new__(mcs, name, bases, namespace, **keywords)


class AlgorithmConfig(BaseModel, metaclass=Inheriting):
    """Settings every algorithm has; its own class adds the symbols of its paper.

    A class derived from it changes an inherited default by naming it, as in `lr = 1e-5`.

    Sizes are per training iteration: the task collects `contexts` x `group_size` responses, then
    takes `epochs` passes of `minibatches` gradient steps over them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    contexts: int = Field(32, ge=1, description="contexts per iteration (chains, or prompts)")
    group_size: int = Field(1, ge=1, description="G, responses per context")
    segment: int = Field(
        1, ge=1, description="H, steps of a response where the task lets one choose"
    )
    epochs: int = Field(1, ge=1, description="passes over each iteration's responses")
    minibatches: int = Field(1, ge=1, description="gradient steps per pass")
    lr: float = Field(3e-4, gt=0, le=10, description="Adam learning rate of the policy")
    critic_lr: float = Field(
        1e-3, gt=0, le=10, description="Adam learning rate of the critic, if any"
    )
    max_grad_norm: float = Field(0.5, gt=0, description="gradient norm to clip at")
    log_std_floor: float | None = Field(
        None,
        ge=-20,
        le=0,
        description="least log-std of a Gaussian policy (-20: none); absent: the task's",
        exclude_if=lambda floor: floor is None,
    )


class GroupConfig(AlgorithmConfig):
    """Settings of a method that compares the responses of a group: two at least."""

    group_size: int = Field(8, ge=2, description="G, responses per context, at least 2")


class Method(ABC):
    """Whatever can have a row on a leaderboard, before it is said how it comes by its policy.

    Class attributes:
        name: set by `register_algorithm`.
        source: paper and equation, or library and version.
        presets: settings by task kind ("control", "language", "tabular"), or by kind and variant
            ("control@critic-free", applied after the kind's), that replace `Config` defaults.
        spaces: what `pairbench tune` searches, a range or choice for each setting, by the same
            names and in the same order, after those of "any". A preset lies in its space.
        untuned: why there is no space, in a sentence; "" where there is one.
        kinds: the kinds of task it can run on, or None for any; a task may refuse it all the same.
        packages: distributions its numbers depend on, whose versions each record then holds.
        departures: where its presets depart from the paper whose name it bears, in a sentence; ""
            where they do not. Never inherited.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    presets: ClassVar[Presets] = {}
    spaces: ClassVar[Spaces] = {}
    untuned: ClassVar[str] = ""
    kinds: ClassVar[tuple[str, ...] | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    departures: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.departures = cls.__dict__.get("departures", "")

    class Config(AlgorithmConfig):
        """Overridden by each method."""

    def __init__(self, config: AlgorithmConfig) -> None:
        self.config = config

    @classmethod
    def space(cls, kind: str, variant: str = "") -> Space:
        """Returns what is searched on tasks of a kind, by name; nothing if they have no space.

        `variant` is that whose presets the task takes, if any.
        """
        found: dict[str, Range | Choice] = {}
        if kind in cls.spaces:
            for key in ("any", kind, f"{kind}@{variant}"):
                found |= cls.spaces.get(key, {})
        return dict(sorted(found.items()))

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What this method, as configured, asks of a task."""

    @property
    def regime(self) -> str:
        """The data regime shown on a board, in a few words."""
        needs = self.needs
        if needs.data == "nothing":
            return "no training"
        if needs.demonstrations:
            return "samples of the best policy"
        if needs.data == "steps":
            return "on-policy, step rewards"
        if needs.offline:
            groups = needs.data == "groups+pairs"
            fresh = f"on-policy groups, {needs.feedback}, and " if groups else ""
            return f"{fresh}offline pairs"
        if needs.data == "pairs":
            return "fresh on-policy pairs"
        several = "several " if needs.components else ""
        return f"on-policy groups, {several}{needs.feedback}"


class Algorithm(Method):
    """One method: the only thing that differs between two rows of a leaderboard.

    Class attributes:
        ordered: whether the order of a group's responses is part of the method (it should not be).
    """

    ordered: ClassVar[bool] = False

    def select(self, batch: Batch) -> Batch:
        """Returns the part of an iteration's batch that is trained on: all of it unless overridden.

        Called once per batch, before `prepare`, which is given what this returns. The cost of the
        rows left out has been counted, and the series of a run describe the whole batch.
        """
        return batch

    @abstractmethod
    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns what the loss needs beyond the batch; runs once per batch without gradients.

        Args:
            batch: the iteration's whole batch, or what `select` kept of it.
            progress: share of the run's budget already spent, in [0, 1).
            iteration: number of the training iteration, from 0.
        """

    @abstractmethod
    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the loss of a minibatch of whole groups; differentiable and pure.

        `batch` and `signal` are the rows of one minibatch, `output` is the policy's view of them.
        """

    def study(self, batch: Batch, progress: float, iteration: int) -> tuple[Batch, Signal]:
        """Returns what is trained on of a fresh batch, and its signal: `select`, then `prepare`.

        Whoever trains calls this, once per batch; the arguments are those of `prepare`. Pairs with
        a response of no real step are left out: nothing can be learned from them.

        Raises:
            PairBenchError: the batch lacks something that `needs` asks for, its groups are of
                another size than the configuration's, or what the oracle said is not finite.
        """
        needs, name = self.needs, getattr(self, "name", type(self).__name__)
        if missing := needs.missing(batch):
            raise PairBenchError(
                f"{name} needs a batch with {' and '.join(missing)}: "
                "have the task's collect() fill what an algorithm's needs ask for"
            )
        if needs.data in ("groups", "groups+pairs"):
            batch.check_groups(name, self.config.group_size)
        for said in ("score", "components", "step_reward"):
            numbers = getattr(batch, said)
            if numbers is not None and not bool(numbers.isfinite().all()):
                raise PairBenchError(
                    f"Batch.{said} has NaN or infinity: have the task score every response"
                )
        with torch.no_grad():
            batch = self.select(batch.without_idle_pairs())
            return batch, self.prepare(batch, progress, iteration)


class Floor(Method):
    """A policy that nobody trains, as a row: what a method must beat to have learnt anything.

    Class attributes:
        policy: which policy is evaluated: "reference" (the task's initial policy), "random"
            (`Task.random_policy`), or one of those that `Session.known_policy` gives.
    """

    policy: ClassVar[str]
    untuned = "it does not learn"

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return Needs("nothing", "none")


class External(Method):
    """A library's own trainer run as a row: it trains, PairBench evaluates as for any other row.

    It saves no checkpoint: a run that is killed starts again.

    Class attributes:
        limit: the limit of the budget (a field of `Budget`) that its trainer cannot do without.
    """

    limit: ClassVar[str] = "steps"
    untuned = "a peer is a yardstick, at settings its library's users begin with"

    @abstractmethod
    def fit(self, run: Run) -> None:
        """Trains to the end of `run.spec.protocol.budget`, loading weights into `run.policy`.

        As it goes it adds what it spends to `run.cost`, then calls `run.spent()`, which evaluates
        when a point of the learning curve is due and returns whether the budget is spent.
        """
