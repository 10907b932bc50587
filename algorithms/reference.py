"""The floor row of the untrained policy: what every method starts from."""

from __future__ import annotations

from pairbench.algorithm import Algorithm, Loss, Needs
from pairbench.batch import Batch, Signal
from pairbench.policy import PolicyOutput
from pairbench.registry import register_algorithm


@register_algorithm("reference")
class Reference(Algorithm):
    """The task's initial policy, evaluated without training: only random may rank lower."""

    source = "none: a test of the metric, not a method"
    floor = "reference"
    untuned = "it does not learn"

    @property
    def needs(self) -> Needs:
        return Needs("nothing", "none")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        raise TypeError("reference does not learn and prepares no batch")

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        raise TypeError("reference does not learn and has no loss")
