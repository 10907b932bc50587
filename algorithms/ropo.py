"""ROPO: DPO with a loss that gives up on pairs it disagrees with too much."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from torch import Tensor

from pairbench import Field, log_uniform, objectives as o, register_algorithm, shared
from pairbench.algorithms.dpo import DPO


@register_algorithm("ropo")
class ROPO(DPO):
    """Robust preference optimisation (arXiv 2404.04102), for labels that may be flipped.

    The source's, by a secondary account: DPO's margin m = beta times the difference of log-ratios,
    and the loss 4 alpha / (1 + alpha)^2 (-log sigmoid(m) + alpha sigmoid(-m)) with alpha 14; the
    weight of a pair is at most 1 and falls where the policy is sure that the label is wrong. Left
    out: the paper's filtering of the pairs of largest loss and its rejection sampling, which keep
    state between batches. Ours: fresh on-policy pairs, as dpo has them; beta and all other settings
    are dpo's.
    """

    source = "ROPO, arXiv 2404.04102 (loss; formula from a secondary source)"
    departures = (
        "The paper's filtering of pairs and rejection sampling are left out; control tasks "
        "and the bandit take fresh on-policy pairs in place of its offline ones."
    )
    spaces = shared.spaces({**DPO.spaces["any"], "alpha": log_uniform(2.0, 50.0)})

    class Config(DPO.Config):
        """DPO's settings; its forms of the loss do not apply."""

        alpha: float = Field(14.0, gt=1, description="weight of the part that gives up")

        @model_validator(mode="after")
        def _one_loss(self) -> Self:
            if self.loss_type != "sigmoid" or self.label_smoothing:
                raise ValueError("loss_type and label_smoothing are dpo's: ropo has one loss")
            return self

    config: Config

    def pair_losses(self, margin: Tensor) -> Tensor:
        """Returns the loss of each pair, (P,), from its margin of log-ratios, nats."""
        return o.robust_preference_loss(margin, self.config.beta, self.config.alpha)
