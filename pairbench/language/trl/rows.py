"""`TRLRow`: what the rows that TRL's own trainers train have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pairbench.algorithm import External
from pairbench.language.trl.train import LIMIT, PACKAGES, Job, TRLConfig, fit
from pairbench.training.run import Run


class TRLRow(External):
    """A method as TRL trains it, on the task's model, prompts and budget, in float32 on the CPU.

    A reference model is loaded as the initial weights are where the method has one; gradient
    checkpointing is off.
    """

    kinds = ("language",)
    packages = PACKAGES
    limit = LIMIT

    class Config(TRLConfig):
        """Sizes and optimiser; a row adds the settings of TRL's configuration by TRL's names."""

    config: Config

    @abstractmethod
    def trainer(self, job: Job) -> Any:
        """Returns TRL's trainer, ready to train."""

    @abstractmethod
    def account(self, job: Job, iteration: int) -> None:
        """Counts what `iteration` (from 0), which has just ended, spent beyond gradient steps."""

    def fit(self, run: Run) -> None:
        fit(run, self.name, self.config, self.trainer, self.account)
