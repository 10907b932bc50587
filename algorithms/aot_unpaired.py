"""AOT for unpaired data: all preferred responses above all rejected ones."""

from __future__ import annotations

from torch import Tensor

from pairbench import Field, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, PairMethod, Pairs, presets, smoothed, spaces


@register_algorithm("aot-unpaired")
class AOTUnpaired(PairMethod):
    """Alignment via optimal transport, unpaired (arXiv 2406.05882).

    Log-ratios of preferred and of rejected responses are sorted over the minibatch, and the k-th of
    one is compared with the k-th of the other, so that it does not matter which were shown
    together.
    """

    source = "Melnyk et al., arXiv 2406.05882; TRL 1.16 DPOTrainer, aot_unpaired"
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
        gap = pairs.chosen.sort().values - pairs.rejected.sort().values
        return smoothed(self.config.beta * gap, self.config.label_smoothing)
