"""BCO: a classifier of desirable and undesirable responses whose logit is the implicit reward."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pairbench import Field, register_algorithm
from pairbench.pairwise import FRESH_PAIRS, LabelMethod, presets, spaces


@register_algorithm("bco")
class BCO(LabelMethod):
    """Binary classifier optimisation (arXiv 2404.04656), for labels without pairs.

    -mean log sigmoid(r - d) of desirable responses - mean log sigmoid(d - r) of undesirable ones, r
    the log-ratio to the reference times beta, d = (mean r desirable + mean r undesirable) / 2
    without a gradient. `shift` false is d = 0, which TRL 1.16 calls bco_pair. Ours: d is the
    minibatch's (the paper: a running mean, which would be a state between batches); the paper's
    weights for prompts that differ between the two kinds are left out, as pairs share theirs.
    """

    source = "Jung et al., arXiv 2404.04656; TRL 1.16 DPOTrainer, bco_pair (shift false)"
    departures = "The reward shift is of a minibatch (the paper: a running mean). " + FRESH_PAIRS
    presets = presets()
    spaces = spaces()

    class Config(LabelMethod.Config):
        """Settings of labels."""

        shift: bool = Field(True, description="centre rewards between the two kinds' means")

    config: Config

    def label_loss(self, desirable: Tensor, undesirable: Tensor, kl: Tensor | None) -> Tensor:
        """Returns the mean over desirable responses + the mean over undesirable ones."""
        good, bad = self.config.beta * desirable, self.config.beta * undesirable
        count = max(len(good), 1), max(len(bad), 1)
        d = 0.5 * (good.sum() / count[0] + bad.sum() / count[1]).detach() * self.config.shift
        return -F.logsigmoid(good - d).sum() / count[0] - F.logsigmoid(d - bad).sum() / count[1]
