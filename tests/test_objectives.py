"""The shared mathematics: golden values of fixture F and of its sources, and identities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from pairbench import objectives as o
from pairbench.batch import Batch
from pairbench.policy import PolicyOutput
from tests.support.fixtures import LOGP, MASK, OLD, REF, SCORE, close, every_pair, fixture_f, tensor

SEEDS = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Divergences


@given(SEEDS)
def test_gradient_of_k3_is_that_of_the_reversed_divergence(seed: int) -> None:
    """Over all responses weighted by pi_old, at pi = pi_old: k3 follows KL(ref || pi).

    Times the ratio it follows KL(pi || ref). Both gradients by autograd of the exact divergences.
    """
    logits, reference = draw(seed, 2, 6).unbind(0)
    logits = logits.requires_grad_()
    log_ref, old = reference.log_softmax(0), logits.detach().log_softmax(0)

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, logits)[0]

    log_p = logits.log_softmax(0)
    plain = gradient((old.exp() * o.k3(log_p, log_ref)).sum())
    log_p = logits.log_softmax(0)
    corrected = gradient((old.exp() * o.k3(log_p, log_ref, (log_p - old).exp())).sum())
    log_p = logits.log_softmax(0)
    reversed_kl = gradient((log_ref.exp() * (log_ref - log_p)).sum())
    log_p = logits.log_softmax(0)
    kl = gradient((log_p.exp() * (log_p - log_ref)).sum())
    torch.testing.assert_close(plain, reversed_kl)
    torch.testing.assert_close(corrected, kl)


@given(SEEDS)
def test_both_estimates_have_the_divergence_as_their_mean(seed: int) -> None:
    log_p, log_q = draw(seed, 2, 5).log_softmax(1).unbind(0)
    exact = (log_p.exp() * (log_p - log_q)).sum()
    torch.testing.assert_close((log_p.exp() * o.k1(log_p, log_q)).sum(), exact)
    torch.testing.assert_close((log_p.exp() * o.k3(log_p, log_q)).sum(), exact)
    assert bool((o.k3(log_p, log_q) >= 0).all())


def test_kl_to_old_is_exact_where_given_and_else_the_mean_k3_of_real_steps() -> None:
    """F: token k3 of all nine real tokens, 0.019892 (methods: HPG golden)."""
    batch, output = fixture_f()
    close(o.kl_to_old(output, batch), 0.019892)
    exact = PolicyOutput(output.logp, kl_old=lambda: torch.full_like(LOGP, 0.3))
    close(o.kl_to_old(exact, batch), 0.3)


@pytest.mark.parametrize(("kl", "expected"), [(0.02, 0.005), (0.01, 0.0), (0.001, 0.0)])
def test_the_hinge_is_zero_up_to_its_threshold(kl: float, expected: float) -> None:
    divergence = tensor(kl).requires_grad_()
    loss = o.add_hinge(0.0 * divergence + 1.0, divergence, 0.5, 0.01)
    close(loss, 1.0 + expected, 1e-15)
    close(torch.autograd.grad(loss, divergence)[0], 0.5 if expected else 0.0, 1e-15)


# Ratios, surrogate, aggregation


def test_ratios_of_fixture_f() -> None:
    """Sums: S - S_old = [0, -.3, .5, .1]; lengths [3, 2, 1, 3]."""
    whole = o.log_ratio(LOGP, OLD, MASK, "trajectory")
    close(whole.squeeze(1).exp(), [1.0, 0.740818, 1.648721, 1.105171])
    mean = o.log_ratio(LOGP, OLD, MASK, "sequence_mean")
    close(mean.squeeze(1), [0.0, -0.15, 0.5, 0.1 / 3], 1e-12)
    close(o.log_ratio(LOGP, OLD, MASK, "token"), (LOGP - OLD).tolist(), 1e-12)


def test_clipping_stops_the_gradient_only_where_it_would_raise_the_objective() -> None:
    """Terms [-.5, -1.3, .8, 1.5, -1.1]; the slope in log ratio is -A ratio where not clipped."""
    ratio = tensor([[0.5, 1.5, 0.5, 1.5, 1.1]])
    log_ratio = ratio.log().requires_grad_()
    advantage = tensor([[1.0, 1.0, -1.0, -1.0, 1.0]])
    loss, outside = o.clipped_surrogate(log_ratio, advantage, None, 0.2, 0.3)
    close(loss, -0.6, 1e-12)
    close(outside, 0.8)
    slope = torch.autograd.grad(loss, log_ratio)[0]
    close(slope, [[-0.5, 0.0, 0.0, 1.5, -1.1]], 1e-12)


def test_the_second_cap_bounds_the_loss_of_a_negative_advantage() -> None:
    """min(4 A, 1.2 A) of ratio 9: 4 at A = -1, where the slope is gone, and -1.2 at A = 1."""
    log_ratio = tensor([[9.0, 9.0]]).log().requires_grad_()
    loss, _ = o.clipped_surrogate(log_ratio, tensor([[-1.0, 1.0]]), None, 0.2, 0.2, delta=4.0)
    close(loss, 4.0 - 1.2, 1e-12)
    close(torch.autograd.grad(loss, log_ratio)[0], [[0.0, 0.0]], 1e-12)


@given(SEEDS, st.sampled_from([None, 2.0]), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_the_surrogates_own_gradient_is_autograds(
    seed: int, delta: float | None, low: float, high: float
) -> None:
    log_ratio, advantage, weights = draw(seed, 3, 5, 4).unbind(0)
    log_ratio = log_ratio.requires_grad_()
    actual, _ = o.clipped_surrogate(log_ratio, advantage, weights, low, high, delta, 0.3)
    ratio = log_ratio.exp()
    free = ratio if delta is None else ratio.clamp(max=delta)
    limit = ratio.clamp(1.0 - low, 1.0 + high) * advantage
    expected = -0.3 * (weights * torch.minimum(free * advantage, limit)).sum()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(2.0 * actual, log_ratio), torch.autograd.grad(2.0 * expected, log_ratio)
    )


@given(SEEDS, st.integers(2, 5), st.sampled_from(["forward", "reverse"]))
def test_the_group_fits_own_gradient_is_autograds(seed: int, size: int, fit: o.Fit) -> None:
    rows = 3 * size
    log_ratio, scale = draw(seed, 2, rows, 4).unbind(0)
    log_ratio = log_ratio.requires_grad_()
    base, target = draw(seed + 1, 2, 3, size).softmax(2).reshape(2, rows).unbind(0)
    actual = o.group_fit(log_ratio, scale, base.log(), target, size, fit)
    log_p = o.group_log_probabilities(base.log(), (log_ratio * scale).sum(1), size)
    expected = o.target_divergence(log_p, target.view(3, size), fit)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(2.0 * actual, log_ratio), torch.autograd.grad(2.0 * expected, log_ratio)
    )


def test_second_derivatives_are_refused() -> None:
    """The nodes with a gradient of their own hold it constant; a second one would be wrong."""
    x = tensor([[0.1], [0.2]]).requires_grad_()
    one, base = torch.ones_like(x), tensor([0.5, 0.5])
    for loss in (
        o.clipped_surrogate(x, one, None, 0.2, 0.2)[0],
        o.group_fit(x, one, base.log(), base, 2, "forward"),
    ):
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(loss, x, create_graph=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo", (2.0 + 4.5 + 6.0 + 8.0) / 4),  # row means 2, 4.5, 6, 8
        ("bnpo", 45.0 / 9),
        ("dapo", 45.0 / 9),
        ("dr_grpo", 45.0 / (4 * 5)),
        ("luspo", 45.0 / 4),
    ],
)
def test_aggregations_by_hand(name: o.Aggregation, expected: float) -> None:
    """Real steps of F filled with 1..9 (sum 45); padding with a value that must not count."""
    steps = tensor([[1, 2, 3], [4, 5, 99], [6, 99, 99], [7, 8, 9]])
    close(o.aggregate(steps, o.step_weights(MASK, name, 5), name), expected, 1e-12)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "cispo", "luspo", "sapo"])
def test_minibatches_of_equal_size_average_to_the_whole_loss(name: o.Aggregation) -> None:
    steps = draw(0, 4, 3)
    weights = o.step_weights(MASK, name, 3)
    halves = [o.aggregate(steps[r], weights[r], name) for r in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, o.aggregate(steps, weights, name))


def test_soft_gate_has_the_slope_of_the_ratio_at_one() -> None:
    ratio = tensor([1.0, 1.0]).requires_grad_()
    loss = o.soft_gate_surrogate(ratio, tensor([2.0, -3.0]), 1.0, 1.05)
    close(torch.autograd.grad(loss.sum(), ratio)[0], [-2.0, 3.0], 1e-12)
    close(loss, [-4.0, 6.0 / 1.05], 1e-12)  # 4 sigmoid(0) / tau = 2 / tau


# Advantages


@pytest.mark.parametrize(
    ("std", "eps", "expected"),
    [  # mean .875; centred [.125, -.875, -.375, 1.125]; sample std .853913, population .739510
        ("sample", 1e-4, [0.146368, -1.024575, -0.439104, 1.317311]),
        ("none", 1e-4, [0.125, -0.875, -0.375, 1.125]),
        ("population", 0.0, [0.169031, -1.183216, -0.507093, 1.521278]),
        ("batch", 1e-4, [0.146368, -1.024575, -0.439104, 1.317311]),
    ],
)
def test_group_normalisation_of_fixture_f(std: o.Std, eps: float, expected: list[float]) -> None:
    close(o.normalise_groups(SCORE, 4, std, eps), expected)


def test_the_batch_standard_deviation_is_one_over_all_groups() -> None:
    score = tensor([0.0, 2.0, 10.0, 30.0])
    close(
        o.normalise_groups(score, 2, "batch", 0.0),
        (tensor([-1, 1, -10, 10]) / score.std()).tolist(),
    )


@given(SEEDS, st.floats(-100, 100), st.floats(0.1, 10))
def test_advantages_ignore_a_shift_and_scaled_ones_a_scale(
    seed: int, shift: float, scale: float
) -> None:
    score = draw(seed, 12)
    for std in ("population", "sample"):
        plain = o.normalise_groups(score, 4, std, 0.0)
        moved = o.normalise_groups(scale * score + shift, 4, std, 0.0)
        torch.testing.assert_close(plain, moved, atol=1e-6, rtol=1e-6)
        close(plain.view(3, 4).sum(1), [0.0, 0.0, 0.0], 1e-9)


@pytest.mark.parametrize("std", ["population", "sample", "none", "batch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tied_group_has_exactly_no_advantage(std: o.Std, dtype: torch.dtype) -> None:
    """Three times 0.1 averages to something else in floating point; eps 0 would blow that up."""
    score = torch.tensor([0.1, 0.1, 0.1, 0.0, 1.0, 2.0], dtype=dtype)
    advantage = o.normalise_groups(score, 3, std, 0.0)
    assert advantage[:3].tolist() == [0.0, 0.0, 0.0]
    assert bool(torch.isfinite(advantage).all())


@given(SEEDS, st.sampled_from([torch.float32, torch.float64]))
def test_two_members_have_advantages_of_exactly_one(seed: int, dtype: torch.dtype) -> None:
    """What makes GRPO at G = 2 the same run as Soft-Pair-GRPO, bit for bit."""
    score = draw(seed, 100).to(dtype)
    sign = (score.view(-1, 2) - score.view(-1, 2).flip(1)).sign().reshape(-1)
    assert torch.equal(o.normalise_groups(score, 2, "population", 0.0), sign)
    plain = o.normalise_groups(score, 2, "none", 0.0)
    torch.testing.assert_close(
        plain.view(-1, 2), score.view(-1, 2) - score.view(-1, 2).mean(1)[:, None]
    )


def test_gae_equals_stable_baselines3s_rollout_buffer() -> None:
    """R [1, .5, -.2, .3], V [.4, .3, .2, .1], last value .25, gamma .98, lambda .92.

    The fourth step starts an episode, so the third ends one: next value 0 and no carry.
    """
    advantage = o.gae(
        tensor([[1.0, 0.5, -0.2, 0.3]]),
        tensor([[0.4, 0.3, 0.2, 0.1]]),
        tensor([[0.3, 0.2, 0.0, 0.25]]),
        tensor([[0.0, 0.0, 1.0, 1.0]]),
        0.98,
        0.92,
    )
    close(advantage, [[0.925881, 0.035360, -0.4, 0.445]])


def test_gae_equals_trls_over_a_padded_response() -> None:
    """TRL's PPOTrainer: gamma 1, lambda .95, next value 0 after the last slot, no carry beyond."""
    reward = tensor([[-0.005, 0.005, 0.995], [-0.01, -0.005, -0.5]])
    value = tensor([[0.2, 0.1, 0.3], [0.0, 0.4, 0.25]])
    following = torch.cat([value[:, 1:], torch.zeros(2, 1, dtype=torch.float64)], dim=1)
    boundary = tensor([[0, 0, 1], [0, 0, 1]])
    close(
        o.gae(reward, value, following, boundary, 1.0, 0.95),
        [[0.716987, 0.865250, 0.695], [-0.434125, -0.8675, -0.75]],
    )


@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_gae_at_lambda_one_is_the_return_minus_the_value(
    seed: int, gamma: float, other: float
) -> None:
    """With the next value that of the next step, the sum telescopes; lambda 0 is delta alone."""
    reward, value = draw(seed, 2, 3, 5).unbind(0)
    following = torch.cat([value[:, 1:], torch.zeros(3, 1, dtype=torch.float64)], dim=1)
    boundary = torch.zeros(3, 5, dtype=torch.float64)
    boundary[:, -1] = 1.0
    advantage = o.gae(reward, value, following, boundary, gamma, 1.0)
    returns = sum(gamma**t * reward[:, t] for t in range(5))
    assert isinstance(returns, Tensor)
    torch.testing.assert_close(advantage[:, 0], returns - value[:, 0])
    delta = o.gae(reward, value, following, boundary, gamma, 0.0)
    torch.testing.assert_close(delta, reward + gamma * following - value)


@pytest.mark.parametrize("steps", [1, 3])
def test_whitening_has_no_mean_and_unit_variance_over_real_steps(steps: int) -> None:
    values = draw(1, 8, steps)
    mask = torch.ones(8, steps, dtype=torch.float64)
    if steps > 1:
        mask[2:, 2] = 0.0
    white = o.whiten(values, mask)[mask > 0]
    close(white.mean(), 0.0, 1e-12)
    close(white.var(), 1.0, 1e-6)


def test_whitening_leaves_a_single_step_as_it_is() -> None:
    assert o.whiten(tensor([[3.0]]), tensor([[1.0]])).item() == 3.0
    assert o.whiten(tensor([[3.0, 9.0]]), tensor([[1.0, 0.0]])).tolist() == [[3.0, 0.0]]
    assert o.whiten(tensor([[3.0, 9.0]]), tensor([[0.0, 0.0]])).tolist() == [[0.0, 0.0]]


# Comparisons


def test_net_wins_of_fixture_f() -> None:
    pairs = every_pair(SCORE, 4)
    assert o.net_wins(pairs, 4, torch.float64).tolist() == [1.0, -3.0, -1.0, 3.0]


@pytest.mark.parametrize(
    ("form", "smoothing", "expected"),
    [("sigmoid", 0.0, 0.662077), ("sigmoid", 0.1, 0.668577), ("ipo", 0.0, 19.645)],
)
def test_pair_losses_of_fixture_d(form: str, smoothing: float, expected: float) -> None:
    """Margins 1.5 and -.2, beta .1."""
    losses = o.preference_loss(tensor([1.5, -0.2]), 0.1, form, smoothing)  # type: ignore[arg-type]
    close(losses.mean(), expected)


def test_log_odds_are_finite_for_a_certain_response() -> None:
    close(o.log_odds(tensor([math.log(0.25)])), [-math.log(3.0)], 1e-12)
    certain = torch.zeros(1, dtype=torch.float32).requires_grad_()
    odds = o.log_odds(certain)
    assert bool(torch.isfinite(odds).all())
    assert bool(torch.isfinite(torch.autograd.grad(odds.sum(), certain)[0]).all())


# The group's target


def test_flows_by_hand() -> None:
    """Wins [1, -3, -1, 3] over 4; best against worst [0, -1, 0, 1]; a tie moves nothing."""
    wins = tensor([1, -3, -1, 3, 0, -1, 0, 1, 0, 0, 0, 0])
    expected = [[0.25, -0.75, -0.25, 0.75], [0.0, -1.0, 0.0, 1.0], [0.0] * 4]
    close(o.flow(wins, 4), expected, 1e-15)


@given(SEEDS, st.integers(2, 9), st.floats(1e-4, 1.0), st.floats(0.01, 0.5), st.booleans())
def test_targets_are_probabilities_however_large_delta(
    seed: int, size: int, delta: float, zeta: float, uniform: bool
) -> None:
    """Flows sum to zero; the mass moved is delta, or what leaves zeta b_i with every member."""
    score = draw(seed, 3 * size).round(decimals=0)  # ties happen
    flows = o.flow(o.net_wins(every_pair(score, size), 3 * size, torch.float64), size)
    close(flows.sum(1), [0.0] * 3, 1e-12)
    logits = draw(seed + 1, 3, size) * (0.0 if uniform else 3.0)
    base = logits.softmax(1)
    moved = o.capped_delta(delta, flows, base, zeta)
    target = base + moved * flows
    close(target.sum(1), [1.0] * 3, 1e-12)
    assert bool((target >= zeta * base * (1 - 1e-9)).all())
    assert bool((moved <= delta).all())
    binding = moved.squeeze(1) < delta
    lowest = (target / base).amin(1)
    close(lowest[binding], [zeta] * int(binding.sum()), 1e-9)


@given(SEEDS, st.integers(2, 6))
def test_forward_fit_at_pi_old_pushes_by_q_minus_b(seed: int, size: int) -> None:
    """-d KL(q || p) / d shift_i = q_i - b_i, whatever the base."""
    base = draw(seed, size).softmax(0)
    target = draw(seed + 1, size).softmax(0)
    shift = torch.zeros(size, dtype=torch.float64).requires_grad_()
    log_p = o.group_log_probabilities(base.log(), shift, size)
    loss = o.target_divergence(log_p, target.unsqueeze(0), "forward")
    torch.testing.assert_close(-torch.autograd.grad(loss, shift)[0], target - base)


def test_reverse_fit_at_pi_old_by_its_formula() -> None:
    """G = 4, uniform base, best against worst, delta .02, d = .08: autograd against

    c_pref = [log(1 + d) - log(1 - d^2) / 4] / 4 = .019641546, c_rej = -.020444117 likewise with
    log(1 - d), and c of the others -log(1 - d^2) / 16 = .000401285.
    """
    base = torch.full((4,), 0.25, dtype=torch.float64)
    target = tensor([[0.27, 0.23, 0.25, 0.25]])
    shift = torch.zeros(4, dtype=torch.float64).requires_grad_()
    loss = o.target_divergence(o.group_log_probabilities(base.log(), shift, 4), target, "reverse")
    push = -torch.autograd.grad(loss, shift)[0]
    close(push, [0.019641546, -0.020444117, 0.000401285, 0.000401285], 1e-9)


def test_divergences_to_the_target_vanish_on_it_and_differ_off_it() -> None:
    target = tensor([[0.2, 0.8], [0.6, 0.4]])
    for fit in ("forward", "reverse"):
        close(o.target_divergence(target.log(), target, fit), 0.0, 1e-15)  # type: ignore[arg-type]
    log_p = tensor([[0.5, 0.5], [0.6, 0.4]]).log()
    forward = 0.2 * math.log(0.4) + 0.8 * math.log(1.6)
    reverse = 0.5 * math.log(2.5) + 0.5 * math.log(0.625)
    close(o.target_divergence(log_p, target, "forward"), forward / 2, 1e-12)
    close(o.target_divergence(log_p, target, "reverse"), reverse / 2, 1e-12)


def test_masked_mean_of_fixture_f() -> None:
    """Sum of the nine real log-ratios to the reference over 9, padding ignored."""
    expected = float(((LOGP - REF) * MASK).sum() / 9)
    close(o.masked_mean(LOGP - REF + 7.0 * (1 - MASK), MASK), expected, 1e-12)


def test_fixture_f_is_a_valid_batch() -> None:
    batch, _ = fixture_f()
    assert isinstance(batch, Batch)
    assert batch.group_size == 4
