"""REINFORCE++ with a baseline: the group's mean off, then normalised over the whole batch."""

from __future__ import annotations

from torch import Tensor

from pairbench import Batch, PolicyOutput, Signal, objectives as o, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("reinforce-plus-plus-baseline")
class ReinforcePlusPlusBaseline(GRPO):
    """REINFORCE++-baseline (arXiv 2501.03262): (r - group mean) over the batch's deviation.

    The deviation is that of all steps of the batch, after the group's mean is off, where GRPO takes
    each group's own. KL is a term of the loss, beta (log pi - log pi_ref)^2 / 2 per step (k2).
    Ours: on control tasks and the bandit no KL; where all responses can be enumerated advantages
    are not divided, for one price of KL.
    """

    source = "Hu et al., arXiv 2501.03262 (baseline form)"
    departures = (
        "No KL on control tasks and the bandit; where all responses can be enumerated no "
        "deviation divides advantages and the KL weight is .5, the price for all methods."
    )
    presets = shared.presets(
        control={"beta": 0.0}, tabular={"beta": 0.0}, exact={"beta": shared.PRICE, "std": "none"}
    )
    spaces = shared.spaces(shared.CLIPS, language={"beta": shared.KL_WEIGHT})

    class Config(GRPO.Config):
        """GRPO's settings at these values; `std` is "batch" or "none", `penalty` has no effect."""

        std = "batch"
        aggregation = "dapo"
        beta = 0.01

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "advantage" and "weight", both (B, T)."""
        config, mask = self.config, batch.mask
        centred = o.normalise_groups(batch.need("score"), config.group_size, "none", 0.0)
        gain = centred.unsqueeze(1) * mask
        weight = o.step_weights(mask, config.aggregation, config.max_length or batch.steps)
        return {
            "advantage": gain if config.std == "none" else o.whiten(gain, mask),
            "weight": weight,
        }

    def regulariser(
        self, output: PolicyOutput, batch: Batch, signal: Signal, log_ratio: Tensor
    ) -> Tensor:
        """Returns the scalar that beta multiplies: k2, weighted as the loss is."""
        gap = o.k1(output.logp, batch.need("ref_logp"))
        return o.aggregate(0.5 * gap.square(), signal["weight"], self.config.aggregation)
