"""Problems small enough to solve: a categorical policy, exact expectations, stationary policies.

`group_preference` and `stationary_policy` say exactly what GRPO converges to on one context with K
responses (after Vojnovic and Yun, arXiv 2502.18548; derivations in the docstrings), so that a
training run can be held against a number. All in float64 unless given otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.policy import ParameterGroup, PolicyOutput


class Categorical:
    """A softmax policy with one logit per context and response, and optionally a value table.

    It reads `Batch.contexts` (B, 1) int64 context numbers and `Batch.responses` (B, 1) int64
    response numbers; `old_dist` and `ref_dist` are (B, 1, K) log-probabilities.
    """

    stepwise = True

    def __init__(self, logits: Tensor, critic: bool = False) -> None:
        """Copies `logits` (X, K) as the starting point; a critic starts at value 0."""
        self.logits = logits.detach().clone().requires_grad_()
        self.values = logits.new_zeros(logits.shape[0]).requires_grad_() if critic else None

    def __call__(self, batch: Batch) -> PolicyOutput:
        contexts = batch.contexts[:, 0]
        all_logp = self.logits.log_softmax(1)[contexts]
        logp = all_logp.gather(1, batch.responses)
        old, reference = batch.old_dist, batch.ref_dist
        return PolicyOutput(
            logp,
            None if self.values is None else self.values[contexts].unsqueeze(1),
            entropy=lambda: -(all_logp.exp() * all_logp).sum(1, keepdim=True),
            kl_old=None if old is None else partial(_divergence, all_logp, old),
            kl_ref=None if reference is None else partial(_divergence, all_logp, reference),
            all_logp=all_logp,
        )

    def log_probabilities(self) -> Tensor:
        """Returns (X, K) log pi(response | context), detached."""
        return self.logits.detach().log_softmax(1)

    def sample(self, contexts: Tensor, generator: np.random.Generator) -> Tensor:
        """Returns one response per entry of `contexts` (N,), by inversion: one draw each."""
        cumulative = self.log_probabilities().exp().cumsum(1)[contexts]
        draws = torch.from_numpy(generator.random(len(contexts))).to(cumulative.dtype)
        arms = torch.searchsorted(cumulative, draws.unsqueeze(1), right=True).squeeze(1)
        return arms.clamp_max(cumulative.shape[1] - 1)

    def parameters(self) -> list[ParameterGroup]:
        groups = [ParameterGroup("policy", [self.logits])]
        if self.values is not None:
            groups.append(ParameterGroup("critic", [self.values]))
        return groups

    def state(self) -> dict[str, Tensor]:
        state = {"logits": self.logits.detach()}
        if self.values is not None:
            state["values"] = self.values.detach()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.logits.copy_(state["logits"])
            if self.values is not None:
                self.values.copy_(state["values"])


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Returns KL(p || q) per row, (B, 1); `log_p` is (B, K), `log_q` (B, 1, K)."""
    return (log_p.exp() * (log_p - log_q[:, 0])).sum(1, keepdim=True)


# What GRPO converges to

Std = Literal["population", "sample", "none"]


def group_counts(members: int, responses: int) -> Tensor:
    """Returns every way `members` draws can fall on `responses`: (N, K) counts, rows summing up."""
    slots = members + responses - 1
    rows = []
    for bars in combinations(range(slots), responses - 1):
        edges = (-1, *bars, slots)
        rows.append([b - a - 1 for a, b in pairwise(edges)])
    return torch.tensor(rows, dtype=torch.float64)


def group_preference(policy: Tensor, reward: Tensor, size: int | None, std: Std) -> Tensor:
    """Returns P_G(o | pi) = E[A_1 | o_1 = o], the expected advantage of each response, (K,).

    A_1 is GRPO's advantage in a group whose other G - 1 members are drawn from the policy (eps 0;
    0 where all rewards are equal). Exact: all multinomial counts of the others are summed. At G = 2
    with population std it is Pr[o beats o'] - Pr[o' beats o]; as G grows it tends to
    (r - mean) / std under the policy. Differentiable in `policy`.

    Args:
        size: G, or None for the limit.
    """
    if size is None:
        mean = policy @ reward
        centred = reward - mean
        return centred if std == "none" else centred / (policy @ centred.square()).sqrt()
    others = group_counts(size - 1, len(policy)).to(policy.dtype)
    log_weight = math.lgamma(size) - torch.lgamma(others + 1.0).sum(1)
    weight = (log_weight + others @ policy.log()).exp()
    counts = others.unsqueeze(1) + torch.eye(len(policy), dtype=policy.dtype)  # (N, K own, K)
    mean = counts @ reward / size
    centred = reward - mean
    if std == "none":
        return weight @ centred
    spread = (counts * (reward - mean.unsqueeze(2)).square()).sum(2)
    tied = ((counts > 0) & (reward != reward.unsqueeze(1))).sum(2) == 0
    scale = (spread / (size - int(std == "sample"))).masked_fill(tied, 1.0).sqrt()
    return weight @ (centred / scale).masked_fill(tied, 0.0)


def stationary_policy(
    reference: Tensor,
    preference: Callable[[Tensor], Tensor],
    beta: float,
    penalty: Literal["k3", "direct"],
    tolerance: float = 1e-13,
) -> Tensor:
    """Returns the policy (K,) at which GRPO's expected gradient vanishes, for samples of itself.

    With the k3 penalty, whose gradient is that of KL(ref || pi), pi = ref / (1 - P(pi) / beta);
    with KL(pi || ref), pi is proportional to ref exp(P(pi) / beta). Solved by Newton's method with
    backtracking on log pi, from the reference.

    Args:
        reference: (K,) probabilities, all positive.
        preference: P: (K,) probabilities to the (K,) expected advantages.
        tolerance: largest absolute residual accepted.

    Raises:
        PairBenchError: Newton's method did not reach the tolerance.
    """

    def residual(logits: Tensor) -> Tensor:
        log_policy = logits.log_softmax(0)
        policy = log_policy.exp()
        force = preference(policy)
        if penalty == "k3":
            force = force + beta * reference / policy
        else:
            force = force - beta * (log_policy - reference.log())
        return force - (policy * force).sum()

    logits = reference.log()
    pull = torch.ones(len(reference), len(reference), dtype=reference.dtype)  # fixes the shift
    value = residual(logits)
    for _ in range(200):
        if float(value.abs().max()) <= tolerance:
            break
        slope = torch.autograd.functional.jacobian(residual, logits)  # type: ignore[no-untyped-call]
        step = torch.linalg.solve(slope - pull, value)
        step = step * min(1.0, 2.0 / max(float(step.abs().max()), 1e-300))
        length = 1.0
        while length > 1e-8:
            candidate = logits - length * step
            trial = residual(candidate)
            if float(trial.norm()) < float(value.norm()):
                logits, value = candidate, trial
                break
            length /= 2
        else:
            break
    if float(value.abs().max()) > 1e3 * tolerance:
        worst = float(value.abs().max())
        raise PairBenchError(
            f"no stationary policy found for beta {beta} (residual {worst:.1e}): try a larger beta"
        )
    return logits.softmax(0)


def binary_pair(q: float, margin: float, beta: float, penalty: Literal["k3", "direct"]) -> float:
    """Returns pi(a) of two responses at G = 2 (population std), in closed form.

    k3: the root in (0, 1) of kappa p^2 + (1 - kappa) p - q = 0, kappa = margin / beta. Direct:
    logit p = logit q + kappa, since P_2(a) - P_2(b) = margin whatever p is.

    Args:
        q: reference probability of a.
        margin: Pr[a beats b] - Pr[b beats a], positive.
    """
    inverse = beta / margin
    if penalty == "direct":
        return 1.0 / (1.0 + (1.0 - q) / q * math.exp(-1.0 / inverse))
    return 0.5 * (1.0 - inverse + math.sqrt((1.0 - inverse) ** 2 + 4.0 * inverse * q))


def binary_limit(q: float, beta: float) -> float:
    """Returns pi(a) of two responses, a better, as G tends to infinity under the k3 penalty.

    From P(a) = sqrt((1 - p) / p) in p (1 - P / beta) = q, squared: a quadratic in p.
    """
    square = beta * beta
    root = math.sqrt(1.0 + 4.0 * square * q * (1.0 - q))
    return (1.0 + 2.0 * square * q + root) / (2.0 * (1.0 + square))
