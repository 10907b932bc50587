"""What a run is asked to be (`RunSpec`) and what is kept of it (`RunRecord`), as versioned JSON."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import Field, model_validator

from pairbench.evaluation import Cost, Evaluation, Measure, Strict
from pairbench.results.version1 import DEMONSTRATIONS, measures_of

SCHEMA_VERSION = 3
"""1: without `measures`, whose meaning `pairbench.results.version1` tells; 2: with them; 3: `read`,
which `pairbench.results.read` makes of older ones."""


class Budget(Strict):
    """What a run may spend; whichever limit is reached first ends it.

    Attributes:
        steps: environment steps, or generated tokens, or arms pulled: the task's unit.
        labels: answers of the oracle (scores or comparisons).
        gradient_steps: optimiser steps of the policy.
        seconds: wall-clock seconds. Alone it leaves the learning rate constant, since a schedule
            over wall time would not repeat.
    """

    steps: int | None = Field(None, gt=0)
    labels: int | None = Field(None, gt=0)
    gradient_steps: int | None = Field(None, gt=0)
    seconds: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _some_limit(self) -> Budget:
        if all(value is None for value in self.model_dump().values()):
            raise ValueError(
                "a budget needs at least one of steps, labels, gradient_steps, seconds"
            )
        return self


class Protocol(Strict):
    """What all rows of one board share beside the task.

    Attributes:
        budget: what each run may spend.
        anneal: whether every learning rate falls linearly to zero over the budget.
        evaluations: points of the learning curve, evenly spaced over the budget, the last at its
            end; each is a full evaluation on the held-out contexts.
        probes: points at which the gradient's noise is measured, evenly spaced, the first before
            training.
        engine: whose training loop calls the algorithm: our own, or the engine of that name, which
            takes no probes.
        adam_eps: epsilon of Adam, in every row's optimiser. A suite that says nothing takes what
            the task declares.
    """

    budget: Budget
    anneal: bool = True
    evaluations: int = Field(10, ge=1)
    probes: int = Field(3, ge=0)
    engine: str = Field(
        "pairbench",
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        max_length=64,
        exclude_if=lambda engine: engine == "pairbench",
    )
    adam_eps: float = Field(default=1e-5, ge=0, lt=1, exclude_if=lambda eps: eps == 1e-5)

    @property
    def given(self) -> dict[str, Any]:
        """What was said of it, without defaults: a task may declare others."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Tuning(Strict):
    """Where a row's settings come from, if a search chose them.

    Attributes:
        trials: settings that were tried, the row's own among them.
        study: SHA-256 (hex) of the study, as `Study.sha256` has it.
    """

    trials: int = Field(ge=1)
    study: str = Field(pattern="^[0-9a-f]{64}$")


class RunFields(Strict):
    """One cell of a grid, fully resolved: everything that decides what a run computes.

    Attributes:
        row: the row's name in its suite, the only field that is not part of the identity.
        algorithm: its registered name.
        algorithm_config: its settings, resolved.
        task: its registered name, with its variant.
        task_config: its settings, resolved.
        task_version: raised whenever the same seed would give other numbers.
        protocol: what all rows of a board share.
        seed: of the run's random streams.
        tuning: the search that chose the settings, if one did. It decides nothing but is part of
            the identity: a row that a search has been spent on is another than one set by hand,
            even where the search ends where the hand did.
    """

    row: str
    algorithm: str
    algorithm_config: dict[str, Any]
    task: str
    task_version: str
    task_config: dict[str, Any]
    protocol: Protocol
    seed: int = Field(ge=0)
    tuning: Tuning | None = Field(default=None, exclude_if=lambda tuning: tuning is None)

    @property
    def configuration(self) -> str:
        """SHA-256 (hex) of what the seeds of one row share: algorithm, settings, and tuning."""
        shared = {"algorithm": self.algorithm, "config": self.algorithm_config}
        return content_digest(shared | self.model_dump(include={"tuning"}))

    @property
    def board(self) -> str:
        """SHA-256 (hex) of what the rows of one board share: task, version, settings, protocol."""
        return content_digest(
            self.model_dump(include={"task", "task_version", "task_config", "protocol"})
        )


class RunSpec(RunFields):
    """What a run is asked to be."""

    @property
    def identity(self) -> str:
        """SHA-256 (hex) of the canonical JSON of every field but `row`."""
        return content_digest(self.model_dump(include=IDENTIFYING))


IDENTIFYING = set(RunSpec.model_fields) - {"row"}
"""The fields that a run's identity is the digest of."""


class CurvePoint(Strict):
    """A point of the learning curve: what was spent, each way's mean score, and the measures.

    Attributes:
        steps, labels, gradient_steps: spent so far.
        reward: mean score on the held-out contexts, of the way of acting that ranks.
        means: the same of every way of acting, by name.
        measures: anything else that the task reports, by name.
    """

    steps: int
    labels: int
    gradient_steps: int
    reward: float
    means: dict[str, float]
    measures: dict[str, float] = Field(default_factory=dict, exclude_if=lambda found: not found)


class Stability(Strict):
    """How a run got there. None where a method has no such quantity.

    Attributes:
        gradient_noise: tr Cov(g) / |E g|^2 of the gradient of one iteration's batch at the sampling
            policy, mean over the probes: free of the loss's scale.
        kl_std: standard deviation over iterations of KL(new || old), nats per step.
        kl_max: its maximum.
        drawdown: largest fall of the learning curve below its running maximum, in score units.
    """

    gradient_noise: float | None = None
    kl_std: float | None = None
    kl_max: float | None = None
    drawdown: float | None = None


class Failure(Strict):
    """Why a run has no result.

    Attributes:
        kind: class of the error.
        message: what it said.
        iteration: when it came, if that is known.
    """

    kind: str
    message: str
    iteration: int | None = None


class _Heading(Strict):
    """What a record's JSON begins with.

    Attributes:
        schema_version: of this format.
        identity: SHA-256 of what decides the run's numbers; also the name of its file.
    """

    schema_version: int = SCHEMA_VERSION
    identity: str


class RunRecord(RunFields, _Heading):
    """Everything kept of one run.

    Its series per iteration lie beside it in Parquet, and so do the texts of its last evaluation,
    if it has any.

    Attributes:
        status: "finished", "failed" (no cache hit: the run is tried again when asked for) or
            "skipped" (the algorithm does not apply to the task).
        reason: why it was skipped, in a sentence of the task.
        failure: why it failed.
        regime: what the algorithm learns from, in a few words.
        step_unit: what the task counts as a step.
        scores_of: what the scores are of, where it is not the policy.
        measures: what the task says of the measures it reports; see `declared`.
        curve: the learning curve.
        evaluation: scores and measures at the end of the budget.
        stability: how the run got there.
        cost: what it spent.
        weights_sha256: hash of the final weights.
        series_sha256: hash of the series beside it.
        texts_sha256: hash of the texts beside it, if there are any.
        read: SHA-256 (hex), or revision, of all that it read, by name: the source of what trains
            and scores, data, models, judges; see `pairbench.results.read`.
        provenance: code, versions, machine, data, judges and models.
    """

    status: Literal["finished", "failed", "skipped"]
    reason: str | None = None
    failure: Failure | None = None
    regime: str = ""
    step_unit: str = "steps"
    scores_of: str = Field(default="policy", exclude_if=lambda what: what == "policy")
    measures: tuple[Measure, ...] = Field(default=(), exclude_if=lambda measures: not measures)
    curve: list[CurvePoint] = Field([])
    evaluation: Evaluation | None = None
    stability: Stability = Stability()
    cost: Cost = Cost()
    weights_sha256: str | None = None
    series_sha256: str | None = None
    texts_sha256: str | None = Field(default=None, exclude_if=lambda sha256: sha256 is None)
    read: dict[str, str] = Field(default={}, exclude_if=lambda read: not read)
    provenance: dict[str, Any] = Field({})

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the canonical JSON of what its file says."""
        return digest(self.model_dump(mode="json", exclude_unset=True))

    @property
    def spec(self) -> RunSpec:
        """The specification this record answers."""
        return RunSpec(**{name: getattr(self, name) for name in RunSpec.model_fields})

    @property
    def declared(self) -> tuple[Measure, ...]:
        """What the measures mean: as the record says, or as its task meant them in version 1."""
        return self.measures if self.schema_version > 1 else measures_of(self.task)

    @property
    def demonstration(self) -> str | None:
        """Why this run shows that something works and ranks nobody, if its task says so."""
        if self.schema_version == 1:
            return DEMONSTRATIONS.get(self.task)
        task = self.provenance.get("task")
        found = task.get("demonstration") if isinstance(task, dict) else None
        return found if isinstance(found, str) else None

    @property
    def seeds_are_problems(self) -> bool:
        """Whether a seed also drew the problem, so that rows differ within seeds alone."""
        task = self.provenance.get("task")
        return isinstance(task, dict) and task.get("seeds") == "problems"

    @property
    def yardstick(self) -> str | None:
        """The algorithm that a trained row should beat, if the task names one."""
        task = self.provenance.get("task")
        found = task.get("yardstick") if isinstance(task, dict) else None
        return found if isinstance(found, str) else None

    @model_validator(mode="after")
    def _identity_matches(self) -> RunRecord:
        if self.identity != content_digest(self.model_dump(include=IDENTIFYING)):
            raise ValueError("identity is not the hash of the record's own specification")
        return self


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> str:
    """Returns JSON with sorted keys and no spaces: equal values give equal text."""
    return _CANONICAL.encode(value)


def digest(value: Any) -> str:
    """Returns the SHA-256 (hex) of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def content_digest(settings: Any) -> str:
    """Returns the digest of settings, where a file or folder is its content under whatever name."""
    return hashlib.sha256(_NAMED.sub(r'"\1"', canonical(settings)).encode()).hexdigest()


_NAMED = re.compile(r'"[\w.-]+?((?:\.(?:csv|tsv|jsonl?|parquet))?\+[0-9a-f]{16})"')  # of `places`


def name_of(run: RunFields) -> str:
    """Returns "row on task, seed n"."""
    return f"{run.row} on {run.task}, seed {run.seed}"
