"""REINFORCE++: no critic and no group; scores less KL, normalised over the whole batch."""

from __future__ import annotations

from pairbench import Batch, Field, Needs, Signal, objectives as o, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("reinforce-plus-plus")
class ReinforcePlusPlus(GRPO):
    """REINFORCE++ (arXiv 2501.03262): PPO's clip with a return per step in place of a critic.

    A_t = r - kl_coef sum over s >= t of (log pi_old - log pi_ref), less its mean over all steps of
    the batch, over their standard deviation; then PPO's clipped surrogate, a mean over steps.
    Groups mean nothing to it. Ours: on control tasks and the bandit no KL, as for GRPO, and
    groups of the sizes all methods share.
    """

    source = "Hu et al., arXiv 2501.03262"
    departures = "No KL off the score on control tasks and the bandit; contexts come in groups."
    presets = shared.presets(
        control={"kl_coef": 0.0}, tabular={"kl_coef": 0.0}, exact={"kl_coef": shared.PRICE}
    )
    spaces = shared.spaces(shared.CLIPS, language={"kl_coef": shared.KL_WEIGHT})

    class Config(GRPO.Config):
        """GRPO's settings at REINFORCE++'s values; `std` and `eps` have no effect."""

        group_size: int = Field(1, ge=1, description="responses per context; one will do")
        aggregation = "dapo"
        beta = 0.0
        kl_coef: float = Field(0.01, ge=0, description="KL off the return, per nat")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores", reference=self.config.kl_coef + self.config.beta > 0)

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "advantage" and "weight", both (B, T)."""
        config, mask = self.config, batch.mask
        gain = batch.need("score").unsqueeze(1) * mask
        if config.kl_coef:
            spent = o.k1(batch.old_logp, batch.need("ref_logp")) * mask
            gain = gain - config.kl_coef * spent.flip(1).cumsum(1).flip(1) * mask
        weight = o.step_weights(mask, config.aggregation, config.max_length or batch.steps)
        return {"advantage": o.whiten(gain, mask), "weight": weight}
