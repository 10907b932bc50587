"""REINFORCE with the group's mean as its baseline."""

from __future__ import annotations

from pairbench import (
    Algorithm,
    Batch,
    Field,
    Loss,
    Needs,
    PolicyOutput,
    Signal,
    register_algorithm,
)


@register_algorithm("reinforce")
class Reinforce(Algorithm):
    """REINFORCE (Williams 1992) with the mean score of the group as its baseline."""

    source = "Williams, Machine Learning 8 (1992)"
    presets = {"tabular": {"contexts": 32, "lr": 0.03, "epochs": 1}}  # noqa: RUF012

    class Config(Algorithm.Config):
        """The baseline needs a group."""

        group_size: int = Field(4, ge=2, description="G, responses per context")

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        assert batch.score is not None
        groups = batch.score.view(-1, self.config.group_size)
        return {"advantage": (groups - groups.mean(1, keepdim=True)).view(-1, 1)}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        return Loss(-(signal["advantage"] * output.logp * batch.mask).sum(1).mean())
