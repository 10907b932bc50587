"""pass@k is the unbiased estimate, of rewards of 0 and 1 alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")
pytest.importorskip("evaluate", reason="the extra language is not installed")

from pairbench.language.rewards.session import pass_at, passes


def test_pass_at_k_is_the_chance_over_all_subsets() -> None:
    rewards = np.array([[1, 0, 0, 1, 0, 0, 0, 0], [0] * 8, [1] * 8], dtype=float)
    for k in passes(8):
        chances = [
            np.mean([row[list(c)].max() for c in combinations(range(8), k)]) for row in rewards
        ]
        assert pass_at(rewards)[f"pass@{k}"] == pytest.approx(np.mean(chances))
    assert list(pass_at(rewards)) == ["pass@1", "pass@4", "pass@8"]


def test_other_rewards_have_no_pass() -> None:
    assert pass_at(np.array([[0.5, 1.0]])) == {}
    assert passes(1) == [1]
