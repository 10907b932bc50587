"""The mathematics that algorithms share: pure functions on tensors.

Shapes: B rows (responses) of T steps, in groups of G contiguous rows; `size` is G, and `score` (B,)
what the oracle says of each row. Losses are to be minimised. `eps` is added to standard deviations.
Everything here runs once per gradient step or once per batch, where the networks of control tasks
cost a quarter of a millisecond: it checks no shapes and takes as few tensor operations as it can.
Bad settings are refused by the algorithms' configurations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pairbench.batch import Batch
from pairbench.policy import PolicyOutput

RatioLevel = Literal["token", "sequence_mean", "trajectory"]
Aggregation = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "luspo", "sapo"]
Std = Literal["population", "sample", "none", "batch"]
Fit = Literal["forward", "reverse"]


# Sums over steps


def all_real(mask: Tensor) -> bool:
    """Returns whether no step can be padding: rows of a single step, which is always real."""
    return mask.shape[1] == 1


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of `values` (B, T) where `mask` is 1; 0 where it is 1 nowhere."""
    if all_real(mask):
        return values.mean()
    return (values * mask).sum() / mask.sum().clamp_min(1.0)


def step_weights(mask: Tensor, aggregation: Aggregation, max_length: int) -> Tensor:
    """Returns (B, T) weights w such that `aggregate` of a per-step loss l is sum(w l) / B.

    Computed once per batch. Names and denominators are those of TRL 1.16's GRPOTrainer:
    grpo and sapo: mean over rows of the row's mean over steps; dr_grpo: sum / (B max_length);
    dapo and cispo: sum / steps of the whole batch (a minibatch takes its share by rows); luspo:
    mean over rows of the row's sum; bnpo: sum / steps of the minibatch (`aggregate` divides).

    Args:
        mask: (B, T), of the iteration's whole batch.
        max_length: longest response possible, for dr_grpo.
    """
    if aggregation in ("grpo", "sapo"):
        return mask / mask.sum(1, keepdim=True).clamp_min(1.0)
    if aggregation == "dr_grpo":
        return mask / max_length
    if aggregation in ("dapo", "cispo"):
        return mask * (mask.shape[0] / mask.sum().clamp_min(1.0))
    return mask


def aggregate(per_step: Tensor, weights: Tensor, aggregation: Aggregation) -> Tensor:
    """Returns a minibatch's scalar loss from `per_step` (B, T) or (B, 1) and its `step_weights`."""
    total = (per_step * weights).sum()
    return total / (weights.sum().clamp_min(1.0) if aggregation == "bnpo" else weights.shape[0])


# Importance ratios and the clipped surrogate


def log_ratio(logp: Tensor, old_logp: Tensor, mask: Tensor, level: RatioLevel) -> Tensor:
    """Returns log pi_theta - log pi_old: (B, T) per step, or (B, 1) for a whole response.

    "token" is GRPO's; "sequence_mean" is GSPO's mean over the response (arXiv 2507.18071);
    "trajectory" is the sum, so that its exponential is the ratio of whole responses.
    """
    steps = logp - old_logp
    if level == "token" or mask.shape[1] == 1:
        return steps
    total = (steps * mask).sum(1, keepdim=True)
    return total if level == "trajectory" else total / mask.sum(1, keepdim=True).clamp_min(1.0)


class _ClippedSurrogate(torch.autograd.Function):
    """`clipped_surrogate` as one node: a dozen small ones cost three times more."""

    @staticmethod
    def forward(
        ctx: Any,
        log_ratio: Tensor,
        advantage: Tensor,
        weights: Tensor | None,
        low: float,
        high: float,
        delta: float | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        ratio = log_ratio.exp()
        clipped = ratio.clamp(low, high)
        free = ratio if delta is None else ratio.clamp(max=delta)
        gain, limit = free * advantage, clipped * advantage
        active = gain <= limit  # else the minimum is the clipped term, which has no slope
        if delta is not None:
            active &= ratio <= delta
        slope, value = gain * active, torch.minimum(gain, limit)
        if weights is not None:
            slope, value = slope * weights, value * weights
        ctx.slope = slope * -scale  # of the loss in log_ratio: -A ratio where active
        outside = torch.count_nonzero(clipped != ratio) / ratio.numel()
        ctx.mark_non_differentiable(outside)
        return value.sum() * -scale, outside

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the clipped surrogate has first derivatives only")
        return gradient * ctx.slope, None, None, None, None, None, None


def clipped_surrogate(
    log_ratio: Tensor,
    advantage: Tensor,
    weights: Tensor | None,
    clip_low: float,
    clip_high: float,
    delta: float | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Returns scale x sum of -w min(ratio A, clip(ratio) A), and the share of ratios clipped.

    PPO, arXiv 1707.06347, equation 7; `delta` also caps the unclipped ratio (two-sided clipping,
    INTELLECT-2, arXiv 2505.07291). Differentiable once, in `log_ratio`.

    Args:
        log_ratio: (B, T), or (B, 1) for ratios of whole responses.
        advantage: constants of a shape that broadcasts to it.
        weights: w, of the same shape as `log_ratio`, or None for 1.
        clip_low: the range is [1 - clip_low, 1 + clip_high].
        delta: cap of the ratio in the first term, at least 1 + clip_high, or None.
    """
    loss, outside = _ClippedSurrogate.apply(  # type: ignore[no-untyped-call]
        log_ratio, advantage, weights, 1.0 - clip_low, 1.0 + clip_high, delta, scale
    )
    return loss, outside


def cispo_surrogate(ratio: Tensor, logp: Tensor, advantage: Tensor, cap: float) -> Tensor:
    """Returns -sg(min(ratio, cap)) A log pi (CISPO, arXiv 2506.13585), shape (B, T)."""
    return -ratio.detach().clamp(max=cap) * advantage * logp


def soft_gate_surrogate(
    ratio: Tensor, advantage: Tensor, tau_positive: float, tau_negative: float
) -> Tensor:
    """Returns -4 A sigmoid(tau (ratio - 1)) / tau, tau by A's sign (SAPO, arXiv 2511.20347)."""
    tau = torch.full_like(advantage, tau_negative).masked_fill(advantage > 0, tau_positive)
    return -advantage * 4.0 * torch.sigmoid(tau * (ratio - 1.0)) / tau


# Divergences


def k1(logp: Tensor, other: Tensor) -> Tensor:
    """Estimates KL(pi || other) per step by log pi - log other, nats; samples of pi."""
    return logp - other


def k3(logp: Tensor, other: Tensor, ratio: Tensor | None = None) -> Tensor:
    """Estimates KL(pi || other) per step by e^u - u - 1, u = log other - log pi, nats.

    On fixed samples of pi_old its gradient at pi = pi_old is that of KL(other || pi). With `ratio`
    = pi / pi_old as a factor (TRL's `use_bias_correction_kl`) it is that of KL(pi || other).
    """
    log_ratio = other - logp
    estimate = torch.expm1(log_ratio) - log_ratio
    return estimate if ratio is None else estimate * ratio


def kl_to_old(output: PolicyOutput, batch: Batch) -> Tensor:
    """Returns the mean over steps of KL(pi_theta || pi_old): exact if given, else k3."""
    exact = output.kl_old
    return masked_mean(k3(output.logp, batch.old_logp) if exact is None else exact, batch.mask)


def add_hinge(loss: Tensor, kl: Tensor, alpha: float, threshold: float) -> Tensor:
    """Returns loss + alpha max(kl - threshold, 0): Hard-Pair's trust region (arXiv 2605.06375).

    Below the threshold the divergence leaves the graph: looking at its value costs less than
    carrying a gradient of zeros through the policy.
    """
    return loss + alpha * (kl - threshold) if kl > threshold else loss


# Advantages


def normalise_groups(score: Tensor, size: int, std: Std, eps: float) -> Tensor:
    """Returns (score - group mean) / (std + eps), shape (B,); exactly 0 where a group is tied.

    Args:
        std: of the group ("population" divides by G, "sample" by G - 1), of the whole "batch"
            (by B - 1), or "none" for no division.
    """
    groups = score.view(-1, size)
    if size == 2:  # mean and spread are half the difference, which makes +-1 exact, not rounded
        half = 0.5 * (groups[:, :1] - groups[:, 1:])
        centred = torch.cat([half, -half], 1)
        scale = half.abs() * 2.0**0.5 if std == "sample" else half.abs()
    else:
        centred = groups - groups.mean(1, keepdim=True)
        if std in ("population", "sample"):
            scale = groups.std(1, keepdim=True, correction=int(std == "sample"))
    tied = groups.amax(1, keepdim=True) == groups.amin(1, keepdim=True)
    if std == "batch":
        centred = centred / (score.std() + eps)
    elif std != "none":
        centred = centred / (scale + eps)
    return centred.masked_fill(tied, 0.0).reshape(-1)


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, boundary: Tensor, gamma: float, lam: float
) -> Tensor:
    """Returns generalised advantage estimates (B, T) (arXiv 1506.02438).

    delta_t = r_t + gamma next_value_t - V_t and A_t = delta_t + gamma lam (1 - boundary_t) A_t+1,
    with `next_value` and `boundary` as in `Batch`. All arguments are (B, T).
    """
    delta = reward + gamma * next_value - value
    carry = (gamma * lam) * (1.0 - boundary)
    advantages = torch.empty_like(delta)
    running = torch.zeros_like(delta[:, 0])
    columns, deltas, carries = advantages.unbind(1), delta.unbind(1), carry.unbind(1)
    for t in range(len(columns) - 1, -1, -1):
        running = torch.addcmul(deltas[t], carries[t], running, out=columns[t])
    return advantages


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Returns (values - mean) / (sample std + 1e-8) over the real steps.

    A single one stays as it is, as in Stable-Baselines3: it has nothing to be compared with.
    """
    if all_real(mask):
        if values.numel() == 1:
            return values
        std, mean = torch.std_mean(values)
        return (values - mean) / (std + 1e-8)
    steps = mask.sum().clamp_min(1.0)
    real = values * mask
    centred = (values - real.sum() / steps) * mask
    variance = centred.square().sum() / (steps - 1.0).clamp_min(1.0)
    return torch.where(steps > 1.0, centred / (variance.sqrt() + 1e-8), real)


# Comparisons


def net_wins(pairs: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Returns wins minus losses of each row, shape (rows,).

    Args:
        pairs: (P, 2) int64, (preferred, rejected).
    """
    counts = torch.bincount(pairs[:, 0], minlength=rows) - torch.bincount(
        pairs[:, 1], minlength=rows
    )
    return counts.to(dtype)


def preference_loss(
    margin: Tensor, beta: float, form: Literal["sigmoid", "ipo"], label_smoothing: float = 0.0
) -> Tensor:
    """Returns the per-pair loss (P,) of a margin of log-ratios (preferred minus rejected, nats).

    "sigmoid" is DPO (arXiv 2305.18290, equation 7), with `label_smoothing` the conservative DPO of
    its authors; "ipo" is (margin - 1 / (2 beta))^2 (arXiv 2310.12036).
    """
    if form == "ipo":
        return (margin - 0.5 / beta).square()
    loss = -F.logsigmoid(beta * margin)
    if label_smoothing:
        loss = (1.0 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-beta * margin)
    return loss


def log_odds(logp: Tensor) -> Tensor:
    """Returns log(p / (1 - p)) from log p <= 0; p is held one rounding step below 1."""
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    return logp - torch.log(-torch.expm1(logp))


# A target on the group: Hard-Pair-GRPO


def flow(wins: Tensor, size: int) -> Tensor:
    """Returns f (groups, G): net wins over the sum of the positive ones; 0 for a tied group.

    Positive entries of a group sum to 1 and negative ones to -1, so that delta f moves mass delta.
    """
    groups = wins.view(-1, size)
    return groups / groups.clamp_min(0.0).sum(1, keepdim=True).clamp_min(1.0)


def capped_delta(delta: float, flows: Tensor, base: Tensor, zeta: float) -> Tensor:
    """Returns min(delta, min over f_i < 0 of (1 - zeta) b_i / |f_i|), shape (groups, 1).

    Keeps every target probability at least zeta b_i.
    """
    room = torch.where(flows < 0, (1.0 - zeta) * base / flows.abs(), math.inf)
    return room.amin(1, keepdim=True).clamp_max(delta)


def group_log_probabilities(log_base: Tensor, shift: Tensor, size: int) -> Tensor:
    """Returns log p (groups, G), p_i proportional to b_i exp(shift_i) within each group.

    Args:
        log_base: (B,) log b_i.
        shift: (B,) log-ratio of the response to the sampler, over its temperature.
    """
    return (log_base + shift).view(-1, size).log_softmax(1)


def target_divergence(log_p: Tensor, target: Tensor, fit: Fit) -> Tensor:
    """Returns the mean over rows of KL(target || p) ("forward") or KL(p || target) ("reverse").

    Args:
        log_p: (N, K) log-probabilities.
        target: (N, K) probabilities, constants.
    """
    if fit == "forward":
        return F.kl_div(log_p, target, reduction="batchmean")
    return (log_p.exp() * (log_p - target.log())).sum() / log_p.shape[0]


class _GroupFit(torch.autograd.Function):
    """`group_fit` as one node."""

    @staticmethod
    def forward(
        ctx: Any,
        log_ratio: Tensor,
        scale: Tensor,
        log_base: Tensor,
        target: Tensor,
        size: int,
        fit: Fit,
    ) -> Tensor:
        log_p = group_log_probabilities(log_base, (log_ratio * scale).sum(1), size)
        p, q = log_p.exp(), target.view(-1, size)
        gap = q.log().sub_(log_p)
        if fit == "forward":
            each, slope = q * gap, p - q
        else:
            each = p * gap.neg_()
            slope = each - p * each.sum(1, keepdim=True)
        ctx.slope = (slope.view(-1, 1) * scale).div_(len(p))
        return each.sum() / len(p)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the group fit has first derivatives only")
        return gradient * ctx.slope, None, None, None, None, None


def group_fit(
    log_ratio: Tensor, scale: Tensor, log_base: Tensor, target: Tensor, size: int, fit: Fit
) -> Tensor:
    """Returns `target_divergence` of `group_log_probabilities`, differentiable once in `log_ratio`.

    Args:
        log_ratio: (B, T) log pi_theta - log pi_old per step.
        scale: (B, T) mask over temperature; the weighted sum over steps is the shift of a row.
        log_base: (B,) log b.
        target: (B,) q.
    """
    loss: Tensor = _GroupFit.apply(  # type: ignore[no-untyped-call]
        log_ratio, scale, log_base, target, size, fit
    )
    return loss


# A regression on the group: GVPO and policy mirror descent


def group_regression(implied: Tensor, reward: Tensor, size: int, centred: bool) -> Tensor:
    """Returns squared residuals (B,) of the rewards a policy implies against those it was given.

    Args:
        implied: (B,) temperature x (log pi_theta - log pi_old) of each response, nats.
        reward: (B,) less the group's mean, constants.
        centred: take the group's mean off `implied` too, so that only differences within the group
            count (log Z drops out of the optimum pi_old exp(r / temperature) / Z).
    """
    residual = implied - reward
    if centred:
        groups = residual.view(-1, size)
        residual = (groups - groups.mean(1, keepdim=True)).view(-1)
    return residual.square()


# Variational f-divergences: f-GRPO and f-HAL

Divergence = Literal["kl", "kl-canonical", "reverse-kl", "pearson", "hellinger", "js", "tv"]
"""D_f(P || Q) = sup_T E_P[T] - E_Q[f*(T)] by its f and the critic T = g(u): see `critic`."""


def critic(u: Tensor, divergence: Divergence) -> Tensor:
    """Returns g(u), an increasing map of an implicit reward into the domain of f*.

    Canonical is g(u) = f'(e^u), whose optimal u is log dP/dQ: "kl-canonical" u + 1, "reverse-kl"
    -e^-u, "hellinger" (squared) 1 - e^(-u/2), "js" log 2 - softplus(-u). "kl" and "pearson" take
    the identity. "tv" has no derivative there and takes tanh(u/2) / 2, which stays in [-1/2, 1/2].
    """
    if divergence == "kl-canonical":
        return u + 1.0
    if divergence == "reverse-kl":
        return -torch.exp(-u)
    if divergence == "hellinger":
        return -torch.expm1(-0.5 * u)
    if divergence == "js":
        return math.log(2.0) - F.softplus(-u)
    if divergence == "tv":
        return 0.5 * torch.tanh(0.5 * u)
    return u


def conjugate_critic(u: Tensor, divergence: Divergence) -> Tensor:
    """Returns f*(g(u)), what the critic costs on the other side.

    f*(s) is e^(s-1) for "kl", -1 - log(-s) for "reverse-kl", s + s^2 / 4 for "pearson" (falling
    again below u = -2), s / (1 - s) for "hellinger", -log(2 - e^s) for "js" and s for "tv".
    """
    if divergence == "kl":
        return torch.exp(u - 1.0)
    if divergence == "kl-canonical":
        return torch.exp(u)
    if divergence == "reverse-kl":
        return u - 1.0
    if divergence == "pearson":
        return u + 0.25 * u.square()
    if divergence == "hellinger":
        return torch.expm1(0.5 * u)
    if divergence == "js":
        return F.softplus(u) - math.log(2.0)
    return critic(u, "tv")


# Scores in parts, rollout selection, pairs by score, tilted targets


def fit_group_target(
    output: PolicyOutput, batch: Batch, signal: Mapping[str, Tensor], size: int, fit: Fit
) -> Tensor:
    """Returns `group_fit` of the policy to a signal's "target", "log_base" and "scale".

    The shape that Hard-Pair-GRPO, BRAIn and TPO share: they differ in the target and the base.
    """
    return group_fit(
        output.logp - batch.old_logp,
        signal["scale"],
        signal["log_base"],
        signal["target"],
        size,
        fit,
    )


def tilted_target(log_base: Tensor, shift: Tensor, size: int) -> Tensor:
    """Returns q (B,), q_i proportional to b_i exp(shift_i) in each group: what scores ask for.

    A response that has no chance keeps the smallest number whose logarithm is finite, so that a
    divergence to q is, too. `log_base` and `shift` are (B,), `size` is G.
    """
    target = group_log_probabilities(log_base, shift, size).exp().reshape(-1)
    return target.clamp_min(torch.finfo(target.dtype).tiny)


def decoupled_advantages(
    components: Tensor, weights: Tensor, size: int, std: Std, eps: float
) -> Tensor:
    """Returns advantages (B,) of several scores, each normalised by itself (GDPO).

    The weighted sum over components of `normalise_groups`, less its mean over the batch, over its
    sample standard deviation over the batch + eps: TRL 1.16's "normalize_then_sum".

    Args:
        components: (B, R) scores in groups of `size`.
        weights: (R,).
        std: of each component within its group.
    """
    parts = [normalise_groups(part, size, std, eps) for part in components.unbind(1)]
    total = torch.stack(parts, 1) @ weights
    return (total - total.mean()) / (total.std() + eps)


def most_varied(score: Tensor, size: int, keep: int) -> Tensor:
    """Returns (groups * keep,) rows: of each group the `keep` whose scores vary most (PODS).

    The largest variance of m out of n numbers is that of the k smallest and the m - k largest for
    some k, so m + 1 choices are compared. The first of equal ones is taken, with the smallest k;
    rows stay in their order.
    """
    ordered, place = score.view(-1, size).sort(dim=1, stable=True)
    index = torch.arange(keep, device=score.device)
    choices = torch.where(
        index < torch.arange(keep + 1, device=score.device).unsqueeze(1), index, index + size - keep
    )
    best = ordered[:, choices].var(2, correction=0).argmax(1)
    rows: Tensor = place.gather(1, choices[best]).sort(1).values
    return (rows + size * torch.arange(len(rows), device=score.device).unsqueeze(1)).reshape(-1)


def ranked_pairs_loss(
    total: Tensor, score: Tensor, size: int, beta: float, margin: float
) -> Tensor:
    """Returns the mean of -log sigmoid(beta (total_i - total_j)) over the ranked pairs of groups.

    A pair (i, j) is ranked where score_i - score_j > margin; without any the loss is 0. A response
    whose score is NaN is ranked with none.

    Args:
        total: (B,) log-probability of each response, or its log-ratio to a reference, nats.
        margin: least difference of scores, not included.
    """
    totals, scores = total.view(-1, size), score.view(-1, size)
    ranked = scores.unsqueeze(2) - scores.unsqueeze(1) > margin
    losses = F.softplus(beta * (totals.unsqueeze(1) - totals.unsqueeze(2)))
    return (losses * ranked).sum() / ranked.sum().clamp_min(1)


def robust_preference_loss(margin: Tensor, beta: float, alpha: float) -> Tensor:
    """Returns ROPO's loss (P,) of a margin of log-ratios (arXiv 2404.04102), m = beta margin.

    4 alpha / (1 + alpha)^2 (-log sigmoid(m) + alpha sigmoid(-m)). Its slope in m is at most 1 in
    size, and falls again where m is very negative: there a flipped label is likelier than a lesson.
    """
    m = beta * margin
    return (4.0 * alpha / (1.0 + alpha) ** 2) * (alpha * torch.sigmoid(-m) - F.logsigmoid(m))
