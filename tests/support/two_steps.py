"""A run of two gradient steps on the bandit: what every method must be able to do."""

from __future__ import annotations

from typing import Any

from pairbench.algorithm import Algorithm
from pairbench.results.record import Budget, Protocol, RunRecord, RunSpec
from pairbench.tasks.preference_bandit import PreferenceBandit
from pairbench.training.train import train


def two_steps(cls: type[Algorithm], seed: int = 0, **settings: Any) -> RunRecord:
    """Returns the finished record of `cls` under its tabular preset and `settings`."""
    preset = cls.presets.get("tabular", {})
    config = cls.Config.model_validate({**preset, "epochs": 1, "minibatches": 2, **settings})
    spec = RunSpec(
        algorithm=cls.name,
        algorithm_config=config.model_dump(mode="json"),
        task=PreferenceBandit.name,
        task_version=PreferenceBandit.version,
        task_config=PreferenceBandit.Config().model_dump(mode="json"),
        protocol=Protocol(budget=Budget(gradient_steps=2), evaluations=1, probes=1),
        seed=seed,
        row=cls.name,
    )
    record = train(spec).record
    assert record.status == "finished", record.failure
    assert record.cost.gradient_steps == 2
    assert record.evaluation is not None
    assert record.evaluation.measures["kl_ref"] > 0
    return record
