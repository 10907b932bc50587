"""f-GRPO: a group's better and worse responses told apart by an f-divergence's critic."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pairbench import (
    Algorithm,
    Batch,
    Field,
    GroupConfig,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    choice,
    log_uniform,
    objectives as o,
    register_algorithm,
    shared,
)


@register_algorithm("f-grpo")
class FGRPO(Algorithm):
    """f-GRPO (arXiv 2602.05946): the variational form of an f-divergence, the policy as critic.

    The paper's: the implicit reward u = beta log(pi_theta(y) / pi_ref(y)) of a whole response; the
    divergence between responses above their group's mean (a > 0) and the rest, bounded below by
    E[g(u)] - E[f*(g(u))]; and the loss of a group, sum of -a w psi / (G (1 + 1 / beta)), psi = g(u)
    where a > 0 and f*(g(u)) elsewhere, a = (r - mean) / std, w the self-normalised importance
    weights exp(+-r) / pi_old(y) of each side. There is no clip and no other KL penalty.

    Known to us from secondary sources; where they leave it open or it cannot be computed well,
    ours are: w = 1 / (number of the side) by default, because 1 / pi_old(y) of a whole text puts
    all weight on one response ("self-normalised" is the paper's, with scores for r;
    "self-normalised-mean" takes pi_old's mean log-probability per step); no prefactor by default,
    the learning rate has it; sample std, eps 1e-8; beta .1, after the authors' KLDO; the link g of
    each divergence (see `objectives.critic`); and "js" as the default, bounded in slope. A tied
    group asks for nothing. `gamma` adds gamma log(pi_theta / pi_old) to u, which the released
    trainer is said to do. `reference="sampler"`, also ours, measures u to the policy before the
    iteration instead; control tasks take it, where a density moves far from the initial one.
    """

    source = "Haldar et al., arXiv 2602.05946 (secondary sources); KLDO: arXiv 2502.00657"
    departures = (
        "Each side weighs its responses alike and the loss has no prefactor (the paper: "
        "importance weights, 1 / (G (1 + 1 / beta))); on control tasks rewards are measured "
        "to the last policy."
    )
    presets = shared.presets(
        control={"reference": "sampler", "beta": 1.0}, exact={"beta": shared.PRICE}
    )
    spaces = shared.spaces(
        {
            "beta": log_uniform(0.02, 5.0),
            "divergence": choice("js", "kl", "reverse-kl", "pearson", "hellinger"),
        }
    )

    class Config(GroupConfig):
        """Symbols of the paper."""

        lr = 1e-6
        divergence: o.Divergence = Field("js", description="f and its link g")
        beta: float = Field(0.1, gt=0, description="scale of the implicit reward")
        gamma: float = Field(0.0, ge=0, description="weight of the log-ratio to the sampler in it")
        weights: Literal["uniform", "self-normalised", "self-normalised-mean"] = Field(
            "uniform", description="w, of each side of the group"
        )
        prefactor: Literal["none", "paper"] = Field(
            "none", description='factor of the loss: 1, or "paper" 1 / (G (1 + 1 / beta))'
        )
        std: o.Std = Field("sample", description="standard deviation that scales a")
        eps: float = Field(1e-8, ge=0, description="added to it")
        reference: Literal["sft", "sampler"] = Field(
            "sft", description="reference policy: the initial one, or the one that drew the batch"
        )

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores", reference=self.config.reference == "sft")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "advantage" (B, 1), a, and "weight" (B,), a w times the prefactor."""
        config, score = self.config, batch.need("score")
        advantage = o.normalise_groups(score, config.group_size, config.std, config.eps)
        weight = advantage * self._side_weights(batch, score, advantage > 0)
        if config.prefactor == "paper":
            weight = weight / (config.group_size * (1.0 + 1.0 / config.beta))
        return {"advantage": advantage.unsqueeze(1), "weight": weight}

    def _side_weights(self, batch: Batch, score: Tensor, above: Tensor) -> Tensor:
        """Returns w (B,), which sums to 1 over each side of a group."""
        logits = torch.zeros_like(score)
        if self.config.weights != "uniform":
            sampled = (batch.old_logp * batch.mask).sum(1)
            if self.config.weights == "self-normalised-mean":
                sampled = sampled / batch.mask.sum(1).clamp_min(1.0)
            logits = torch.where(above, score, -score) - sampled
        logits, side = (x.view(-1, self.config.group_size) for x in (logits, above))
        upper = logits.masked_fill(~side, -torch.inf).softmax(1)
        lower = logits.masked_fill(side, -torch.inf).softmax(1)
        return torch.where(side, upper, lower).view(-1)

    def implicit_reward(self, output: PolicyOutput, batch: Batch) -> Tensor:
        """Returns u (B,) = beta log(pi_theta / pi_ref) + gamma log(pi_theta / pi_old)."""
        config = self.config
        reference = batch.need("ref_logp" if config.reference == "sft" else "old_logp")
        steps = config.beta * (output.logp - reference)
        if config.gamma:
            steps = steps + config.gamma * (output.logp - batch.old_logp)
        return (steps * batch.mask).sum(1)

    def group_loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Tensor:
        """Returns the mean over groups of the sum of -a w psi."""
        reward, weight = self.implicit_reward(output, batch), signal["weight"]
        above, divergence = weight > 0, self.config.divergence
        # each side sees zeros in place of the other's rewards, whose slope must not overflow
        psi = torch.where(
            above,
            o.critic(reward.where(above, 0.0), divergence),
            o.conjugate_critic(reward.where(~above, 0.0), divergence),
        )
        return (weight * psi).sum() * (-self.config.group_size / len(batch))

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns `group_loss`."""
        return Loss(self.group_loss(output, batch, signal))
