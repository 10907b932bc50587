"""RAFT: each group's best response is learned by heart, so to speak."""

from __future__ import annotations

import torch

from pairbench import (
    Algorithm,
    Batch,
    Field,
    GroupConfig,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    integers,
    register_algorithm,
    shared,
)


@register_algorithm("raft")
class RAFT(Algorithm):
    """Reward-ranked fine-tuning (arXiv 2304.06767): likelihood of the best of each group.

    The source's: the `keep` best of each group of G fresh responses are fine-tuned on. Ours: one
    pass over them before new ones are drawn, and no KL penalty of its own, so that where KL has a
    price it learns from scores with the price taken off. A tied group keeps its first.
    """

    source = "Dong et al., arXiv 2304.06767, algorithm 1"
    presets = shared.presets()
    spaces = shared.spaces({"keep": integers(1, 4)})

    class Config(GroupConfig):
        """Symbols of the paper."""

        keep: int = Field(1, ge=1, description="responses of a group that are learned")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        """Returns "weight" (B, T): 0 but for steps of the best of each group; its mean is 1."""
        size = self.config.group_size
        order = batch.need("score").view(-1, size).argsort(dim=1, descending=True, stable=True)
        best = torch.zeros_like(order, dtype=batch.mask.dtype)
        best.scatter_(1, order[:, : self.config.keep], 1.0)
        weight = batch.mask * best.view(-1, 1)
        return {"weight": weight * (weight.numel() / weight.sum().clamp_min(1.0))}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        """Returns the mean negative log-probability of the steps that are learned, nats."""
        return Loss(-(output.logp * signal["weight"]).mean())
