"""Soft-Pair-GRPO and GRPO: when their gradients agree, and what a step does to a pair."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pairbench.batch import Batch
from pairbench.papers.claims.core import Finding, Number, claim, restricted, shown, stated
from pairbench.papers.claims.exact import (
    FOUR,
    cosine,
    draw_groups,
    group_gradients,
    jackknife,
    make_batch,
    method,
    multisets,
    ordered_groups,
    probability,
    run_once,
)
from pairbench.policy import PolicyOutput

EXACT = 1e-12  # float64 rounding of a few operations


def both(size: int, std: str = "population", eps: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Returns GRPO's and Soft-Pair's ascent directions (N, K) on every group, and its chance."""
    arms, log_ways = multisets(4, size)
    log_policy, score = FOUR.policy.log(), FOUR.reward[arms]
    grpo = method("grpo", group_size=size, beta=0.0, std=std, eps=eps)
    soft = method("soft-pair-grpo", group_size=size, beta=0.0)
    return (
        group_gradients(grpo, log_policy, arms, score),
        group_gradients(soft, log_policy, arms, score),
        probability(FOUR.policy, arms, log_ways),
    )


@claim("soft-pair-two-responses")
def two_responses() -> Finding:
    """Advantages are +-1 with population std, +-1/sqrt 2 with sample std, less with eps."""
    grpo, soft, _ = both(2)
    sample, _, _ = both(2, std="sample")
    floored, _, _ = both(2, eps=1e-4)
    some = soft.norm(dim=1) > 0
    factors = [
        float((g[some].norm(dim=1) / soft[some].norm(dim=1)).min()) for g in (sample, floored)
    ]
    return Finding(
        (
            restricted("largest difference, population std, eps 0", gap(grpo, soft), "<=", EXACT),
            stated("largest difference, sample std (libraries' default)", gap(sample, soft), "<=",
                   EXACT),
            stated("largest difference, population std, eps 1e-4", gap(floored, soft), "<=", EXACT),
            shown("GRPO's gradient over Soft-Pair's, sample std", factors[0]),
            shown("GRPO's gradient over Soft-Pair's, eps 1e-4, smallest", factors[1]),
        ),
        only_if="The standard deviation must be the population's, without eps: the "
        f"sample's scales GRPO's gradient by {factors[0]:.4f}, and an eps of 1e-4 by "
        f"{factors[1]:.5f} where the scores are close.",
    )  # fmt: skip


def gap(a: Tensor, b: Tensor) -> float:
    """Returns the largest absolute difference."""
    return float((a - b).abs().max())


@claim("soft-pair-proportional")
def proportional() -> Finding:
    """Cosines between the two gradients, group by group and of their expectations, by G."""
    numbers: list[Number] = []
    worst = mean = 1.0
    for size in (2, 3, 4, 8):
        grpo, soft, weight = both(size, std="sample" if size == 2 else "population")
        some = soft.norm(dim=1) > EXACT
        each = cosine(grpo[some], soft[some])
        least, whole = float(each.min()), float(cosine(weight @ grpo, weight @ soft))
        if size == 2:
            numbers.append(restricted("1 - cosine, least similar group, G = 2", 1 - least, "<=",
                                      EXACT))  # fmt: skip
            continue
        numbers += [
            stated(f"1 - cosine, least similar group, G = {size}", 1 - least, "<=", EXACT),
            shown(f"cosine of the expected gradients, G = {size}", whole),
        ]
        worst, mean = min(worst, least), min(mean, whole)
    return Finding(
        numbers,
        only_if="From three responses on, GRPO's advantages follow the distances of "
        f"the scores and Soft-Pair's only their order: the cosine falls to {worst:.3f} in a "
        f"single group and to {mean:.4f} in expectation.",
    )


@claim("soft-pair-decomposition")
def decomposition() -> Finding:
    """(R_p - R_r)/(2 sd) (g_p - g_r) + ((R_p + R_r)/2 - mean)/sd (g_p + g_r), summed over pairs.

    With disjoint pairs {0, 1} and {2, 3} of each ordered group. GRPO's own gradient is the left
    side; g is the gradient of log pi by logits, one-hot minus policy.
    """
    size = 4
    arms = ordered_groups(4, size)
    score = FOUR.reward[arms]
    grpo = method("grpo", group_size=size, beta=0.0, std="population", eps=0.0)
    whole = group_gradients(grpo, FOUR.policy.log(), arms, score)
    spread = score.std(1, correction=0)
    some = spread > 0
    g = torch.eye(4, dtype=torch.float64)[arms] - FOUR.policy  # (N, G, K)
    first, second = slice(0, size, 2), slice(1, size, 2)
    half = (score[:, first] - score[:, second]) / (2 * spread.unsqueeze(1))
    mean = score.mean(1, keepdim=True)
    offset = ((score[:, first] + score[:, second]) / 2 - mean) / spread.unsqueeze(1)
    along = (half.unsqueeze(2) * (g[:, first] - g[:, second])) / size
    common = (offset.unsqueeze(2) * (g[:, first] + g[:, second])) / size
    rebuilt = (along + common).sum(1)
    norms = common.norm(dim=2)
    share = norms[some] / (norms[some] + along.norm(dim=2)[some])
    level = offset[some].abs() <= EXACT
    weight = probability(FOUR.policy, arms)[some]
    average = float((weight.unsqueeze(1) * share.nan_to_num()).sum() / weight.sum() / 2)
    return Finding(
        (
            restricted("largest error of the decomposition", gap(whole[some], rebuilt[some]), "<=",
                       EXACT),
            restricted("largest common-mode part where the means agree",
                       float(norms[some][level].max()), "<=", EXACT),
            stated("largest common-mode part", float(norms[some].max()), "<=", EXACT),
            shown("mean share of the common mode in a pair's part", average),
        ),
        only_if="A pair above or below its group's mean also pushes both members the "
        f"same way, along g_p + g_r: {average:.0%} of a pair's part on average.",
    )  # fmt: skip


@claim("soft-pair-averaging")
def averaging() -> Finding:
    """E[C h] against E[C] E[h]: C from GRPO's advantages, h from Soft-Pair's gradient of a pair."""
    numbers: list[Number] = []
    least = 1.0
    for size in (2, 4):
        arms, log_ways = multisets(4, size)
        score = FOUR.reward[arms]
        weight = probability(FOUR.policy, arms, log_ways)
        grpo = method("grpo", group_size=size, beta=0.0, std="population", eps=0.0)
        with torch.no_grad():
            signal = grpo.prepare(make_batch(FOUR.policy.log(), arms, score), 0.0, 0)
        advantage = signal["advantage"].view(-1, size)
        first, second = torch.triu_indices(size, size, 1)
        factor = (advantage[:, first] - advantage[:, second]).abs() / 2  # (N, pairs)
        pair = torch.stack([arms[:, first], arms[:, second]], 2).reshape(-1, 2)
        soft = method("soft-pair-grpo", group_size=2, beta=0.0)
        h = 2 * group_gradients(soft, FOUR.policy.log(), pair, FOUR.reward[pair])
        h = h.view(len(arms), -1, 4)
        told = (h.norm(dim=2) > EXACT).to(torch.float64) * weight.unsqueeze(1)
        told = told / told.sum()
        product = torch.einsum("np,np,npk->k", told, factor, h)
        apart = (told * factor).sum() * torch.einsum("np,npk->k", told, h)
        angle = 1 - float(cosine(product, apart))
        if size == 2:
            numbers.append(restricted("1 - cosine of E[C h] and E[h], G = 2 (C is 1)", angle, "<=",
                                      EXACT))  # fmt: skip
        else:
            far = float((product - apart).norm() / product.norm())
            numbers += [
                stated("1 - cosine of E[C h] and E[h], G = 4", angle, "<=", EXACT),
                stated("|E[C h] - E[C] E[h]| over |E[C h]|, G = 4", far, "<=", EXACT),
            ]
            least = 1 - angle
    return Finding(
        numbers,
        only_if="C is larger for pairs that are far apart, and those have other "
        f"members: the averages of four differ in length and direction (cosine {least:.4f}).",
    )


DRAWS = 8_000


@claim("soft-pair-noise")
def noise() -> Finding:
    """Cosines under Gaussian score noise, by G: mean over single groups, and of the means."""
    numbers: list[Number] = []
    singles: list[float] = []

    def angles(a: Tensor, b: Tensor) -> list[float]:
        some = b.norm(dim=1) > EXACT
        whole = float(cosine(a.mean(0), b.mean(0)))
        return [1 - whole, 1 - float(cosine(a[some], b[some]).mean())]

    for size in (2, 4, 8):
        for std in (0.5, 1.0):
            arms, score = draw_groups(FOUR, DRAWS, size, std, f"soft-pair-noise:{size}:{std}")
            log_policy = FOUR.policy.log()
            grpo = method("grpo", group_size=size, beta=0.0, std="population", eps=0.0)
            soft = method("soft-pair-grpo", group_size=size, beta=0.0)
            a = group_gradients(grpo, log_policy, arms, score)
            b = group_gradients(soft, log_policy, arms, score)
            if size == 2:
                worst = gap(a, b)
                numbers.append(
                    restricted(f"largest difference, G = 2, noise {std:g}", worst, "<=", EXACT)
                )
                continue
            (whole, error), (single, spread) = jackknife(angles, a, b)
            numbers += [
                stated(f"1 - mean cosine in one group, G = {size}, noise {std:g}", single, "<=",
                       EXACT, spread),
                shown(f"1 - cosine of the mean gradients, G = {size}, noise {std:g}", whole, error),
            ]  # fmt: skip
            singles.append(1 - single)
    return Finding(
        numbers,
        only_if="With four or eight responses one group's gradients have a mean "
        f"cosine of {min(singles):.3f} to {max(singles):.3f}; noise blurs the distances of the "
        "scores, so that averages over many groups are all but parallel.",
    )


# What a step does to the pair


class Shared:
    """Softmax policy whose logits are `features` (K,) times one parameter theta."""

    def __init__(self, features: Tensor, theta: float) -> None:
        self.features = features
        self.theta = torch.tensor(theta, dtype=torch.float64, requires_grad=True)

    def log_probabilities(self) -> Tensor:
        """Returns (K,) log pi."""
        return (self.theta * self.features).log_softmax(0)

    def __call__(self, batch: Batch) -> PolicyOutput:
        return PolicyOutput(self.log_probabilities()[batch.responses])


STEP = 0.001


def shared_step() -> tuple[Tensor, Tensor]:
    """Returns the policy (3,) before and after a step of .001 along g_p - g_r, pair (0, 1).

    Logits (theta, 2 theta, -3 theta) at theta 0. Soft-Pair's loss averages over the two members,
    so its gradient is half of g_p - g_r and the learning rate .002.
    """
    policy = Shared(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64), 0.0)
    before = policy.log_probabilities().detach()
    batch = make_batch(before, torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]]).double())
    batch = replace(batch, old_dist=None)
    soft = method("soft-pair-grpo", group_size=2, beta=0.0)
    loss = soft.loss(policy(batch), batch, soft.prepare(batch, 0.0, 0)).value
    gradient = torch.autograd.grad(loss, policy.theta)[0]
    with torch.no_grad():
        policy.theta -= 2 * STEP * gradient
    return before.exp(), policy.log_probabilities().detach().exp()


def tabular_steps() -> tuple[Tensor, Tensor, Tensor]:
    """Returns policies (N, K) before and after such a step for each pair, and the pairs (N, 2)."""
    arms = torch.tensor([[a, b] for a in range(4) for b in range(4) if a != b])
    score = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(len(arms), 2)
    soft = method("soft-pair-grpo", group_size=2, beta=0.0)
    push = group_gradients(soft, FOUR.policy.log(), arms, score)
    after = (FOUR.policy.log() + 2 * STEP * push).softmax(1)
    return FOUR.policy.expand_as(after), after, arms


@claim("preferred-up-rejected-down")
def preferred_up() -> Finding:
    """Changes of both members' probabilities after a step."""
    before, after, arms = tabular_steps()
    moved = (after - before).gather(1, arms)
    old, new = shared_step()
    change = new - old
    return Finding(
        (
            stated("change of the preferred, shared parameter", change[0], ">=", 0.0),
            stated("change of the rejected, shared parameter", change[1], "<=", 0.0),
            shown("probability of the preferred after the step", new[0]),
            shown("probability of the rejected after the step", new[1]),
            restricted("smallest change of the preferred, own parameters", moved[:, 0].min(), ">=",
                       0.0),
            restricted("largest change of the rejected, own parameters", moved[:, 1].max(), "<=",
                       -EXACT),
        ),
        only_if="Responses that share parameters move together. Counterexample: with "
        f"logits (t, 2t, -3t) both members of the pair (1, 2) fall from {float(old[0]):.6f} "
        f"to {float(new[0]):.6f} and {float(new[1]):.6f}.",
    )  # fmt: skip


@claim("log-ratio-rises")
def log_ratio() -> Finding:
    """The change of the log-ratio over the step, minus its first-order value."""
    before, after, arms = tabular_steps()
    logs = (after.log() - before.log()).gather(1, arms)
    rise = (logs[:, 0] - logs[:, 1]) / STEP
    old, new = shared_step()
    shared = (new.log() - old.log())[:2]
    slope = float(shared[0] - shared[1]) / STEP
    return Finding(
        (
            stated("smallest rise over the step, own parameters (|g_p - g_r|^2 is 2)", rise.min(),
                   ">=", 2.0 - 1e-9),
            stated("rise over the step, shared parameter (|g_p - g_r|^2 is 1)", slope, ">=",
                   1.0 - 1e-9),
            stated("largest distance from |g_p - g_r|^2",
                   max(gap(rise, torch.tensor(2.0)), abs(slope - 1.0)), "<=", 1e-6),
        ),
        holds="The step is along the gradient of that very difference, so it rises even "
        "where both probabilities fall.",
    )  # fmt: skip


# The same training run


RUNS = {
    "preference-bandit": (1_280, []),
    "halfcheetah-v4": (
        96,
        ["contexts=4", "segment=4", "epochs=2", "minibatches=2", "log_std_floor=-2",
         "halfcheetah-v4.evaluation_episodes=1"],
    ),
}  # fmt: skip
"""Budget in steps and sizes of the runs that are compared, by task."""


def run_weights(algorithm: str, task: str, settings: list[str]) -> tuple[str, int]:
    """Returns the hash of a run's final weights, and its number of gradient steps."""
    steps, sizes = RUNS[task]
    own = ["group_size=2", "beta=0", "lr=0.003", *sizes, *settings]
    record = run_once(algorithm, task, steps, own).record
    return record.weights_sha256 or f"{algorithm} {record.reason}", record.cost.gradient_steps


@claim("soft-pair-same-run")
def same_run() -> Finding:
    """Trains both methods on both tasks and compares the bits of their weights."""
    numbers: list[Number] = []
    exact = ["std=population", "eps=0"]
    for task in RUNS:
        soft, steps = run_weights("soft-pair-grpo", task, [])
        grpo, _ = run_weights("grpo", task, exact)
        differ = float(soft != grpo)
        numbers.append(
            stated(f"runs that differ on {task}, {steps} gradient steps", differ, "<=", 0.0)
        )
    other, _ = run_weights("grpo", "preference-bandit", ["std=sample", "eps=0.0001"])
    soft, _ = run_weights("soft-pair-grpo", "preference-bandit", [])
    numbers.append(
        shown("for comparison, on preference-bandit with sample std and eps 1e-4",
              float(other != soft))
    )  # fmt: skip
    return Finding(
        numbers,
        holds="Advantages of +-1 are exact in both, and all random streams are shared, so "
        "every bit of the weights agrees on both tasks.",
    )
