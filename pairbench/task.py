"""What a task is, and one run on it: contexts, an oracle, a policy, and the only place that scores.

A `Task` is facts: it can be asked about before, and without, any run. `Task.begin` returns a
`Session`, which holds all that changes while a run goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pairbench.algorithm import Floor, Method, Needs
from pairbench.batch import Batch
from pairbench.evaluation import Cost, Evaluation, Measure
from pairbench.places import declare
from pairbench.policy import Policy
from pairbench.seeding import Streams


class TaskConfig(BaseModel):
    """Settings of a task; part of the identity of every run on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def by_content(self) -> Self:
        """Returns the settings with what is known by name and content in the place of paths.

        Paths are looked for in fields whose `json_schema_extra` has "place", a list of the words
        that mean something else there; see `pairbench.places`.
        """
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra, value = field.json_schema_extra, getattr(self, name)
            words = extra.get("place") if isinstance(extra, dict) else None
            if not isinstance(words, list) or not value:
                continue
            several = [value] if isinstance(value, str) else value
            known = tuple(one if one in words else declare(one) for one in several)
            found[name] = known[0] if isinstance(value, str) else known
        return self.model_copy(update=found) if found else self


class TunableConfig(TaskConfig):
    """Settings of a task that holds further contexts out, on which `pairbench tune` evaluates.

    The two sets share no context, and the default is left out of what a run's identity is the hash
    of: a board's runs are what they would be without the other set.
    """

    held_out: Literal["evaluation", "validation"] = Field(
        "evaluation",
        description="contexts of the evaluation: the boards', or the search's for settings",
        exclude_if=lambda held_out: held_out == "evaluation",
    )


@dataclass(frozen=True)
class Draws:
    """The random generators of one collection: of contexts, of responses, and of the oracle."""

    contexts: np.random.Generator
    sampling: np.random.Generator
    oracle: np.random.Generator

    @classmethod
    def of_run(cls, streams: Streams) -> Draws:
        """Returns the run's own."""
        return cls(streams["contexts"], streams["sampling"], streams["oracle"])

    @classmethod
    def of_probe(cls, streams: Streams) -> Draws:
        """Returns what a measurement draws from, which is no stream of the run's."""
        return cls(streams["probe"], streams["probe"], streams["probe"])


class Session(ABC):
    """One run on a task, from its first contexts to its last evaluation; see `Task.begin`.

    Attributes:
        policy: what acts, is trained and is evaluated.
        cost: steps, scores, comparisons and evaluation steps, counted as the run goes.
    """

    policy: Policy
    cost: Cost

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.cost = Cost()

    @abstractmethod
    def collect(self, iteration: int) -> Batch:
        """Returns one iteration's data, as `algorithm.needs` says, and adds its price to `cost`.

        Fields the algorithm needs are filled, and `old_logp`, `old_dist` and `ref_dist` wherever
        they cost next to nothing. Draws from the streams "contexts", "sampling" and "oracle" only.
        """

    @abstractmethod
    def probe(self, units: int, streams: Streams) -> Batch:
        """Returns at least `units` groups (or rows of steps) for a measurement.

        Leaves the run as it was: nothing of the session changes, `cost` is not charged, and only
        the "probe" stream of `streams` is drawn from.
        """

    @abstractmethod
    def evaluate(self, final: bool) -> Evaluation:
        """Scores the policy on the held-out contexts, the same for every algorithm and seed.

        Counts into `cost.evaluation_steps` and draws from no stream of the run: evaluating more
        often changes nothing else. `final` may add ways of acting that are only wanted at the end.
        """

    def known_policy(self, method: Floor) -> Policy | None:
        """Returns the policy that a floor row is named for, if this task knows it."""
        return None

    def texts(self) -> dict[str, list[str]]:
        """Returns what is worth keeping of the last evaluation: columns of text, equally long."""
        return {}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns what `collect` will depend on: nested dicts of tensors, arrays and JSON types.

        Policy, cost and streams are not part of it: the training loop keeps them.
        """

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state()` returned, in a session that has just begun."""


class Task(ABC):
    """One benchmark task: its facts, and the sessions that begin with it.

    Class attributes:
        name: set by `register_task`, without a variant.
        version: changed whenever the same seed would give other numbers; boards never mix two.
        kind: "control", "language", "tabular" or "exact": the key of `Algorithm.presets`.
        source: where the environment or the data come from.
        unit: what `Cost.steps` counts.
        scores_of: what differs between the scores of an evaluation, and so what their names say:
            how the "policy" acts, or which "measure" is taken of it.
        measures: what the measures of an evaluation mean, which each record then says; one that is
            not declared goes by its name.
        floors: the policies that rows of nobody's training may ask for; "optimum" among them says
            that the best policy is known, and may be learned from.
        variants: settings by variant name, for `name@variant`.
        packages: distributions its numbers depend on, whose versions each record then holds.
        adam_eps: epsilon of Adam where the protocol does not say.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    kind: ClassVar[str]
    source: ClassVar[str]
    unit: ClassVar[str] = "steps"
    scores_of: ClassVar[Literal["policy", "measure"]] = "policy"
    measures: ClassVar[tuple[Measure, ...]] = ()
    floors: ClassVar[tuple[str, ...]] = ("reference", "random")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    packages: ClassVar[tuple[str, ...]] = ()
    adam_eps: ClassVar[float] = 1e-5

    class Config(TaskConfig):
        """Overridden by each task."""

    def __init__(self, config: TaskConfig) -> None:
        self.config = config

    @classmethod
    def variant(cls, name: str) -> tuple[str, Mapping[str, Any]] | None:
        """Returns the variant whose presets `name@...` takes, and its settings; None if unknown.

        A task may know more variants than `variants` lists, such as the name of any model.
        """
        return (name, cls.variants[name]) if name in cls.variants else None

    @abstractmethod
    def skip(self, algorithm: Method) -> str | None:
        """Returns one sentence on why this task cannot run `algorithm`, or None."""

    def refusal(self, algorithm: Method) -> str | None:
        """Returns what `skip` does, or one sentence on a policy that is asked for and unknown."""
        if reason := self.skip(algorithm):
            return reason
        asked = "optimum" if algorithm.needs.demonstrations else "reference"
        if isinstance(algorithm, Floor):
            asked = algorithm.policy
        if asked in self.floors:
            return None
        return f"{self.name} does not know the policy {asked}, which {algorithm.name} asks for"

    def declared(self) -> tuple[Measure, ...]:
        """Returns what the measures of this task's evaluations mean: `measures`, by default.

        Raises:
            PairBenchError: a setting asks for a measure that cannot be had.
        """
        return self.measures

    @classmethod
    def code(cls, settings: Mapping[str, Any]) -> Sequence[str]:
        """Returns what in the settings names code that a run would execute.

        A person may name code. A record may not: one with any is not run again from its file.
        """
        return ()

    def check(self) -> None:
        """Raises `PairBenchError` if what the task needs (data, say) is out of reach.

        Called once before any run, so that a suite does not fail run by run.
        """
        return None

    def read(self, needs: Needs) -> Mapping[str, str]:
        """Returns the SHA-256 of data, models and judges within reach, by a name for people.

        What is yet to be made is left out. Results that read other contents under one of the names
        are never taken for this task's. The task's source is no part: PairBench sees to it.

        Args:
            needs: the algorithm's, which may call for more of them.

        Raises:
            PairBenchError: something is out of reach.
        """
        return {}

    def provenance(self, needs: Needs) -> dict[str, Any]:
        """Returns hashes and revisions of the data, models and assets that a run is made of.

        `needs` are the algorithm's, which may call for more of them.
        """
        return {}

    def random_policy(self) -> Policy | None:
        """Returns the policy of the `random` floor row, or None if the task has none."""
        return None

    @abstractmethod
    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> Session:
        """Begins a run with the initial policy, the same for every algorithm of one seed.

        `threads` may speed a simulation up; it must not change a single bit of any result.

        Raises:
            PairBenchError: the sizes the algorithm asks for do not fit the task.
        """
