"""SFT on the preferred response: what a loss of pairs must beat."""

from __future__ import annotations

from torch import Tensor

from pairbench import register_algorithm, shared
from pairbench.pairwise import FreePairMethod, Pairs, free_presets


@register_algorithm("sft")
class SFT(FreePairMethod):
    """Fine-tuning on preferred responses alone: their mean negative log-probability per step.

    Rejected responses are not read, and `beta` has no effect. As TRL 1.16 has it, a step counts the
    same in a short and a long response.
    """

    source = "TRL 1.16 DPOTrainer, sft"
    presets = free_presets()
    spaces = shared.spaces()

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        return pairs.nll().expand_as(pairs.chosen)
