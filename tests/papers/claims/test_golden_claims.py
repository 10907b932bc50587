"""Claims measure the numbers that independent reference scripts gave for the same problems."""

from __future__ import annotations

from functools import cache

import pytest

from pairbench.papers.claims import run
from pairbench.papers.claims.core import Result


@cache
def result(name: str) -> Result:
    return run([name])[0]


def number(claim: str, name: str) -> float:
    (found,) = [n.value for n in result(claim).numbers if n.name == name]
    return found


def policy(claim: str, label: str) -> list[float]:
    return [number(claim, f"pi of response {i}, {label}") for i in range(1, 5)]


@pytest.mark.parametrize(
    ("claim", "label", "expected"),
    [
        ("grpo-rational-pooling", "G 2", [0.210977, 0.338860, 0.195249, 0.254914]),
        ("grpo-rational-pooling", "G 3", [0.272749, 0.297294, 0.175977, 0.253980]),
        ("grpo-rational-pooling", "G 4", [0.301599, 0.279682, 0.168168, 0.250550]),
        ("grpo-rational-pooling", "G 8", [0.333609, 0.263402, 0.155716, 0.247273]),
        ("grpo-rational-pooling", "G infinite", [0.357437, 0.257461, 0.142886, 0.242216]),
        ("grpo-sample-std", "G 2, sample std", [0.164924, 0.366310, 0.219294, 0.249473]),
        ("grpo-direct-penalty", "G 2", [0.184220, 0.357408, 0.186526, 0.271845]),
        ("grpo-direct-penalty", "G 8", [0.260748, 0.288970, 0.140399, 0.309883]),
        ("grpo-no-scale", "own penalty, G 2", [0.125151, 0.387458, 0.264931, 0.222460]),
        ("grpo-no-scale", "own penalty, G 8", [0.150061, 0.372187, 0.240052, 0.237700]),
        ("grpo-no-scale", "direct penalty, G 2", [0.123049, 0.389766, 0.264506, 0.222679]),
        ("grpo-no-scale", "direct penalty, G 8", [0.142612, 0.379209, 0.238747, 0.239433]),
    ],
)
def test_trained_policies(claim: str, label: str, expected: list[float]) -> None:
    """Exact-gradient runs: K = 4, reward 1 .3 0 .7, reference .1 .4 .3 .2, beta 1.5."""
    assert policy(claim, label) == pytest.approx(expected, abs=1e-6)
    assert result(claim).verdict == "holds"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("beta 0.25, G 2", 0.83935439),
        ("beta 0.25, G infinite", 0.97101846),
        ("beta 1, G 2", 0.54772256),
        ("beta 1, G infinite", 0.73911650),
        ("beta 4, G 2", 0.35741756),
        ("beta 4, G infinite", 0.42352941),
        ("margin .4, beta 1, k3", 0.39564392),
        ("margin .4, beta 1, direct", 0.39000342),
    ],
)
def test_binary_policies(label: str, expected: float) -> None:
    """Reference .3; trained and closed form agree to 1e-8."""
    value = number("grpo-binary", f"probability of the better response, {label}")
    assert value == pytest.approx(expected, abs=1e-8)
    distance = number("grpo-binary", f"distance from the closed form, {label}")
    assert distance <= 1e-8


def test_gaps_of_expected_advantages_to_their_limit() -> None:
    gaps = [number("grpo-large-groups", f"largest gap of P_G, G {size}") for size in (2, 8, 16)]
    assert gaps == pytest.approx([0.79, 0.22, 0.11], abs=5e-3)


def test_the_counterexample_of_shared_parameters() -> None:
    """Logits (t, 2t, -3t), a step of .001 along h: both fall from 1/3."""
    claim = "preferred-up-rejected-down"
    pair = [number(claim, f"probability of the {who} after the step") for who in
            ("preferred", "rejected")]  # fmt: skip
    assert pair == pytest.approx([0.332999, 0.332667], abs=1e-6)
    assert result(claim).verdict == "holds only if"


def test_negative_covariance_raises_the_variance() -> None:
    """For distinct responses in random order Var(g_p - g_r) is E|e_p - e_r|^2 = 2 exactly.

    tr Cov = -sum of squared marginals, here of the policy .1 .4 .3 .2 given distinct members:
    marginals .09 .24 .21 .16 over .7, so -.1354 / .49 = -.276327.
    """
    claim, label = "covariance-sign", "random order"
    assert number(claim, f"Var(g_p - g_r), {label}") == pytest.approx(2.0, abs=1e-12)
    covariance = number(claim, f"trace of the covariance, {label}")
    assert covariance == pytest.approx(-0.1354 / 0.49, abs=1e-12)
    alone = number(claim, f"Var g_p + Var g_r, {label}")
    assert alone == pytest.approx(2.0 + 2 * covariance, abs=1e-12)
    assert result(claim).verdict == "fails"


def test_first_gradients_of_hard_pair() -> None:
    """delta .02: artanh(.04) / 2 and .02 at G = 2; d = .08 at G = 4, best and worst, reverse."""
    first = "hard-pair-first-gradient"
    assert number(first, "gradient of the preferred, reverse fit") == pytest.approx(
        0.020010677, abs=1e-9
    )
    assert number(first, "gradient of the preferred, forward fit") == pytest.approx(0.02)
    members = [
        number("hard-pair-irrelevant", f"group of four: gradient of {who}")
        for who in ("the preferred", "the rejected", "an irrelevant member")
    ]
    assert members == pytest.approx([0.019641546, -0.020444117, 0.000401285], abs=1e-9)


def test_mass_that_a_decaying_schedule_can_move() -> None:
    """delta_0 / (1 - gamma) = .02 / .02, less .98^700."""
    moved = number(
        "hard-pair-movable-mass", "mass that all steps together can move, delta_0 .02, gamma .98"
    )
    assert moved == pytest.approx(1.0 - 0.98**700, abs=1e-9)


@pytest.mark.parametrize(("noise", "least"), [(0, 300.0), (1, 300.0)])
def test_hard_pairs_raw_variance_is_hundreds_of_times_smaller_by_scale(
    noise: int, least: float
) -> None:
    """Reference on another policy of twenty responses: 1.05e-1 over 2.4e-4, about 440."""
    claim, name = "variance-is-scale", "Hard-Pair, group, reverse"
    factor = number(claim, f"GRPO over {name}, tr Cov, reward noise {noise}")
    assert least < factor < 600.0
    share = number(claim, f"share of log(GRPO / {name}) that is scale, reward noise {noise}")
    assert 0.95 < share < 1.25


def test_order_of_the_scale_free_noise() -> None:
    """Reference, G = 8: GRPO 1.47, all pairs 1.55, best and worst 1.7, paper-exact 2.29."""
    claim = "variance-all-pairs"
    for noise in (0, 1):
        rows = [
            number(claim, f"{name}, tr Cov / |mean|^2, reward noise {noise}")
            for name in ("GRPO", "Soft-Pair, all pairs", "Soft-Pair, best and worst",
                         "Hard-Pair, paper-exact")
        ]  # fmt: skip
        assert rows == sorted(rows)


def test_the_total_variation_link() -> None:
    """tanh(u / 2) leaves [-1/2, 1/2] at u = 2 artanh(1/2) = 1.0986."""
    name = "u from which tanh(u / 2) leaves the domain of f*"
    assert number("f-total-variation-link", name) == pytest.approx(1.0986, abs=0.01)
    assert result("f-total-variation-link").verdict == "holds only if"


def test_slopes_of_the_links_at_zero() -> None:
    """1 and e^-1 for the identity link of KL; equal on both sides for the others."""
    for name, slope in (("kl-canonical", 1.0), ("hellinger", 0.5), ("js", 0.5), ("tv", 0.25)):
        for side in ("above", "below"):
            value = number("f-links-increase", f"slope at 0 for responses {side} the mean, {name}")
            assert value == pytest.approx(slope)
    below = number("f-links-increase", "slope at 0 for responses below the mean, kl")
    assert below == pytest.approx(0.3679, abs=1e-4)
