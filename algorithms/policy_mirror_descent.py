"""Policy mirror descent on samples: log-ratios fitted to scores less their mean."""

from __future__ import annotations

from pairbench import Batch, Loss, PolicyOutput, Signal, objectives as o, register_algorithm
from pairbench.algorithms.gvpo import GVPO


@register_algorithm("policy-mirror-descent")
class PolicyMirrorDescent(GVPO):
    """Policy mirror descent: each iteration fits pi_old exp(r / beta) / Z, beta its temperature.

    The sample form of Kimi k1.5 (arXiv 2501.12599), called PMD-mean in arXiv 2602.05933: the mean
    over responses of (beta (log pi_theta - log pi_old) - (r - mean r))^2, where the group's mean
    score stands for beta log Z. GVPO differs by centring log-ratios too, which needs no such
    stand-in. Ours: the formula is from memory and from the abstract of the latter; beta .5, which
    neither gives us; and `std` as for GVPO.
    """

    source = "Kimi Team, arXiv 2501.12599; Xu et al., arXiv 2602.05933, abstract"
    departures = (
        "The temperature .5 is ours, and on control tasks scores are divided by the group's std."
    )

    class Config(GVPO.Config):
        """GVPO's settings; beta is the papers' tau."""

        beta = 0.5

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean squared residual."""
        log_ratio = o.log_ratio(output.logp, batch.old_logp, batch.mask, "trajectory").squeeze(1)
        squares = o.group_regression(
            self.config.beta * log_ratio,
            signal["advantage"].squeeze(1),
            self.config.group_size,
            centred=False,
        )
        return Loss(squares.mean())
