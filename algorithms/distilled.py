"""The row of the best policy's own samples: what this network can learn of it from so many."""

from __future__ import annotations

from typing import ClassVar

from pairbench import (
    Algorithm,
    Batch,
    Loss,
    Needs,
    PolicyOutput,
    Presets,
    Signal,
    register_algorithm,
    shared,
)
from pairbench.objectives import masked_mean


@register_algorithm("distilled")
class Distilled(Algorithm):
    """Maximum likelihood on samples of the best policy, which only tasks that know it can give.

    No method is told as much. What it falls short of the optimum by is the network's and the
    budget's doing, not a method's.
    """

    source = "none: an end of the scale, not a method"
    presets: ClassVar[Presets] = {
        "exact": {**shared.EXACT, "contexts": 64, "group_size": 2, "lr": 2e-3}
    }
    untuned = "it is a yardstick"
    config: Algorithm.Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "none", demonstrations=True)

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns nothing."""
        return {}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean negative log-probability of a step, nats."""
        return Loss(-masked_mean(output.logp, batch.mask))
