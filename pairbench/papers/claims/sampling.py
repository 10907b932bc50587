"""Monte-Carlo estimates with standard errors: seeded draws of groups, and a block jackknife."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pairbench.papers.claims.exact import Problem
from pairbench.seeding import generator

SEED = 0
BLOCKS = 20


def draw_groups(
    problem: Problem, draws: int, size: int, noise: float, name: str
) -> tuple[Tensor, Tensor]:
    """Returns `draws` groups of the problem's policy: arms and scores, (N, G) each.

    Args:
        noise: standard deviation of a score around its reward.
        name: of the random stream, so that no two claims share one.
    """
    random = generator(SEED, f"claims:{name}")
    cumulative = problem.policy.cumsum(0)
    points = torch.from_numpy(random.random((draws, size)))
    arms = torch.searchsorted(cumulative, points, right=True).clamp_max(len(cumulative) - 1)
    score = problem.reward[arms]
    if noise:
        score = score + noise * torch.from_numpy(random.normal(size=(draws, size)))
    return arms, score


def jackknife(statistic: Callable[..., list[float]], *samples: Tensor) -> list[tuple[float, float]]:
    """Returns the statistics of all draws with their standard errors.

    Leaves out one of `BLOCKS` blocks of draws at a time (Quenouille; Tukey): variance
    (B - 1) / B sum (s_b - mean)^2.

    Args:
        statistic: of samples of equal first axis.
        samples: (N, ...) each; N a multiple of `BLOCKS`.
    """
    blocks = [sample.view(BLOCKS, -1, *sample.shape[1:]) for sample in samples]
    keep = ~torch.eye(BLOCKS, dtype=torch.bool)
    left_out = np.array([statistic(*(b[k].flatten(0, 1) for b in blocks)) for k in keep])
    spread = np.sqrt((BLOCKS - 1) * left_out.var(axis=0))
    return [(value, float(error)) for value, error in zip(statistic(*samples), spread, strict=True)]
