"""TRL's training loop as an engine: a run around `PairTrainer`."""

from __future__ import annotations

from typing import Any

from pairbench.algorithm import AlgorithmConfig, Method
from pairbench.language.trl.train import (
    LIMIT,
    PACKAGES,
    CutPrompts,
    Groups,
    Job,
    completions_trainer,
    fit,
    refusal,
)
from pairbench.registry import register_engine
from pairbench.training.engine import Engine
from pairbench.training.run import Run


@register_engine("trl")
class TRLEngine(Engine):
    """TRL's GRPO trainer with the loss of a method of ours.

    TRL's own settings have no effect on the loss.
    """

    limit = LIMIT
    packages = PACKAGES

    @classmethod
    def refusal(cls, method: Method, kind: str) -> str | None:
        return refusal(method, kind)

    def fit(self, run: Run) -> None:
        shared = {
            name: getattr(run.algorithm.config, name) for name in AlgorithmConfig.model_fields
        }
        config = Groups(**shared)
        started: list[Any] = []

        def trainer(job: Job) -> Any:
            from pairbench.language.trl.pair_trainer import PairTrainer  # loads TRL

            class Trainer(CutPrompts, PairTrainer):
                pass

            more = {"algorithm": self.algorithm, "teacher": job.session.config}
            started.append(completions_trainer(Trainer, job, config, {}, **more))
            return started[0]

        def account(job: Job, iteration: int) -> None:
            job.run.cost.comparisons = started[0].comparisons
            job.run.cost.scores = started[0].scores

        fit(run, self.algorithm.name, config, trainer, account)
