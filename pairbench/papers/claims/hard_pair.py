"""Hard-Pair-GRPO: what its target does to other responses, how far it can go, what it keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

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
    ordered_groups,
    probability,
    run_once,
)
from pairbench.policy import PolicyOutput
from pairbench.registry import get_task
from pairbench.tabular import Categorical

EXACT = 1e-12
DELTA, GAMMA = 0.02, 0.98


def target(algorithm: Algorithm, problem: Problem, arms: Tensor, iteration: int = 0) -> Tensor:
    """Returns the algorithm's target for each group: (N, K) tabular, (N, G) on the group."""
    batch = make_batch(problem.policy.log(), arms, problem.reward[arms])
    size = arms.shape[1]
    with torch.no_grad():
        signal = algorithm.prepare(batch, 0.0, iteration)["target"]
    return signal[::size] if signal.ndim == 2 else signal.view(-1, size)


@cache
def bandit() -> list[Problem]:
    """Returns the contexts of preference-bandit: reference policies over ten arms, rewards."""
    found: Any = get_task("preference-bandit")
    task = found(found.Config())
    return [
        Problem(policy, reward)
        for policy, reward in zip(
            task.reference.log_probabilities().exp(), task.rewards, strict=True
        )
    ]


@claim("hard-pair-irrelevant")
def irrelevant() -> Finding:
    """At the sampler, -dKL(p || q)/dz_c = p_c KL(p || q) for c outside the pair: pushed up."""
    arms = ordered_groups(4, 2)
    arms = arms[FOUR.reward[arms[:, 0]] != FOUR.reward[arms[:, 1]]]
    outside = torch.ones(len(arms), 4, dtype=torch.bool).scatter(1, arms, False)
    pushes = {}
    for fit in ("reverse", "forward"):
        hard = method("hard-pair-grpo", target="tabular", fit=fit)
        pushes[fit] = group_gradients(hard, FOUR.policy.log(), arms, FOUR.reward[arms])
    hard = method("hard-pair-grpo", target="tabular")
    edited = target(hard, FOUR, arms)
    divergence = (FOUR.policy * (FOUR.policy / edited).log()).sum(1, keepdim=True)
    law = (FOUR.policy * divergence)[outside]
    reverse = pushes["reverse"][outside]
    members = group_members("reverse")
    return Finding(
        (
            stated("largest |gradient| outside the pair, KL(pi || pi_tar)", reverse.abs().max(),
                   "<=", EXACT),
            restricted("largest |gradient| outside the pair, KL(pi_tar || pi)",
                       pushes["forward"][outside].abs().max(), "<=", EXACT),
            restricted("error of p_c KL(p || pi_tar)", (reverse - law).abs().max(), "<=", EXACT),
            restricted("smallest gradient outside the pair: its sign is up", reverse.min(), ">=",
                       0.0),
            shown("group of four: gradient of the preferred", members[0]),
            shown("group of four: gradient of the rejected", members[1]),
            shown("group of four: gradient of an irrelevant member", members[2]),
        ),
        only_if="Under the paper's direction each response outside the pair is "
        "pushed up by its probability times KL(pi_old || pi_tar), here up to "
        f"{float(reverse.max()):.2g}: second order in delta, not zero.",
    )  # fmt: skip


def group_members(fit: str) -> tuple[float, float, float]:
    """Returns the log-ratio gradients of preferred, rejected and irrelevant members; G = 4."""
    log_policy = torch.full((4,), -math.log(4.0), dtype=torch.float64)
    arms = torch.arange(4).unsqueeze(0)
    score = torch.tensor([[1.0, 0.5, 0.5, 0.0]], dtype=torch.float64)
    hard = method("hard-pair-grpo", group_size=4, fit=fit, mode="best-worst")
    batch = make_batch(log_policy, arms, score, pairing="best-worst")
    logp = batch.old_logp.clone().requires_grad_()
    loss = hard.loss(PolicyOutput(logp), batch, hard.prepare(batch, 0.0, 0)).value
    push = -torch.autograd.grad(loss, logp)[0][:, 0]
    return float(push[0]), float(push[3]), float(push[1])


@claim("hard-pair-first-gradient")
def first_gradient() -> Finding:
    """Ratios of the gradients of every decided group, against the two constants."""
    arms = ordered_groups(4, 2)
    score = FOUR.reward[arms]
    log_policy = FOUR.policy.log()
    soft = group_gradients(
        method("soft-pair-grpo", group_size=2, beta=0.0), log_policy, arms, score
    )
    numbers: list[Number] = []
    for fit, factor in (("reverse", math.atanh(2 * DELTA)), ("forward", 2 * DELTA)):
        hard = method("hard-pair-grpo", fit=fit)
        push = group_gradients(hard, log_policy, arms, score)
        numbers += [
            stated(f"largest error of the factor, {fit} fit",
                   (push - factor * soft).abs().max(), "<=", EXACT),
            shown(f"gradient of the preferred, {fit} fit", factor / 2),
        ]  # fmt: skip
    return Finding(
        numbers, holds="What is new in Hard-Pair is not its first gradient but where the fit stops."
    )


@claim("hard-pair-feasible")
def feasible() -> Finding:
    """Probability that a drawn pair's rejected arm has at most delta_0; least target with cap."""
    beyond = total = moved = 0.0
    least = math.inf
    hard = method("hard-pair-grpo", target="tabular", delta_0=DELTA)
    for problem in bandit():
        arms = ordered_groups(10, 2)
        arms = arms[arms[:, 0] != arms[:, 1]]
        weight = probability(problem.policy, arms)
        reward = problem.reward[arms]
        rejected = arms.gather(1, reward.argmin(1, keepdim=True))[:, 0]
        beyond += float(weight @ (problem.policy[rejected] <= DELTA).to(torch.float64))
        total += float(weight.sum())
        edited = target(hard, problem, arms)
        least = min(least, float(edited.min()))
        moved += float(weight @ (edited - problem.policy).clamp_min(0.0).sum(1))
    share = beyond / total
    tokens = math.floor(math.log(DELTA) / math.log(0.5))
    return Finding(
        (
            stated("share of pairs whose rejected arm has probability at most .02", share, "<=",
                   0.0),
            restricted("least probability of a capped target", least, ">=", 1e-9),
            shown("mean mass moved with the cap", moved / total),
            shown("longest response of tokens of probability 1/2 that leaves room, tokens", tokens),
        ),
        only_if="Uncapped, the rejected response would need a negative probability in "
        f"{share:.1%} of pairs of a ten-armed bandit; a text of more than {tokens} tokens of "
        "probability 1/2 never has .02 to give.",
    )  # fmt: skip


def mass_in_all(gamma: float, iterations: int) -> float:
    """Returns the total mass that the algorithm's targets move over `iterations`."""
    problem = Problem(torch.tensor([0.5, 0.5]).double(), torch.tensor([1.0, 0.0]).double())
    hard = method("hard-pair-grpo", target="tabular", delta_0=DELTA, gamma=gamma)
    arms = torch.tensor([[0, 1]])
    return sum(
        float((target(hard, problem, arms, step) - problem.policy)[0, 0])
        for step in range(iterations)
    )


def ideal_run(gamma: float, iterations: int) -> Tensor:
    """Returns the bandit's policies (X, K) after perfect fits to the mean target of all pairs."""
    hard = method("hard-pair-grpo", target="tabular", delta_0=DELTA, gamma=gamma)
    problems = bandit()
    policy = torch.stack([problem.policy for problem in problems])
    reward = torch.stack([problem.reward for problem in problems])
    contexts, responses = policy.shape
    pairs = torch.triu_indices(responses, responses, 1).T
    arms = pairs.repeat(contexts, 1)
    score = reward[:, pairs].flatten(0, 1)
    for step in range(iterations):
        weight = 2 * policy[:, pairs].prod(2)  # (X, pairs); equal arms move nothing
        batch = make_batch(policy.log().repeat_interleave(len(pairs), 0), arms, score)
        edited = hard.prepare(batch, 0.0, step)["target"][::2].view(contexts, len(pairs), -1)
        policy = policy + torch.einsum("xn,xnk->xk", weight, edited - policy.unsqueeze(1))
    return policy


LONG = 700


@claim("hard-pair-movable-mass")
def movable_mass() -> Finding:
    """Sum of delta_t, and the best arm's probability at the end with and without decay."""
    mass = mass_in_all(GAMMA, LONG)
    ends = {}
    for gamma in (GAMMA, 1.0):
        end = ideal_run(gamma, LONG)
        ends[gamma] = [float(p[b.reward.argmax()]) for p, b in zip(end, bandit(), strict=True)]
    settings = [(0.01, 0.99), (0.02, 0.98), (0.05, 0.95)]
    return Finding(
        (
            stated("smallest final probability of the best arm, gamma .98", min(ends[GAMMA]), ">=",
                   0.99),
            restricted("smallest final probability of the best arm, gamma 1", min(ends[1.0]), ">=",
                       0.99),
            shown("mean final probability of the best arm, gamma .98", sum(ends[GAMMA]) / 8),
            shown("mass that all steps together can move, delta_0 .02, gamma .98", mass),
            *(
                shown(f"delta_0 / (1 - gamma) at delta_0 {d:g}, gamma {g:g}", d / (1 - g))
                for d, g in settings
            ),
        ),
        only_if=f"The steps together move at most {mass:.3f} of probability, so they "
        f"stop wherever that runs out: at {min(ends[GAMMA]):.3f} for the best arm in one "
        "context. All three settings of the paper's ablation move the same total.",
    )  # fmt: skip


@claim("hard-pair-self-limiting")
def self_limiting() -> Finding:
    """Ratio of importance ratios at the end of the fit; and how far Soft-Pair goes meanwhile."""
    goal = (1 + 2 * DELTA) / (1 - 2 * DELTA)
    numbers: list[Number] = []
    for fit in ("reverse", "forward"):
        hard = method("hard-pair-grpo", fit=fit)
        end, left = fitted(hard, 200)
        numbers += [
            stated(f"distance of rho_p / rho_r from {goal:.6f}, {fit} fit", abs(end - goal), "<=",
                   1e-8),
            stated(f"gradient left, {fit} fit", left, "<=", 1e-9),
        ]  # fmt: skip
    soft, _ = fitted(method("soft-pair-grpo", group_size=2, beta=0.0), 200)
    clip = 1.2 / 0.8
    numbers += [
        shown("rho_p / rho_r at the end of the fit", goal),
        shown("rho_p / rho_r after the same steps, Soft-Pair (its clip is at 1.5)", soft),
        stated("Soft-Pair's rho_p / rho_r over its clip's 1.5", soft / clip, ">=", 1.0),
    ]
    return Finding(
        numbers, holds="The gradient vanishes at the target; Soft-Pair's goes on up to its clip."
    )


def fitted(algorithm: Algorithm, steps: int) -> tuple[float, float]:
    """Returns rho_p / rho_r of a pair after steps of size 1, and the last gradient's norm."""
    batch = make_batch(FOUR.policy.log(), torch.tensor([[0, 1]]), FOUR.reward[[0, 1]][None])
    policy = Categorical(FOUR.policy.log().unsqueeze(0))
    signal = algorithm.prepare(batch, 0.0, 0)
    norm = math.inf
    for _ in range(steps):
        loss = algorithm.loss(policy(batch), batch, signal).value
        gradient = torch.autograd.grad(loss, policy.logits)[0]
        norm = float(gradient.norm())
        with torch.no_grad():
            policy.logits -= gradient
    ratio = (policy.log_probabilities()[0] - FOUR.policy.log()).exp()
    return float(ratio[0] / ratio[1]), norm


@claim("hard-pair-kl-budget")
def kl_budget() -> Finding:
    """Share of iterations above beta and the largest divergence, by learning rate."""
    numbers: list[Number] = []
    worst = 0.0
    for rate, build in ((0.001, restricted), (0.03, stated)):
        moved = divergences(rate)
        over = [kl > 0.01 for kl in moved]
        share = sum(over) / len(over)
        numbers += [
            build(f"largest KL of {len(moved)} updates, lr {rate:g}", max(moved), "<=", 0.01),
            shown(f"share of updates above .01, lr {rate:g}", share,
                  math.sqrt(share * (1 - share) / len(over))),
        ]  # fmt: skip
        worst = max(worst, max(moved))
    return Finding(
        numbers,
        only_if="A finite alpha prices the excess and does not forbid it: at a larger "
        f"learning rate the divergence reaches {worst:.3f} nats.",
    )


def divergences(rate: float) -> list[float]:
    """Returns KL(pi_new || pi_old) of each iteration of a Hard-Pair run on the noisy bandit."""
    settings = [f"lr={rate}", "beta=0.01", "delta_0=0.8", "relative=true", "gamma=1"]
    made = run_once("hard-pair-grpo", "preference-bandit@noisy", 256 * 40, settings)
    return [float(value) for value in made.series["kl_old"]]


@claim("hard-pair-units")
def units() -> Finding:
    """Relative edit delta / pi(a) in two units, and the loss and gradient of the group form."""
    action = torch.tensor([0.4, -0.3, 0.1, 0.9], dtype=torch.float64)
    log_density = gaussian(action, 0.0)
    units_ = {"thousandths": torch.full_like(action, math.log(1000.0)),
              "tanh": (1 - action.tanh().square()).log()}  # fmt: skip
    edit = DELTA / log_density.exp()
    shift = {name: DELTA / (log_density - log_jacobian).exp() for name, log_jacobian in
             units_.items()}  # fmt: skip
    numbers = [
        stated(f"largest |log of the factor on the relative edit|, {name}",
               (shift[name] / edit).log().abs().max(), "<=", EXACT)
        for name in units_
    ]  # fmt: skip
    for base, build in (("snis", restricted), ("restricted", shown)):
        plain = group_loss(log_density, base)
        for name, log_jacobian in units_.items():
            other = group_loss(log_density - log_jacobian, base)
            change = float((plain - other).abs().max())
            label = f"change of loss and gradient on the group, {base} base, {name}"
            numbers.append(
                shown(label, change) if build is shown else restricted(label, change, "<=", EXACT)
            )
    factor = float((shift["thousandths"] / edit).max())
    return Finding(
        numbers,
        only_if="A density has units: counted in thousandths of a unit, the same "
        f"delta is {factor:.0f} times as much of the density it edits. The group form with the "
        "uniform base is unchanged; pi_old restricted to the group is not, under tanh.",
    )


def gaussian(action: Tensor, mean: float) -> Tensor:
    """Returns the log-density of `action` under a Gaussian of standard deviation .5."""
    return -2.0 * (action - mean).square() - math.log(0.5 * math.sqrt(2.0 * math.pi))


def group_loss(log_density: Tensor, base: str) -> Tensor:
    """Returns Hard-Pair's loss and its gradient by log-density, (1 + G,), mean moved to .1."""
    action = torch.tensor([0.4, -0.3, 0.1, 0.9], dtype=torch.float64)
    move = gaussian(action, 0.1) - gaussian(action, 0.0)
    score = torch.tensor([[1.0, 0.0, 0.5, 2.0]], dtype=torch.float64)
    hard = method("hard-pair-grpo", group_size=4, base=base, fit="forward", trust_region=False)
    batch = make_batch(torch.zeros(4, dtype=torch.float64), torch.arange(4)[None], score)
    batch = replace(batch, old_logp=log_density.unsqueeze(1))
    logp = (log_density + move).unsqueeze(1).requires_grad_()
    loss = hard.loss(PolicyOutput(logp), batch, hard.prepare(batch, 0.0, 0)).value
    gradient = torch.autograd.grad(loss, logp)[0]
    return torch.cat([loss.detach().view(1), gradient[:, 0]])
