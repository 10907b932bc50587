"""KRPO: GRPO whose baseline and scale are those of a Kalman filter run over the group."""

from __future__ import annotations

import torch
from torch import Tensor

from pairbench import Batch, Field, log_uniform, register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("krpo")
class KRPO(GRPO):
    """Kalman filter enhanced group relative policy optimisation (arXiv 2505.07527).

    The authors' code: in each group a scalar filter reads the scores r_1, ..., r_G one by one,
    P' = P + Q, K = P' / (P' + R), x = x + K (r_i - x), P = (1 - K) P', from x = 0 and P = 1, and
    A_i = (r_i - x) / (sqrt P + 1e-8) with the x and P that have just seen r_i; Q 1e-5, R 1e-2, KL
    weight .01, lr 5e-6, G 12. So advantages depend on the order of responses, which is the one they
    were sampled in; the first is about .1 r_1, later ones are larger; and a tied group, unless its
    score is 0, is not without gradient. Ours: GRPO's surrogate around it, and no KL penalty on
    control tasks and the bandit.
    """

    source = "arXiv 2505.07527 and its code (billhhh/KRPO_LLMs_RL)"
    departures = (
        "No KL penalty on control tasks and the bandit (the authors: .01), and groups of the "
        "sizes all methods share (the authors: 12)."
    )
    ordered = True
    presets = shared.presets(
        control={"beta": 0.0}, tabular={"beta": 0.0}, exact={"beta": shared.PRICE}
    )
    spaces = shared.spaces(
        {**shared.CLIPS, "measurement_noise": log_uniform(1e-3, 1.0)},
        language={"beta": shared.KL_WEIGHT},
    )

    class Config(GRPO.Config):
        """The filter's settings, then GRPO's; `std` has no effect here."""

        group_size = 12
        lr = 5e-6
        beta = 0.01
        process_noise: float = Field(1e-5, ge=0, description="Q, variance the score drifts by")
        measurement_noise: float = Field(1e-2, gt=0, description="R, variance of a score")
        initial_mean: float = Field(0.0, description="x before the first score")
        initial_variance: float = Field(1.0, gt=0, description="P before the first score")
        eps: float = Field(1e-8, ge=0, description="added to the square root of P")

    config: Config

    def advantages(self, batch: Batch) -> Tensor:
        """Returns (B,): each score less the filter's mean, in its standard deviations."""
        config = self.config
        groups = batch.need("score").view(-1, config.group_size)
        mean, variance = torch.full_like(groups[:, 0], config.initial_mean), config.initial_variance
        columns = []
        for score in groups.unbind(1):
            variance += config.process_noise
            gain = variance / (variance + config.measurement_noise)
            mean = mean + gain * (score - mean)
            variance *= 1.0 - gain
            columns.append((score - mean) / (variance**0.5 + config.eps))
        return torch.stack(columns, 1).view(-1)
