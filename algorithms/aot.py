"""AOT: the whole distribution of margins above the reference's."""

from __future__ import annotations

from torch import Tensor

from pairbench import Field, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, smoothed, spaces


@register_algorithm("aot")
class AOT(PairMethod):
    """Alignment via optimal transport, paired (arXiv 2406.05882).

    Log-probability margins of the policy and of the reference are sorted over the minibatch, and
    the k-th of one is compared with the k-th of the other: l(beta (m_(k) - m_ref(k))), l = -log
    sigmoid. This asks for dominance in distribution, not pair by pair. Ours: the distribution is
    that of a minibatch, as in TRL.
    """

    source = "Melnyk et al., arXiv 2406.05882; TRL 1.16 DPOTrainer, aot"
    departures = FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    class Config(PairMethod.Config):
        """DPO's settings and TRL's smoothing."""

        label_smoothing: float = Field(
            0.0, ge=0, lt=0.5, description="assumed share of flipped labels"
        )

    config: Config

    def losses(self, pairs: Pairs) -> Tensor:
        """Returns the loss of each pair, (P,)."""
        margin = pairs.chosen_logp - pairs.rejected_logp
        reference = margin - pairs.margin
        gap = margin.sort().values - reference.sort().values
        return smoothed(self.config.beta * gap, self.config.label_smoothing)
