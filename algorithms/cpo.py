"""CPO: DPO with a uniform reference, and the likelihood of the preferred response."""

from __future__ import annotations

from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm
from pairbench.pairwise import FreePairMethod, Pairs, free_presets, smoothed, spaces


@register_algorithm("cpo")
class CPO(FreePairMethod):
    """Contrastive preference optimisation (arXiv 2401.08417, equation 3).

    -log sigmoid(beta (log pi(y_w) - log pi(y_l))) + alpha NLL(y_w). The paper's: alpha 1, beta .1.
    As TRL 1.16 has it: the NLL is a mean over the steps of all preferred responses. Control tasks
    are left out, as for simpo.
    """

    source = "Xu et al., arXiv 2401.08417, equation 3; TRL 1.16 CPOTrainer"
    departures = (
        "On the bandit, and where all responses can be enumerated, pairs are fresh (the paper: "
        "offline)."
    )
    presets = free_presets()
    spaces = spaces({"alpha": log_uniform(0.03, 3.0)})

    class Config(FreePairMethod.Config):
        """Symbols of the paper; `label_smoothing` is TRL's."""

        alpha: float = Field(1.0, ge=0, description="weight of the likelihood (TRL's cpo_alpha)")
        label_smoothing: float = Field(
            0.0, ge=0, lt=0.5, description="assumed share of flipped labels"
        )

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        config = self.config
        return (
            smoothed(config.beta * pairs.margin, config.label_smoothing)
            + config.alpha * pairs.nll()
        )
