"""What an algorithm is: a configuration, what it needs, a signal per batch and a loss.

An algorithm never samples, never steps an optimiser, never scores itself and never touches a seed;
everything but the objective is the machine's, and so is the same for every row of a leaderboard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pairbench.batch import Batch, Signal
from pairbench.policy import PolicyOutput
from pairbench.space import Choice, Range, Space, Spaces

if TYPE_CHECKING:
    from pairbench.training.run import Run

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
            `Batch.offline`; or "nothing" for the floor rows, which do not learn.
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


@dataclass(frozen=True)
class Loss:
    """A loss to minimise, and detached scalars worth a curve (each a 0-dimensional tensor)."""

    value: Tensor
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)


class AlgorithmConfig(BaseModel):
    """Settings every algorithm has; its own class adds the symbols of its paper.

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


class Algorithm(ABC):
    """One method: the only thing that differs between two rows of a leaderboard.

    Class attributes:
        name: set by `register_algorithm`.
        source: paper and equation, or library and version.
        presets: settings by task kind ("control", "language", "tabular"), or by kind and variant
            ("control@critic-free", applied after the kind's), that replace `Config` defaults.
        spaces: what `pairbench tune` searches, a range or choice for each setting, by the same
            names and in the same order, after those of "any". A preset lies in its space.
        untuned: why there is no space, in a sentence; "" where there is one.
        floor: which untrained policy a floor row evaluates: "reference" (the task's initial policy)
            or "random" (`Task.random_policy`); None for methods that learn.
        kinds: the kinds of task it can run on, or None for any; a task may refuse it all the same.
        packages: distributions its numbers depend on, whose versions each record then holds.
        ordered: whether the order of a group's responses is part of the method (it should not be).
    """

    name: ClassVar[str]
    source: ClassVar[str]
    presets: ClassVar[Presets] = {}
    spaces: ClassVar[Spaces] = {}
    untuned: ClassVar[str] = ""
    floor: ClassVar[Literal["reference", "random"] | None] = None
    kinds: ClassVar[tuple[str, ...] | None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    ordered: ClassVar[bool] = False

    class Config(AlgorithmConfig):
        """Overridden by each algorithm."""

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
        """What this algorithm, as configured, asks of a task."""

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

    @property
    def regime(self) -> str:
        """The data regime shown on a board, in a few words."""
        needs = self.needs
        if needs.data == "nothing":
            return "no training"
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


class External(Algorithm):
    """A library's own trainer run as a row: it trains, PairBench evaluates as for any other row.

    It saves no checkpoint: a run that is killed starts again.

    Class attributes:
        limit: the limit of the budget (a field of `Budget`) that its trainer cannot do without.
    """

    limit: ClassVar[str] = "steps"
    untuned: ClassVar[str] = "a peer is a yardstick, at settings its library's users begin with"

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        raise TypeError(f"{self.name} brings its own trainer and prepares no batch")

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        raise TypeError(f"{self.name} brings its own trainer and has no loss here")

    @abstractmethod
    def fit(self, run: Run) -> None:
        """Trains to the end of `run.protocol`'s budget, loading weights into `run.policy`.

        It calls `run.spent(...)` with the resources used so far as it goes, which evaluates when a
        point of the learning curve is due and returns whether the budget is spent.
        """
