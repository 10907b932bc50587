"""GDPO: each of several scores is normalised within its group before they are added."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from pairbench import (
    Batch,
    Field,
    Needs,
    PairBenchError,
    objectives as o,
    register_algorithm,
    shared,
)
from pairbench.algorithms.grpo import GRPO


@register_algorithm("gdpo")
class GDPO(GRPO):
    """Group reward-decoupled normalisation policy optimisation (arXiv 2601.05242).

    The source's, as TRL 1.16 computes it: each component of the score less its group's mean over
    its group's sample standard deviation, their weighted sum, and that sum normalised once more
    over the batch; the rest is GRPO. Ours: components are what a task has (see its page); equal
    weights unless given, which pulls harder on a part that counts little in the task's own sum, so
    that control tasks weigh the cost of actions .1 against progress; a tied group's advantage is 0
    before the batch's mean, itself 0 to rounding, is taken off. The oracle's answer costs a label
    per component.
    """

    source = "GDPO, arXiv 2601.05242; TRL 1.16 GRPOTrainer (normalize_then_sum)"
    departures = "On control tasks the cost of actions weighs .1 (the paper: all components 1)."
    presets = shared.presets(
        control={"beta": 0.0, "weights": (1.0, 0.1)},
        tabular={"beta": 0.0},
    )

    class Config(GRPO.Config):
        """GRPO's settings; `std` is that of a component in its group."""

        weights: tuple[float, ...] = Field(
            (), description="weight of each component, in the task's order; none given: all 1"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        return replace(super().needs, components=True)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): the normalised sum of the components' normalised distances."""
        config, parts = self.config, batch.need("components")
        weights = config.weights or (1.0,) * parts.shape[1]
        if len(weights) != parts.shape[1]:
            raise PairBenchError(
                f"{self.name}.weights has {len(weights)} numbers and the task scores "
                f"{parts.shape[1]} components: give one weight for each"
            )
        return o.decoupled_advantages(
            parts, parts.new_tensor(weights), config.group_size, config.std, config.eps
        )
