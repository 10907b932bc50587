"""CPO-SimPO: SimPO's loss and CPO's likelihood of the preferred response."""

from __future__ import annotations

from torch import Tensor

from pairbench import Field, log_uniform, register_algorithm, shared
from pairbench.algorithms.simpo import SimPO
from pairbench.pairwise import Pairs


@register_algorithm("cpo-simpo")
class CPOSimPO(SimPO):
    """SimPO (arXiv 2405.14734) + alpha NLL of preferred responses, as in CPO (arXiv 2401.08417).

    As TRL 1.16 has it: `loss_type="simpo"` with a cpo_alpha above 0, the NLL a mean over the steps
    of all preferred responses. Ours: alpha .05.
    """

    source = "arXiv 2405.14734 and 2401.08417; TRL 1.16 CPOTrainer, simpo with cpo_alpha"
    departures = SimPO.departures
    spaces = shared.spaces({**SimPO.spaces["any"], "alpha": log_uniform(0.003, 3.0)})

    class Config(SimPO.Config):
        """SimPO's settings and the weight of the likelihood."""

        alpha: float = Field(0.05, ge=0, description="weight of the likelihood (cpo_alpha)")

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        return super().losses(pairs) + self.config.alpha * pairs.nll()
