"""Small problems, groups of them (all, or seeded draws), and the gradient taken on each.

All in float64. One context with K responses; a group is G of them. The algorithms are those of the
registry, called as the trainer calls them: `prepare`, then `loss` of the policy's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch
from pairbench.experiments.suite import plan
from pairbench.registry import get_algorithm
from pairbench.seeding import generator
from pairbench.tabular import Categorical, group_counts
from pairbench.training.run import RunResult
from pairbench.training.train import train

Pairing = Literal["all", "best-worst"]


@dataclass(frozen=True)
class Problem:
    """One context: a policy (K,) over responses and their true rewards (K,)."""

    policy: Tensor
    reward: Tensor

    @property
    def value(self) -> float:
        """Expected reward of the policy."""
        return float(self.policy @ self.reward)


FOUR = Problem(
    torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([1.0, 0.3, 0.0, 0.7], dtype=torch.float64),
)
"""Four responses, the best of them the least likely: enumerated throughout."""


def method(name: str, **settings: Any) -> Algorithm:
    """Returns the registered algorithm `name` with `settings`."""
    found = get_algorithm(name)
    built = found(found.Config(**settings))
    assert isinstance(built, Algorithm)
    return built


# Groups


def ordered_groups(responses: int, size: int) -> Tensor:
    """Returns all K^G groups, (K^G, G)."""
    return torch.cartesian_prod(*[torch.arange(responses)] * size).reshape(-1, size)


def multisets(responses: int, size: int) -> tuple[Tensor, Tensor]:
    """Returns every group up to order (N, G), and the logarithm of how many orders it has (N,)."""
    counts = group_counts(size, responses)
    arms = torch.arange(responses).repeat(len(counts))
    rows = arms.repeat_interleave(counts.to(torch.int64).reshape(-1)).view(-1, size)
    return rows, math.lgamma(size + 1) - torch.lgamma(counts + 1.0).sum(1)


def probability(policy: Tensor, arms: Tensor, log_ways: Tensor | None = None) -> Tensor:
    """Returns the probability (N,) of drawing each group of `arms` (N, G) from `policy` (K,)."""
    log_weight = policy.log()[arms].sum(1)
    return (log_weight if log_ways is None else log_weight + log_ways).exp()


def preferences(score: Tensor, pairing: Pairing = "all") -> Tensor:
    """Returns (P, 2) rows (preferred, rejected) of groups with scores (N, G), group by group.

    All pairs of unequal scores, or the best and the worst member of each group that is not tied.
    """
    groups, size = score.shape
    start = size * torch.arange(groups).unsqueeze(1)
    if pairing == "best-worst":
        extremes = torch.stack([score.argmax(1), score.argmin(1)], 1) + start
        return extremes[score.amax(1) > score.amin(1)]
    first, second = torch.triu_indices(size, size, 1)
    gap = score[:, first] - score[:, second]
    rows = torch.stack([first + start, second + start], 2)
    ordered = torch.where((gap < 0).unsqueeze(2), rows.flip(2), rows)
    return ordered[gap != 0]


def make_batch(
    log_policy: Tensor,
    arms: Tensor,
    score: Tensor,
    reference: Tensor | None = None,
    pairing: Pairing = "all",
) -> Batch:
    """Returns groups drawn from one policy, each as a context of its own.

    With a context per group, the gradient in `Categorical`'s logits (N, K) has a row per group.

    Args:
        log_policy: (K,) of the sampler, or (N, K) with one for each group.
        arms: (N, G) responses.
        score: (N, G) what the oracle says.
        reference: (K,) log-probabilities of the reference policy, or None.
    """
    groups, size = arms.shape
    rows = arms.numel()
    responses = arms.reshape(-1, 1)
    log_policy = log_policy.detach()
    if log_policy.ndim == 1:
        old = log_policy.expand(rows, -1)
    else:
        old = log_policy.repeat_interleave(size, 0)
    return Batch(
        contexts=torch.arange(groups).repeat_interleave(size).unsqueeze(1),
        responses=responses,
        mask=torch.ones(rows, 1, dtype=torch.float64),
        old_logp=old.gather(1, responses),
        ref_logp=None if reference is None else reference[responses],
        old_dist=old.unsqueeze(1),
        ref_dist=None if reference is None else reference.expand(rows, 1, -1),
        group=torch.arange(groups).repeat_interleave(size),
        score=score.reshape(-1),
        pairs=preferences(score, pairing),
    )


def group_gradients(
    algorithm: Algorithm,
    log_policy: Tensor,
    arms: Tensor,
    score: Tensor,
    reference: Tensor | None = None,
    pairing: Pairing = "all",
    iteration: int = 0,
) -> Tensor:
    """Returns the ascent direction of each group, (N, K): minus the gradient in the K logits.

    Taken at the sampler, where every divergence to it is zero. Losses are means over groups.
    """
    batch = make_batch(log_policy, arms, score, reference, pairing)
    policy = Categorical(log_policy.expand(len(arms), -1))
    with torch.no_grad():
        signal = algorithm.prepare(batch, 0.0, iteration)
    loss = algorithm.loss(policy(batch), batch, signal).value
    if not loss.requires_grad:
        return torch.zeros_like(policy.logits)
    return -len(arms) * torch.autograd.grad(loss, policy.logits)[0]


def expected_gradient(
    algorithm: Algorithm,
    problem: Problem,
    size: int,
    reference: Tensor | None = None,
    pairing: Pairing = "all",
) -> Tensor:
    """Returns the exact expected ascent direction (K,) over all groups of `size`, no noise."""
    arms, log_ways = multisets(len(problem.policy), size)
    weight = probability(problem.policy, arms, log_ways)
    each = group_gradients(
        algorithm, problem.policy.log(), arms, problem.reward[arms], reference, pairing
    )
    expected: Tensor = weight @ each
    return expected


def run_once(
    algorithm: str, task: str, steps: int, settings: Iterable[str], evaluations: int = 1
) -> RunResult:
    """Trains with seed 0 and no probes.

    `settings` are "key=value" of the algorithm, or "task.key=value".
    """
    planned = plan(
        algorithms=[algorithm],
        tasks=[task],
        seeds=[0],
        budget={"steps": steps},
        protocol={"evaluations": evaluations, "probes": 0},
        overrides=[s if s.startswith(task) else f"{algorithm}.{s}" for s in settings],
    )
    return train(planned.specs[0])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Returns the cosine of the angle between the last axes."""
    angle: Tensor = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    return angle


# Monte Carlo

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
