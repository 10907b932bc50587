"""The floor row of the policy that knows nothing."""

from __future__ import annotations

from pairbench.algorithm import Algorithm, Loss, Needs
from pairbench.batch import Batch, Signal
from pairbench.policy import PolicyOutput
from pairbench.registry import register_algorithm


@register_algorithm("random")
class Random(Algorithm):
    """The task's random policy, evaluated without training: it must rank last."""

    source = "none: a test of the metric, not a method"
    floor = "random"
    untuned = "it does not learn"

    @property
    def needs(self) -> Needs:
        return Needs("nothing", "none")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        raise TypeError("random does not learn and prepares no batch")

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        raise TypeError("random does not learn and has no loss")
