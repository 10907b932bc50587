"""Verdicts follow from numbers: a number that changes changes its verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pairbench.algorithms.soft_pair_grpo import SoftPairGRPO
from pairbench.errors import PairBenchError
from pairbench.papers.claims import CLAIMS, run
from pairbench.papers.claims.core import Number, judge, restricted, shown, stated, verdict
from pairbench.papers.claims.report import in_words, render, requirement
from tests.support.kept_claims import load

GOOD, BAD = stated("a", 0.0, "<=", 0.5), stated("a", 1.0, "<=", 0.5)
KEPT, LOST = restricted("b", 1.0, ">=", 0.5), restricted("b", 0.0, ">=", 0.5)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((GOOD,), "holds"),
        ((GOOD, KEPT), "holds"),
        ((BAD, KEPT), "holds only if"),
        ((BAD,), "fails"),
        ((BAD, LOST), "fails"),
        ((GOOD, LOST), "fails"),
        ((stated("a", float("nan"), "<=", 0.5),), "fails"),
        ((stated("a", float("inf"), ">=", 0.5),), "fails"),
    ],
)
def test_the_verdict_of_requirements(numbers: tuple[Number, ...], expected: str) -> None:
    assert verdict([*numbers, shown("more", 3.0)]) == expected


def test_a_claim_that_requires_nothing_is_refused() -> None:
    with pytest.raises(PairBenchError, match="without a requirement"):
        verdict([shown("a", 1.0)])


def test_a_monte_carlo_number_must_clear_its_bound_by_three_standard_errors() -> None:
    near, clear = (stated("a", value, "<=", 1.0, 0.1) for value in (0.8, 0.7))
    assert (near.met, near.decided) == (False, False)
    assert (clear.met, clear.decided) == (True, True)
    beyond = stated("a", 1.4, "<=", 1.0, 0.1)
    assert (beyond.met, beyond.decided) == (False, True)
    assert "undecided" in requirement(near) and "undecided" not in requirement(beyond)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (stated("rounding", 3e-14, "<=", 1e-8), "0 (below 1e-08)"),
        (stated("no rounding", 3e-3, "<=", 1e-8), "0.003"),
        (shown("noise around zero", -2.8e-17), "0"),
        (stated("far below", -4.5278312, "<=", 0.0, 0.0066), "-4.5278 ± 0.0066"),
        (stated("a little below", -1.1e-4, "<=", -1e-12), "-0.00011"),
        (shown("exact", 0.33299900011), "0.332999"),
        (shown("exact", 419.55123), "419.551"),
        (shown("sampled", 0.23133216, 0.0074499), "0.2313 ± 0.0074"),
    ],
)
def test_numbers_are_shown_to_the_digits_that_mean_something(number: Number, text: str) -> None:
    assert in_words(number) == text


def test_a_changed_number_changes_verdict_and_reason() -> None:
    made = CLAIMS["log-ratio-rises"]
    finding = made.measure()
    before = judge(made, finding)
    assert before.verdict == "holds"
    worse = replace(finding.numbers[0], value=-1.0)
    after = judge(made, replace(finding, numbers=[worse, *finding.numbers[1:]]))
    assert after.verdict == "fails"
    assert after.reason == f"Not met: {worse.name}."


def test_a_broken_algorithm_changes_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims measure the registered class itself: a factor on its advantages is seen."""
    assert run(["soft-pair-two-responses"])[0].verdict == "holds only if"
    original = SoftPairGRPO.advantages

    def doubled(self: SoftPairGRPO, batch: Any) -> Tensor:
        return 2 * original(self, batch)

    monkeypatch.setattr(SoftPairGRPO, "advantages", doubled)
    assert run(["soft-pair-two-responses"])[0].verdict == "fails"
    monkeypatch.setattr(SoftPairGRPO, "advantages", lambda self, batch: -original(self, batch))
    assert run(["log-ratio-rises"])[0].verdict == "fails"


def test_an_unknown_claim_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PairBenchError, match=r"no claim 'grpo-binari'; did you mean grpo-binary"):
        run(["grpo-binari"])


def test_progress_and_order_are_the_pages_whatever_order_is_asked_for() -> None:
    seen: list[tuple[str, int, int]] = []
    results = run(
        ["grpo-pairwise", "log-ratio-rises"],
        lambda result, number, count: seen.append((result.claim.id, number, count)),
    )
    assert [result.claim.id for result in results] == ["log-ratio-rises", "grpo-pairwise"]
    assert seen == [("log-ratio-rises", 1, 2), ("grpo-pairwise", 2, 2)]


def test_every_form_says_the_same_and_json_comes_back() -> None:
    results = run(["grpo-pairwise", "preferred-up-rejected-down"])
    texts = {form: render(results, form) for form in ("table", "json", "markdown", "html")}
    assert all("preferred-up-rejected-down" in text for text in texts.values())
    assert all("0.332999" in texts[form] for form in texts)
    back = load(texts["json"])
    assert {form: render(back, form) for form in texts} == texts
    assert "http" not in texts["html"].replace("http-equiv", "")


def test_measuring_twice_gives_the_same_bits() -> None:
    first, second = (run(["soft-pair-noise"])[0] for _ in range(2))
    assert first.numbers == second.numbers
    assert torch.get_default_dtype() == torch.float32  # nothing global was touched
