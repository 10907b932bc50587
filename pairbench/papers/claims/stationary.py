"""What GRPO converges to: the algorithm's own exact gradient, followed to the end.

All closed forms are derived by us (`pairbench.tabular`), after the structure that the paper's
abstract states: a penalty like the reverse KL, pairwise preferences at two responses, closed forms
for binary questions, a direct KL penalty, and advantages that are only shifted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.papers.claims.core import Finding, Number, claim, restricted, shown, stated
from pairbench.papers.claims.exact import (
    FOUR,
    Problem,
    group_gradients,
    make_batch,
    method,
    multisets,
    ordered_groups,
    probability,
)
from pairbench.tabular import (
    Categorical,
    Std,
    binary_limit,
    binary_pair,
    group_preference,
    stationary_policy,
)

BETA = 1.5
TOLERANCE = 1e-8
Penalty = Literal["k3", "k3-bias-corrected", "direct"]
Force = Callable[[Tensor], Tensor]


def follow(force: Force, reference: Tensor, beta: float) -> Tensor:
    """Returns the policy (K,) where the ascent direction vanishes.

    Steps on the logits along gradient / policy, which changes the path and not the end; a step that
    does not shorten that vector halves those after it. Until no entry of the gradient exceeds
    1e-13, or for 2000 steps.

    Args:
        force: log-probabilities (K,) to the ascent direction (K,) in the logits.
        reference: (K,) probabilities to start from.
        beta: weight of the penalty.
    """
    logits, rate, before = reference.log(), 0.5 / beta, math.inf
    for _ in range(2000):
        log_policy = logits.log_softmax(0)
        push = force(log_policy)
        if float(push.abs().max()) <= 1e-13:
            break
        move = push / log_policy.exp()
        size = float(move.norm())
        rate = rate if size < before else rate / 2
        before = size
        logits = log_policy + move * min(rate, 0.5 / size)
    return logits.softmax(0)


def grpo_force(algorithm: Algorithm, problem: Problem, size: int) -> Force:
    """Returns GRPO's exact expected ascent direction as a function of log-probabilities.

    Over all groups of `size`, weighted by their probability under those log-probabilities;
    `problem.policy` is the reference.
    """
    arms, log_ways = multisets(len(problem.policy), size)
    score, reference = problem.reward[arms], problem.policy.log()

    def force(log_policy: Tensor) -> Tensor:
        each = group_gradients(algorithm, log_policy, arms, score, reference)
        return probability(log_policy.exp(), arms, log_ways) @ each

    return force


def limit_force(algorithm: Algorithm, problem: Problem) -> Force:
    """Returns the same for infinite groups: advantages (r - mean) / std under the policy.

    One group that holds each response once, its row weighted by K times its probability; the
    advantages are put in place of those of `prepare`, the loss is the algorithm's.
    """
    count = len(problem.policy)
    arms = torch.arange(count).unsqueeze(0)
    reference = problem.policy.log()

    def force(log_policy: Tensor) -> Tensor:
        policy = log_policy.exp()
        batch = make_batch(log_policy, arms, problem.reward[arms], reference)
        signal = dict(algorithm.prepare(batch, 0.0, 0))
        advantage = group_preference(policy, problem.reward, None, "population")
        signal["advantage"] = advantage.unsqueeze(1)
        signal["weight"] = signal["weight"] * (count * policy).unsqueeze(1)
        acting = Categorical(log_policy.unsqueeze(0))
        loss = algorithm.loss(acting(batch), batch, signal).value
        return -torch.autograd.grad(loss, acting.logits)[0][0]

    return force


@cache
def trained(penalty: Penalty, size: int | None, std: Std) -> Tensor:
    """Returns GRPO's converged policy on `FOUR`; `size` None is the limit of large groups."""
    chosen = method("grpo", group_size=size or 4, beta=BETA, penalty=penalty, std=std, eps=0.0)
    force = limit_force(chosen, FOUR) if size is None else grpo_force(chosen, FOUR, size)
    return follow(force, FOUR.policy, BETA)


def preference(policy: Tensor, size: int | None, std: Std) -> Tensor:
    """Returns P_G (K,) of `FOUR`."""
    return group_preference(policy, FOUR.reward, size, std)


def rational(policy: Tensor, size: int | None, std: Std) -> Tensor:
    """Returns ref / (1 - P_G(policy) / beta), which a k3 fixed point equals."""
    return FOUR.policy / (1.0 - preference(policy, size, std) / BETA)


def exponential(policy: Tensor, size: int | None, std: Std) -> Tensor:
    """Returns ref exp(P_G(policy) / beta), normalised, which a direct-KL fixed point equals."""
    weight = FOUR.policy * (preference(policy, size, std) / BETA).exp()
    return weight / weight.sum()


def solved(penalty: Literal["k3", "direct"], size: int | None, std: Std, beta: float) -> Tensor:
    """Returns the closed form's own solution, by Newton's method."""
    return stationary_policy(FOUR.policy, partial(preference, size=size, std=std), beta, penalty)


def away(a: Tensor, b: Tensor) -> float:
    """Returns the largest absolute difference of two policies."""
    return float((a - b).abs().max())


@claim("grpo-rational-pooling")
def rational_pooling() -> Finding:
    """Distance of the trained policy from the closed form, for G = 2, 3, 4, 8 and the limit."""
    numbers: list[Number] = []
    for size in (2, 3, 4, 8, None):
        policy = trained("k3", size, "population")
        label = f"G {size or 'infinite'}"
        goal = solved("k3", size, "population", BETA)
        distance = max(away(policy, rational(policy, size, "population")), away(policy, goal))
        numbers.append(stated(f"distance from the closed form, {label}", distance, "<=", TOLERANCE))
        numbers += probabilities(policy, label)
    far = away(trained("k3", 4, "population"), solved("direct", 4, "population", BETA))
    numbers.append(stated("distance from the exponential form, G 4", far, ">=", 0.01))
    return Finding(
        numbers,
        holds="On fixed samples the gradient of k3 is that of KL(pi_ref || pi), whose "
        "stationary policies are rational in P_G.",
    )


def probabilities(policy: Tensor, label: str) -> list[Number]:
    """Returns a policy's entries as numbers to show."""
    return [
        shown(f"pi of response {index + 1}, {label}", value)
        for index, value in enumerate(policy.tolist())
    ]


@claim("grpo-penalty-direction")
def penalty_direction() -> Finding:
    """The algorithm's penalty gradient against the two exact gradients."""
    policy = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    arms = ordered_groups(4, 2)
    tied = torch.zeros(arms.shape, dtype=torch.float64)
    weight = probability(policy, arms)
    backward = policy - FOUR.policy  # gradient of KL(ref || pi) in the logits
    log_ratio = (policy / FOUR.policy).log()
    forward = policy * (log_ratio - policy @ log_ratio)
    numbers: list[Number] = []
    for penalty, build in (("k3", stated), ("k3-bias-corrected", shown)):
        chosen = method("grpo", group_size=2, beta=1.0, penalty=penalty)
        push = -weight @ group_gradients(chosen, policy.log(), arms, tied, FOUR.policy.log())
        for name, gradient in (("KL(ref || pi)", backward), ("KL(pi || ref)", forward)):
            label = f"distance of the gradient of {penalty} from that of {name}"
            distance = away(push, gradient)
            if build is shown:
                numbers.append(shown(label, distance if distance > 1e-12 else 0.0))
            elif name == "KL(ref || pi)":
                numbers.append(stated(label, distance, "<=", 1e-12))
            else:
                numbers.append(stated(label, distance, ">=", 0.01))
    return Finding(
        numbers,
        holds="The average over fixed samples has derivative 1 - pi_ref / pi in pi. With "
        "the ratio as a factor (bias correction) it is KL(pi || pi_ref) after all.",
    )


@claim("grpo-bias-corrected")
def bias_corrected() -> Finding:
    """Where k3 times the ratio ends: the exponential form."""
    numbers: list[Number] = []
    gaps = []
    for size in (2, 8):
        policy = trained("k3-bias-corrected", size, "population")
        plain = trained("k3", size, "population")
        rational_gap = away(policy, solved("k3", size, "population", BETA))
        direct_gap = away(policy, solved("direct", size, "population", BETA))
        numbers += [
            stated(f"corrected: distance from the rational form, G {size}", rational_gap, "<=",
                   TOLERANCE),
            restricted(f"uncorrected: distance from the rational form, G {size}",
                       away(plain, solved("k3", size, "population", BETA)), "<=", TOLERANCE),
            restricted(f"corrected: distance from the exponential form, G {size}", direct_gap, "<=",
                       TOLERANCE),
        ]  # fmt: skip
        gaps.append(rational_gap)
    return Finding(
        numbers,
        only_if="With the correction, TRL's default, the penalty's gradient is that "
        "of KL(pi || pi_ref), and the end is the exponential form "
        f"({max(gaps):.3f} away in the largest entry).",
    )


@claim("grpo-direct-penalty")
def direct_penalty() -> Finding:
    """Distance of the trained policy from the closed form, for G = 2, 3, 4, 8 and the limit."""
    numbers: list[Number] = []
    for size in (2, 3, 4, 8, None):
        policy = trained("direct", size, "population")
        goal = solved("direct", size, "population", BETA)
        distance = max(away(policy, exponential(policy, size, "population")), away(policy, goal))
        label = f"G {size or 'infinite'}"
        numbers.append(stated(f"distance from the closed form, {label}", distance, "<=", TOLERANCE))
        if size in (2, 8):
            numbers += probabilities(policy, label)
    return Finding(numbers, holds="Logarithmic pooling, with P_G in the place of a reward.")


@claim("grpo-no-scale")
def no_scale() -> Finding:
    """Distances from both closed forms at G = 2 and 8."""
    numbers: list[Number] = []
    for size in (2, 8):
        share = 1 - 1 / size
        policy = trained("k3", size, "none")
        centred = FOUR.reward - policy @ FOUR.reward
        form = FOUR.policy / (1 - share * centred / BETA)
        label = f"G {size}"
        numbers.append(stated(f"own penalty: distance from the closed form, {label}",
                              away(policy, form), "<=", TOLERANCE))  # fmt: skip
        numbers += probabilities(policy, f"own penalty, {label}")
        policy = trained("direct", size, "none")
        weight = FOUR.policy * (share * FOUR.reward / BETA).exp()
        numbers.append(stated(f"direct penalty: distance from RLHF's policy, {label}",
                              away(policy, weight / weight.sum()), "<=", TOLERANCE))  # fmt: skip
        numbers += probabilities(policy, f"direct penalty, {label}")
    return Finding(numbers, holds="Without the division the preference is linear in the reward.")


@claim("grpo-sample-std")
def sample_std() -> Finding:
    """Distance of the trained policy from the closed form at beta sqrt 2."""
    policy = trained("k3", 2, "sample")
    goal = solved("k3", 2, "population", BETA * math.sqrt(2.0))
    same = away(policy, solved("k3", 2, "population", BETA))
    return Finding(
        (
            stated("distance from the closed form at beta sqrt 2", away(policy, goal), "<=",
                   TOLERANCE),
            shown("distance from the closed form at beta", same),
            *probabilities(policy, "G 2, sample std"),
        ),
        holds="Advantages are +-1/sqrt 2 instead of +-1.",
    )  # fmt: skip


@claim("grpo-pairwise")
def pairwise() -> Finding:
    """The algorithm's advantages averaged over opponents, against the two probabilities."""
    arms = ordered_groups(4, 2)
    score = FOUR.reward[arms]
    chosen = method("grpo", group_size=2, beta=0.0, std="population", eps=0.0)
    batch = make_batch(FOUR.policy.log(), arms, score)
    first = chosen.prepare(batch, 0.0, 0)["advantage"].view(-1, 2)[:, 0].view(4, 4)
    averaged = first @ FOUR.policy
    wins = (FOUR.reward[:, None] > FOUR.reward).to(torch.float64)
    margin = (wins - wins.T) @ FOUR.policy
    return Finding(
        (stated("largest difference", away(averaged, margin), "<=", 1e-12),
         *(shown(f"P_2 of response {i + 1}", value) for i, value in enumerate(margin.tolist()))),
        holds="Two scores have advantages +1 and -1 whatever their distance.",
    )  # fmt: skip


@claim("grpo-binary")
def binary() -> Finding:
    """Distances from the closed forms for beta .25, 1 and 4; and for random preferences."""
    problem = Problem(
        torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([1.0, 0.0]).double()
    )
    numbers: list[Number] = []
    for beta in (0.25, 1.0, 4.0):
        settings: dict[str, Any] = {"beta": beta, "std": "population", "eps": 0.0}
        pair = method("grpo", group_size=2, **settings)
        ends = {
            "2": (grpo_force(pair, problem, 2), binary_pair(0.3, 1.0, beta, "k3")),
            "infinite": (limit_force(pair, problem), binary_limit(0.3, beta)),
        }
        for size, (force, goal) in ends.items():
            policy = follow(force, problem.policy, beta)
            label = f"beta {beta:g}, G {size}"
            numbers += [
                stated(f"distance from the closed form, {label}", abs(float(policy[0]) - goal),
                       "<=", TOLERANCE),
                shown(f"probability of the better response, {label}", goal),
            ]  # fmt: skip
    penalties: tuple[Literal["k3", "direct"], ...] = ("k3", "direct")
    for penalty in penalties:
        policy = follow(random_force(problem, penalty, 0.7), problem.policy, 1.0)
        goal = binary_pair(0.3, 0.4, 1.0, penalty)
        label = f"margin .4, beta 1, {penalty}"
        numbers += [
            stated(f"distance from the closed form, {label}", abs(float(policy[0]) - goal), "<=",
                   TOLERANCE),
            shown(f"probability of the better response, {label}", goal),
        ]  # fmt: skip
        if penalty == "direct":
            shift = math.log(goal / (1 - goal)) - math.log(0.3 / 0.7)
            numbers.append(stated("direct: shift of the logit, minus margin over beta",
                                  abs(shift - 0.4), "<=", 1e-12))  # fmt: skip
    return Finding(numbers, holds="A quadratic in the probability, in each case.")


def random_force(problem: Problem, penalty: str, chance: float) -> Force:
    """Returns GRPO's expected direction where a beats b with a `chance`; equal arms toss a coin."""
    chosen = method("grpo", group_size=2, beta=1.0, std="population", eps=0.0, penalty=penalty)
    arms = ordered_groups(2, 2).repeat(2, 1)
    first_wins = torch.arange(8) < 4
    score = torch.stack([first_wins, ~first_wins], 1).to(torch.float64)
    ahead = (arms[:, 1] - arms[:, 0]).to(torch.float64)  # 1 where the first is a, -1 where b
    better = 0.5 + (chance - 0.5) * ahead
    outcome = torch.where(first_wins, better, 1 - better)

    def force(log_policy: Tensor) -> Tensor:
        each = group_gradients(chosen, log_policy, arms, score, problem.policy.log())
        return (probability(log_policy.exp(), arms) * outcome) @ each

    return force


@claim("grpo-large-groups")
def large_groups() -> Finding:
    """Largest gaps of P_G and of the policies; the limit's own gap must shrink about as 1 / G."""
    there = trained("k3", None, "population")
    limit = preference(there, None, "population")
    numbers: list[Number] = []
    gaps = {}
    for size in (2, 8, 16):
        gaps[size] = away(measured_preference(there, size), limit)
        numbers.append(shown(f"largest gap of P_G, G {size}", gaps[size]))
    goal = solved("k3", None, "population", BETA)
    ends = {size: away(trained("k3", size, "population"), goal) for size in (2, 4, 8, 16)}
    numbers += [shown(f"largest gap of the policy, G {size}", gap) for size, gap in ends.items()]
    numbers += [
        stated("gap of P_16 over gap of P_8", gaps[16] / gaps[8], "<=", 0.6),
        stated("gap of the policy at 16 over at 8", ends[16] / ends[8], "<=", 0.6),
        stated("gap of the policy at 8 over at 4", ends[8] / ends[4], "<=", 0.6),
    ]
    return Finding(
        numbers,
        holds="Gaps about halve as G doubles, which is slow: at G = 8 the policy is still "
        f"{ends[8]:.3f} away in one entry.",
    )


def measured_preference(policy: Tensor, size: int) -> Tensor:
    """Returns P_G (K,) from GRPO's own advantages, over all others that a response can meet."""
    chosen = method("grpo", group_size=size, beta=0.0, std="population", eps=0.0)
    others, log_ways = multisets(4, size - 1)
    weight = probability(policy, others, log_ways)
    made = []
    for own in range(4):
        arms = torch.cat([torch.full((len(others), 1), own), others], 1)
        batch = make_batch(policy.log(), arms, FOUR.reward[arms])
        advantage = chosen.prepare(batch, 0.0, 0)["advantage"].view(-1, size)[:, 0]
        made.append(weight @ advantage)
    return torch.stack(made)
