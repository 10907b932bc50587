"""GVPO: within a group, log-ratios are fitted to scores by least squares."""

from __future__ import annotations

from pairbench import (
    Algorithm,
    Batch,
    Field,
    GroupConfig,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
)


@register_algorithm("gvpo")
class GVPO(Algorithm):
    """Group variance policy optimisation (arXiv 2504.19599).

    With R_i = beta (log pi_theta(y_i) - log pi_old(y_i)), the loss of a group is the sum of
    ((R_i - mean R) - (r_i - mean r))^2 over 2 (G - 1): no ratio, no clip, no standard deviation.
    At its minimum, zero, pi_theta is proportional to pi_old exp(r / beta) on the group. As in the
    authors' code the anchor is the sampler. Ours: `std`, which divides scores by the group's
    standard deviation, off by default; control tasks take it, with beta 1, because a segment's
    score there has no common scale.
    """

    source = "Zhang et al., arXiv 2504.19599, and its code (jszkc/GVPO)"
    departures = (
        "On control tasks scores are divided by the group's std, with beta 1 (the paper: neither)."
    )
    presets = shared.presets(control={"beta": 1.0, "std": "population"})
    spaces = shared.spaces({"beta": log_uniform(0.02, 5.0)})

    class Config(GroupConfig):
        """Symbols of the paper."""

        lr = 1e-6
        beta: float = Field(0.1, gt=0, description="temperature: reward per nat of log-ratio")
        std: o.Std = Field("none", description="standard deviation that scores are divided by")
        eps: float = Field(1e-8, ge=0, description="added to it")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "advantage" (B, 1), the score less its group's mean."""
        config, score = self.config, batch.need("score")
        advantage = o.normalise_groups(score, config.group_size, config.std, config.eps)
        return {"advantage": advantage.unsqueeze(1)}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean over groups of half the sample variance of R - r."""
        size = self.config.group_size
        log_ratio = o.log_ratio(output.logp, batch.old_logp, batch.mask, "trajectory").squeeze(1)
        squares = o.group_regression(
            self.config.beta * log_ratio, signal["advantage"].squeeze(1), size, centred=True
        )
        return Loss(squares.mean() * (0.5 * size / (size - 1)))
