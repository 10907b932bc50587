"""RLOO: each response against the mean score of the others of its group."""

from __future__ import annotations

from torch import Tensor

from pairbench import Batch, Field, Needs, objectives as o, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("rloo")
class RLOO(GRPO):
    """REINFORCE leave-one-out (arXiv 2402.14740): A_i = r_i - mean of the others' r_j.

    The paper's: that baseline, whole responses as actions, and a KL to the reference off the score.
    As TRL 1.16's RLOOTrainer has it: r = score - kl_reward x sum_t (log pi_old - log pi_ref), the
    ratio of whole responses, clip range .2, G = 2. Ours: on control tasks and the bandit no KL, as
    for GRPO. A group whose r are all equal has advantage 0.
    """

    source = "Ahmadian et al., arXiv 2402.14740; TRL 1.16 RLOOTrainer"
    departures = (
        "No KL off the score on control tasks and the bandit; groups of the sizes all methods "
        "share."
    )
    presets = shared.presets(
        control={"kl_reward": 0.0}, tabular={"kl_reward": 0.0}, exact={"kl_reward": shared.PRICE}
    )
    spaces = shared.spaces(shared.CLIPS, language={"kl_reward": shared.KL_WEIGHT})

    class Config(GRPO.Config):
        """GRPO's settings at RLOO's values; `std` and `eps` have no effect here."""

        group_size = 2
        ratio_level = "trajectory"
        beta = 0.0
        kl_reward: float = Field(0.05, ge=0, description="TRL's beta: KL off the score, per nat")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores", reference=self.config.kl_reward + self.config.beta > 0)

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): G / (G - 1) times the distance from the group's mean, the same thing."""
        score, size = batch.need("score"), self.config.group_size
        if self.config.kl_reward:
            moved = (o.k1(batch.old_logp, batch.need("ref_logp")) * batch.mask).sum(1)
            score = score - self.config.kl_reward * moved
        return o.normalise_groups(score, size, "none", 0.0) * (size / (size - 1))
