"""Does an update raise the expected reward? Counted exactly, and held against the bound."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pairbench.papers.claims.core import Finding, Number, claim, restricted, shown, stated
from pairbench.papers.claims.exact import (
    FOUR,
    Pairing,
    Problem,
    expected_gradient,
    group_gradients,
    method,
    multisets,
    probability,
    run_once,
)

SIZE = 4
EXACT = 1e-12
GRPO: dict[str, Any] = {"beta": 0.0, "std": "population", "eps": 0.0}
METHODS: dict[str, tuple[str, dict[str, Any], Pairing]] = {
    "GRPO": ("grpo", GRPO, "all"),
    "Dr. GRPO": ("grpo", {**GRPO, "std": "none", "aggregation": "dr_grpo"}, "all"),
    "Soft-Pair": ("soft-pair-grpo", {}, "all"),
    "Hard-Pair, group": ("hard-pair-grpo", {"delta_0": 0.2, "fit": "forward"}, "all"),
    "Hard-Pair, paper-exact": ("hard-pair-grpo", {"target": "tabular"}, "best-worst"),
}
STEPS = (0.1, 1.0, 10.0)


def updates(name: str, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns change of expected reward, KL(new || old) and probability of each group's update.

    One gradient step of size `step` on the logits, from the gradient of a single group of four.
    """
    algorithm, settings, pairing = METHODS[name]
    arms, log_ways = multisets(4, SIZE)
    weight = probability(FOUR.policy, arms, log_ways)
    log_policy = FOUR.policy.log()
    chosen = method(algorithm, group_size=SIZE, **settings)
    push = group_gradients(chosen, log_policy, arms, FOUR.reward[arms], pairing=pairing)
    new = (log_policy + step * push).log_softmax(1)
    moved = (new.exp() * (new - log_policy)).sum(1)
    return new.exp() @ FOUR.reward - FOUR.value, moved, weight


def falls_of_exact_steps(name: str, step: float, count: int) -> int:
    """Returns how many of `count` steps along the exact expected gradient lower the reward."""
    algorithm, settings, pairing = METHODS[name]
    chosen = method(algorithm, group_size=SIZE, **settings)
    problem, falls = FOUR, 0
    for _ in range(count):
        push = expected_gradient(chosen, problem, SIZE, pairing=pairing)
        after = Problem((problem.policy.log() + step * push).softmax(0), problem.reward)
        falls += after.value < problem.value - EXACT
        problem = after
    return falls


def worst_group(name: str, step: float) -> str:
    """Returns in words the group whose update lowers the expected reward most."""
    arms, _ = multisets(4, SIZE)
    change, _, _ = updates(name, step)
    worst = int(change.argmin())
    rewards = ", ".join(f"{r:g}" for r in FOUR.reward[arms[worst]].tolist())
    return f"rewards {rewards}, step {step:g}, change {float(change[worst]):.2g}"


@claim("improvement-one-update")
def one_update() -> Finding:
    """Probability that a single group's update lowers the exact expected reward."""
    numbers: list[Number] = []
    shares = []
    for name in METHODS:
        for step in STEPS:
            change, _, weight = updates(name, step)
            share = float(weight @ (change < -EXACT).to(torch.float64))
            numbers.append(
                stated(f"share of updates that lower it, {name}, step {step:g}", share, "<=", 0.0)
            )
            shares.append(share)
    for name in METHODS:
        falls = falls_of_exact_steps(name, 0.1, 50)
        numbers.append(restricted(f"falls among 50 exact expected steps, {name}", falls, "<=", 0))
    return Finding(
        numbers,
        only_if="A group knows only its own members. Counterexamples, GRPO: "
        f"{worst_group('GRPO', 0.1)}; {worst_group('GRPO', 10.0)}. By method and step "
        f"{min(shares):.1%} to {max(shares):.1%} of single updates lower the expected reward; "
        "the expectation over groups rises.",
    )


@claim("improvement-bound")
def bound() -> Finding:
    """Largest fall, and the largest ratio of a fall to its bound, over methods and steps."""
    ratio = fall = 0.0
    numbers: list[Number] = []
    for name in METHODS:
        worst = 0.0
        for step in STEPS:
            change, moved, _ = updates(name, step)
            falls = (-change).clamp_min(0.0)
            limit = (moved.clamp_min(0.0) / 2).sqrt()
            some = falls > EXACT
            if bool(some.any()):
                worst = max(worst, float((falls[some] / limit[some]).max()))
                fall = max(fall, float(falls.max()))
        numbers.append(stated(f"largest fall over its bound, {name}", worst, "<=", 1.0))
        ratio = max(ratio, worst)
    numbers.append(shown("largest fall of the expected reward, of a range of 1", fall))
    return Finding(
        numbers,
        holds="It is a bound on losses and no promise of gains: the largest fall is "
        f"{ratio:.0%} of what the bound allows.",
    )


ITERATIONS = 30
RATES = (0.003, 0.03, 0.3)
RUNS = {
    "GRPO": ("grpo", []),
    "Dr. GRPO": ("grpo", ["std=none", "aggregation=dr_grpo"]),
    "Soft-Pair": ("soft-pair-grpo", []),
    "Hard-Pair": ("hard-pair-grpo", []),
}


def changes(name: str, rate: float) -> list[float]:
    """Returns the change of exact expected reward over each iteration of a run on the bandit."""
    algorithm, settings = RUNS[name]
    own, steps = [f"lr={rate}", *settings], 256 * ITERATIONS
    record = run_once(algorithm, "preference-bandit@noisy", steps, own, ITERATIONS).record
    rewards = [record.provenance["task"]["reference"], *(point.reward for point in record.curve)]
    return [after - before for before, after in pairwise(rewards)]


@claim("improvement-in-training")
def in_training() -> Finding:
    """Share of iterations after which the exact expected reward is lower, by method and rate."""
    numbers: list[Number] = []
    shares = []
    for rate in RATES:
        for name in RUNS:
            moved = changes(name, rate)
            falls = sum(change < 0 for change in moved)
            build = restricted if rate == min(RATES) else stated
            label = f"{name}, lr {rate:g}"
            numbers.append(build(f"falls among {len(moved)} iterations, {label}", falls, "<=", 0.0))
            if rate == max(RATES):
                share = falls / len(moved)
                error = math.sqrt(share * (1 - share) / len(moved))
                numbers += [
                    shown(f"share of iterations that lower it, {label}", share, error),
                    shown(f"largest fall, {label}", max(0.0, -min(moved))),
                ]
                shares.append(share)
    return Finding(
        numbers,
        only_if="Steps must be small: at the largest rate "
        f"{min(shares):.0%} to {max(shares):.0%} of iterations lower it, by method.",
        fails="Batches are finite and scores noisy, so iterations that lower it occur at "
        f"every rate, {min(shares):.0%} to {max(shares):.0%} of them at the largest.",
    )
