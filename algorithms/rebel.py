"""REBEL: differences of log-ratios are fitted to differences of scores."""

from __future__ import annotations

from pairbench import Batch, Loss, PolicyOutput, Signal, register_algorithm, shared
from pairbench.algorithms.gvpo import GVPO


@register_algorithm("rebel")
class REBEL(GVPO):
    """Regressing the relative future (REBEL, arXiv 2404.16767, equation 6).

    The mean over pairs of a group of (beta (log-ratio_i - log-ratio_j) - (r_i - r_j))^2, log-ratios
    of whole responses to the sampler and beta the paper's 1 / eta. Over all pairs that is exactly
    four times `gvpo`'s loss, which is how it is computed. The paper's: pairs, G = 2. Ours: beta 1,
    and all pairs of the groups that all methods share.
    """

    source = "Gao et al., arXiv 2404.16767, equation 6"
    departures = "All pairs of larger groups (the paper: one); on control tasks std divides scores."
    presets = shared.presets(control={"beta": 1.0, "std": "population"})
    spaces = GVPO.spaces

    class Config(GVPO.Config):
        """GVPO's settings at REBEL's values."""

        group_size = 2
        beta = 1.0

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean over pairs of squared residuals."""
        return Loss(4.0 * super().loss(output, batch, signal).value)
