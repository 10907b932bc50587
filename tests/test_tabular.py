"""Exact problems: the categorical policy, and what GRPO converges to, solved and trained."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from pairbench.algorithms.grpo import GRPO
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.tabular import (
    Categorical,
    Std,
    binary_limit,
    binary_pair,
    group_counts,
    group_preference,
    stationary_policy,
)
from tests.support.fixtures import close, tensor

REWARD = tensor([1.0, 0.3, 0.0, 0.7])
REFERENCE = tensor([0.1, 0.4, 0.3, 0.2])
BETA = 1.5

GOLDEN = [
    ("k3", 2, "population", [0.210977, 0.338860, 0.195249, 0.254914]),
    ("k3", 3, "population", [0.272749, 0.297294, 0.175977, 0.253980]),
    ("k3", 4, "population", [0.301599, 0.279682, 0.168168, 0.250550]),
    ("k3", 8, "population", [0.333609, 0.263402, 0.155716, 0.247273]),
    ("k3", None, "population", [0.357437, 0.257461, 0.142886, 0.242216]),
    ("k3", 2, "sample", [0.164924, 0.366310, 0.219294, 0.249473]),
    ("direct", 2, "population", [0.184220, 0.357408, 0.186526, 0.271845]),
    ("direct", 8, "population", [0.260748, 0.288970, 0.140399, 0.309883]),
    ("k3", 2, "none", [0.125151, 0.387458, 0.264931, 0.222460]),
    ("k3", 8, "none", [0.150061, 0.372187, 0.240052, 0.237700]),
    ("direct", 2, "none", [0.123049, 0.389766, 0.264506, 0.222679]),
    ("direct", 8, "none", [0.142612, 0.379209, 0.238747, 0.239433]),
]
"""Converged policies of exact-gradient runs (penalty, G, std): K = 4, beta 1.5."""


def solve(penalty: Any, size: int | None, std: Std, beta: float = BETA) -> Tensor:
    return stationary_policy(
        REFERENCE, lambda p: group_preference(p, REWARD, size, std), beta, penalty
    )


@pytest.mark.parametrize(("penalty", "size", "std", "expected"), GOLDEN)
def test_stationary_policies(penalty: str, size: int, std: Std, expected: list[float]) -> None:
    policy = solve(penalty, size, std)
    close(policy, expected)
    push = group_preference(policy, REWARD, size, std) / BETA
    if penalty == "k3":
        close(policy, (REFERENCE / (1.0 - push)).tolist(), 1e-12)
    else:
        close(policy, (REFERENCE * push.exp() / (REFERENCE * push.exp()).sum()).tolist(), 1e-12)


def test_sample_std_is_a_stronger_penalty_by_the_root_of_two() -> None:
    """At G = 2 advantages shrink by sqrt 2, as if beta were beta sqrt 2 with population std."""
    close(solve("k3", 2, "sample"), solve("k3", 2, "population", BETA * 2**0.5).tolist(), 1e-12)


def test_without_scale_and_with_the_direct_penalty_it_is_rlhf() -> None:
    """pi proportional to ref exp((1 - 1/G) r / beta)."""
    for size in (2, 8):
        weight = REFERENCE * ((1 - 1 / size) * REWARD / BETA).exp()
        close(solve("direct", size, "none"), (weight / weight.sum()).tolist(), 1e-12)


@pytest.mark.parametrize(
    ("beta", "pair", "limit"),
    [
        (0.25, 0.83935439, 0.97101846),
        (1.0, 0.54772256, 0.73911650),
        (4.0, 0.35741756, 0.42352941),
    ],
)
def test_two_responses_in_closed_form_and_solved(beta: float, pair: float, limit: float) -> None:
    reference, reward = tensor([0.3, 0.7]), tensor([1.0, 0.0])
    close(tensor(binary_pair(0.3, 1.0, beta, "k3")), pair, 1e-8)
    close(tensor(binary_limit(0.3, beta)), limit, 1e-8)
    for size, expected in ((2, pair), (None, limit)):
        solved = stationary_policy(
            reference,
            lambda p, size=size: group_preference(p, reward, size, "population"),
            beta,
            "k3",
        )
        close(solved[0], expected, 1e-8)


@pytest.mark.parametrize(("penalty", "expected"), [("k3", 0.39564392), ("direct", 0.39000342)])
def test_two_responses_with_random_rewards(penalty: Any, expected: float) -> None:
    """a beats b with probability .7: margin .4, beta 1."""
    close(tensor(binary_pair(0.3, 0.4, 1.0, penalty)), expected, 1e-8)
    margin = tensor([[0.0, 0.4], [-0.4, 0.0]])
    solved = stationary_policy(tensor([0.3, 0.7]), lambda p: margin @ p, 1.0, penalty)
    close(solved[0], expected, 1e-8)


@given(st.integers(0, 2**31), st.integers(2, 5), st.sampled_from(["population", "sample", "none"]))
def test_group_preference_equals_the_sum_over_all_groups(seed: int, size: int, std: Std) -> None:
    """Every ordered group of three responses, two of them tied; and its mean is zero."""
    draws = torch.Generator().manual_seed(seed)
    policy = torch.randn(3, generator=draws, dtype=torch.float64).softmax(0)
    reward = tensor([0.1, 0.1, 1.0])
    expected = torch.zeros(3, dtype=torch.float64)
    for first in range(3):
        for others in product(range(3), repeat=size - 1):
            scores = reward[[first, *others]].numpy()
            if scores.max() == scores.min():
                continue
            scale = {"population": scores.std(), "sample": scores.std(ddof=1), "none": 1.0}[std]
            expected[first] += policy[list(others)].prod() * (scores[0] - scores.mean()) / scale
    actual = group_preference(policy, reward, size, std)
    close(actual, expected.tolist(), 1e-12)
    close(policy @ actual, 0.0, 1e-12)


def test_preference_of_large_groups_approaches_the_limit() -> None:
    limit = group_preference(REFERENCE, REWARD, None, "population")
    gaps = [
        float((group_preference(REFERENCE, REWARD, size, "population") - limit).abs().max())
        for size in (2, 8, 16)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    # two responses, a better: E over Bin(G - 1, p) of sqrt((G - 1 - n) / (n + 1))
    p, size = 0.3, 5
    expected = sum(
        math.comb(4, n) * p**n * (1 - p) ** (4 - n) * math.sqrt((4 - n) / (n + 1)) for n in range(5)
    )
    actual = group_preference(tensor([p, 1 - p]), tensor([1.0, 0.0]), size, "population")[0]
    close(actual, expected, 1e-12)


def test_counts_are_all_and_once() -> None:
    counts = group_counts(5, 4)
    assert counts.shape == (math.comb(8, 3), 4)
    assert bool((counts.sum(1) == 5).all())
    assert len({tuple(row.tolist()) for row in counts}) == len(counts)


def test_an_unreachable_stationary_policy_is_refused_in_words() -> None:
    with pytest.raises(PairBenchError, match="no stationary policy found"):
        stationary_policy(REFERENCE, lambda p: REWARD / p.square() * 1e6, 1e-6, "k3")


@pytest.mark.parametrize(
    ("penalty", "size", "std"),
    [
        ("k3", 2, "population"),
        ("k3", 3, "population"),
        ("k3", 2, "sample"),
        ("k3", 2, "none"),
        ("direct", 2, "population"),
        ("k3-bias-corrected", 2, "population"),
    ],
)
def test_grpo_trained_on_exact_gradients_converges_there(penalty: Any, size: int, std: Std) -> None:
    """The algorithm's own loss on every group of K^G, weighted by its probability, to 1e-8.

    TRL's bias correction follows KL(pi || ref), as the direct penalty does.
    """
    grpo = GRPO(GRPO.Config(group_size=size, std=std, eps=0.0, beta=BETA, penalty=penalty, lr=1.0))
    groups = torch.tensor(list(product(range(4), repeat=size)))
    rows = groups.numel()
    contexts = torch.zeros(rows, 1, dtype=torch.int64)
    responses = groups.reshape(-1, 1)
    mask = torch.ones(rows, 1, dtype=torch.float64)
    log_ref = REFERENCE.log()
    policy = Categorical(log_ref.unsqueeze(0))
    for _ in range(600):
        old = policy.log_probabilities()[0]
        batch = Batch(
            contexts=contexts,
            responses=responses,
            mask=mask,
            old_logp=old[responses],
            ref_logp=log_ref[responses],
            old_dist=old.expand(rows, 1, 4),
            ref_dist=log_ref.expand(rows, 1, 4),
            group=torch.arange(len(groups)).repeat_interleave(size),
            score=REWARD[responses[:, 0]],
        )
        probability = old[groups].sum(1).exp() * len(groups)
        signal = dict(grpo.prepare(batch, 0.0, 0))
        signal["weight"] = signal["weight"] * probability.repeat_interleave(size).unsqueeze(1)
        loss = grpo.loss(policy(batch), batch, signal)
        gradient = torch.autograd.grad(loss.value, policy.logits)[0]
        with torch.no_grad():
            # preconditioned by 1 / pi, which changes the path and not the end
            policy.logits -= 0.4 * gradient / policy.log_probabilities().exp()
    close(
        policy.log_probabilities()[0].exp(),
        solve("k3" if penalty == "k3" else "direct", size, std).tolist(),
        1e-8,
    )


# The policy


def bandit_batch(policy: Categorical, other: Categorical) -> Batch:
    contexts = torch.tensor([[0], [1], [1]])
    old, reference = policy.log_probabilities(), other.log_probabilities()
    responses = torch.tensor([[2], [0], [1]])
    where = contexts[:, 0]
    return Batch(
        contexts=contexts,
        responses=responses,
        mask=torch.ones(3, 1, dtype=torch.float64),
        old_logp=old[where].gather(1, responses),
        group=torch.arange(3),
        old_dist=old[where].unsqueeze(1),
        ref_dist=reference[where].unsqueeze(1),
    ).check()


def test_outputs_are_exact() -> None:
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    policy, other = Categorical(logits, critic=True), Categorical(logits.flip(1))
    output = policy(bandit_batch(policy, other))
    p = torch.distributions.Categorical(logits=logits[[0, 1, 1]])
    q = torch.distributions.Categorical(logits=logits.flip(1)[[0, 1, 1]])
    assert output.entropy is not None
    assert output.kl_old is not None
    assert output.kl_ref is not None
    close(output.logp[:, 0], p.log_prob(torch.tensor([2, 0, 1])).tolist(), 1e-12)
    close(output.entropy[:, 0], p.entropy().tolist(), 1e-12)
    close(output.kl_old, [[0.0]] * 3, 1e-12)
    close(output.kl_ref[:, 0], torch.distributions.kl_divergence(p, q).tolist(), 1e-12)
    assert output.value is not None
    assert output.value.shape == (3, 1)
    assert Categorical(logits)(bandit_batch(policy, other)).value is None


def test_samples_follow_the_policy_and_the_generator() -> None:
    policy = Categorical(tensor([[0.0, math.log(3.0)], [math.log(9.0), 0.0]]))
    contexts = torch.arange(2).repeat(20_000)
    arms = policy.sample(contexts, np.random.default_rng(0))
    share = torch.stack([arms[contexts == c].double().mean() for c in (0, 1)])
    close(share, [0.75, 0.1], 0.01)  # three standard errors are .009
    assert torch.equal(arms, policy.sample(contexts, np.random.default_rng(0)))


def test_state_comes_back() -> None:
    one, other = Categorical(tensor([[1.0, 2.0]]), critic=True), Categorical(tensor([[0.0, 0.0]]))
    assert one.values is not None
    with torch.no_grad():
        one.values += 3.0
    restored = Categorical(other.logits, critic=True)
    leaf = restored.logits
    restored.load_state(one.state())
    assert restored.logits is leaf  # an optimiser holds it
    assert all(torch.equal(restored.state()[name], value) for name, value in one.state().items())
