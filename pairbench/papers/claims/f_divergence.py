"""f-GRPO: the variational bound, what a normalised policy can reach of it, and its links."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch, Signal
from pairbench.objectives import Divergence, conjugate_critic, critic
from pairbench.papers.claims.core import Finding, Number, claim, restricted, shown, stated
from pairbench.papers.claims.exact import FOUR, Problem, expected_gradient, make_batch, method
from pairbench.policy import PolicyOutput
from pairbench.seeding import generator

EXACT = 1e-12
P = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
FAR = 80.0  # where tanh(u / 2) / 2 is 1/2 in float64

F: dict[Divergence, Callable[[Tensor], Tensor]] = {
    "kl": lambda t: t * t.log(),
    "kl-canonical": lambda t: t * t.log(),
    "reverse-kl": lambda t: -t.log(),
    "pearson": lambda t: (t - 1).square(),
    "hellinger": lambda t: (t.sqrt() - 1).square(),
    "js": lambda t: t * t.log() - (1 + t) * ((1 + t) / 2).log(),
    "tv": lambda t: (t - 1).abs() / 2,
}
"""f of each divergence: D_f(P || Q) = E_Q[f(P / Q)]."""

BEST: dict[Divergence, Callable[[Tensor], Tensor]] = {
    "kl": lambda t: t.log() + 1,
    "pearson": lambda t: 2 * (t - 1),
    "tv": lambda t: FAR * (t - 1).sign(),
}
"""u at which g(u) = f'(t), t = P / Q; log t for the links that are not listed (canonical)."""


def divergence(name: Divergence) -> float:
    """Returns D_f(P || Q)."""
    return float(Q @ F[name](P / Q))


def bound(algorithm: Algorithm, u: Tensor) -> Tensor:
    """Returns E_P[g(u)] - E_Q[f*(g(u))] as f-GRPO's own loss gives it, for u (K,) or (N, K).

    N groups of 2 K rows: each response once above and once below the mean, with P and -Q in the
    place of a w; log pi - log pi_ref is u / beta. For (N, K) the mean over groups.
    """
    table = u.view(-1, 4)
    batch, signal = both_sides(len(table))
    beta: float = algorithm.config.beta  # type: ignore[attr-defined]
    logp = (table / beta).repeat(1, 2).view(-1, 1)
    return -algorithm.loss(PolicyOutput(logp), batch, signal).value


@cache
def both_sides(groups: int) -> tuple[Batch, Signal]:
    """Returns the batch and the weights of `bound`."""
    arms = torch.arange(4).repeat(groups, 2)
    zero = torch.zeros(4, dtype=torch.float64)
    score = torch.zeros(groups, 8, dtype=torch.float64)
    batch = make_batch(zero, arms, score, reference=zero)
    return batch, {"weight": torch.cat([P, -Q]).repeat(groups)}


def f_grpo(name: Divergence, size: int = 8, beta: float = 0.1) -> Algorithm:
    """Returns f-GRPO with a divergence."""
    return method("f-grpo", divergence=name, group_size=size, beta=beta)


@claim("f-bound-reached")
def bound_reached() -> Finding:
    """Gap and slope at the optimum, and the largest excess elsewhere."""
    numbers: list[Number] = []
    ratio = P / Q
    random = torch.from_numpy(generator(0, "claims:f-bound").normal(size=(300, 4)))
    for name in F:
        algorithm, goal = f_grpo(name), divergence(name)
        best = BEST.get(name, torch.log)(ratio).requires_grad_()
        value = bound(algorithm, best)
        (slope,) = torch.autograd.grad(value, best)
        gap = abs(float(value.detach()) - goal)
        excess = max(float(bound(algorithm, u)) for u in 2 * random) - goal
        numbers += [
            stated(f"|bound - D_f| at the optimal critic, {name}", gap, "<=", EXACT),
            stated(f"largest slope there, {name}", slope.abs().max(), "<=", EXACT),
            stated(f"largest excess over D_f elsewhere, {name}", excess, "<=", 0.0),
            shown(f"D_f, {name}", goal),
        ]  # fmt: skip
    return Finding(numbers, holds="Every link and its f* o g belong together.")


@claim("f-policy-as-critic")
def policy_as_critic() -> Finding:
    """Share of D_f that normalised policies reach, against free critics."""
    numbers: list[Number] = []
    shares = []
    smooth: tuple[Divergence, ...] = ("kl-canonical", "reverse-kl", "pearson", "hellinger", "js")
    for name in smooth:
        algorithm, goal = f_grpo(name), divergence(name)
        best = BEST.get(name, torch.log)(P / Q)
        logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        for _ in range(400):
            u = 0.1 * (logits.log_softmax(0) + math.log(4.0))
            value = bound(algorithm, u)
            (slope,) = torch.autograd.grad(value, logits)
            with torch.no_grad():
                logits += 30.0 * slope
        share = float(value.detach()) / goal
        free = float(bound(algorithm, best)) / goal
        numbers += [
            stated(f"share of D_f reached by policies, {name}", share, ">=", 1 - 1e-6),
            restricted(f"share of D_f reached by free critics, {name}", free, ">=", 1 - 1e-6),
            shown(f"slope left, {name}", slope.abs().max()),
        ]
        shares.append(share)
    return Finding(
        numbers,
        only_if="log(P / Q) is not beta log(pi / pi_ref) of any distribution pi: its "
        "exponentials would have to average to one. Policies reach "
        f"{min(shares):.0%} to {max(shares):.0%} of the divergence.",
    )


@claim("f-grpo-improves")
def improves() -> Finding:
    """Falls of the exact expected reward along f-GRPO's exact gradient."""
    numbers: list[Number] = []
    reached = []
    for name in F:
        algorithm, problem, falls = f_grpo(name, size=4), FOUR, 0
        for _ in range(60):
            push = expected_gradient(algorithm, problem, 4, reference=FOUR.policy.log())
            after = Problem((problem.policy.log() + push).softmax(0), problem.reward)
            falls += after.value < problem.value - EXACT
            problem = after
        numbers += [
            stated(f"steps that lower it, {name}", falls, "<=", 0.0),
            stated(f"expected reward at the end, {name} (at the start {FOUR.value:.2f})",
                   problem.value, ">=", FOUR.value),
        ]  # fmt: skip
        reached.append(problem.value)
    return Finding(
        numbers,
        holds="Responses above their group's mean are pushed up and the others down: from "
        f"{FOUR.value:.2f} to between {min(reached):.2f} and {max(reached):.2f} here.",
    )


@claim("f-total-variation-link")
def total_variation_link() -> Finding:
    """Range of both links, and what they make of the bound where f* is taken for s all the same."""
    grid = torch.linspace(-10.0, 10.0, 2001, dtype=torch.float64)
    ours, broken = critic(grid, "tv"), torch.tanh(grid / 2)
    best = BEST["tv"](P / Q)
    goal = divergence("tv")
    ratio = float((P - Q) @ torch.tanh(best / 2)) / goal
    own = float(bound(f_grpo("tv"), best)) / goal
    leaves = float(grid[broken > 0.5].min())
    return Finding(
        (
            stated("largest |tanh(u / 2)|", broken.abs().max(), "<=", 0.5),
            stated("its bound over the total variation, f*(s) taken for s", ratio, "<=", 1 + EXACT),
            restricted("largest |tanh(u / 2) / 2|, the link of this repository", ours.abs().max(),
                       "<=", 0.5),
            restricted("its bound over the total variation", own, "<=", 1 + EXACT),
            shown("u from which tanh(u / 2) leaves the domain of f*", leaves),
        ),
        only_if=f"Beyond |u| = {leaves:.2f} tanh(u / 2) leaves the domain of f*, "
        f"where f* is infinite; ignoring that, the bound is {ratio:.1f} times the divergence.",
    )  # fmt: skip


@claim("f-links-increase")
def links_increase() -> Finding:
    """Least slope of f* o g on both ranges, and both slopes at 0."""
    numbers: list[Number] = []
    for name in F:
        grid = torch.linspace(-4.0, 4.0, 801, dtype=torch.float64, requires_grad=True)
        (up,) = torch.autograd.grad(critic(grid, name).sum(), grid)
        (down,) = torch.autograd.grad(conjugate_critic(grid, name).sum(), grid)
        near = grid.detach().abs() <= 2.0
        numbers += [
            stated(f"least slope of f* o g on [-4, 4], {name}", down.min(), ">=", 0.0),
            restricted(f"least slope of f* o g on [-2, 2], {name}", down[near].min(), ">=", -EXACT),
            shown(f"slope at 0 for responses above the mean, {name}", up[400]),
            shown(f"slope at 0 for responses below the mean, {name}", down[400]),
        ]
    return Finding(
        numbers,
        only_if="Pearson's with the identity link turns at u = -2 and pulls responses "
        "back up beyond it. At 0 all but KL's identity link push both sides alike.",
    )
