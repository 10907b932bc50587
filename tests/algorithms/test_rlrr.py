"""RLRR: ranks in both forms, with ties, and the bounds of the hybrid one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pairbench.algorithms.rlrr import RLRR, dense_rank
from pairbench.errors import PairBenchError
from tests.support.fixtures import close, fixture_f, tensor
from tests.support.group_methods import make, on_f, pair_advantages, push

HYBRID: dict[str, Any] = {"form": "hrr", "threshold": 1.0}


def advantages(score: list[float], **settings: Any) -> torch.Tensor:
    batch, _ = fixture_f()
    method = make(RLRR, **settings)
    return method.prepare(replace(batch, score=tensor(score)), 0.0, 0)["advantage"].view(-1)


def test_golden_advantages() -> None:
    """methods.md E: ranks [2, 4, 3, 1]; s = [2/3, 0, 1/3, 1], and under hrr, rows 0 and 3 correct,

    s = [1 + .1 tanh 1, 0, .1 tanh(1/3), 1 + .1 tanh 3], mean .551954.
    """
    close(on_f(RLRR)[0], [0.166667, -0.5, -0.166667, 0.5])
    close(on_f(RLRR, **HYBRID)[0], [0.524205, -0.551954, -0.519803, 0.547551])


def test_ranks_are_dense() -> None:
    close(dense_rank(tensor([[[2.0, 1.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0]]])),
          [[1, 2, 1, 3], [1, 1, 1, 1]], 0.0)  # fmt: skip
    second = tensor([[[1.0, 1.0, 0.0, 1.0]], [[0.0, 3.0, 9.0, 0.0]]])
    close(dense_rank(second), [[2, 1, 3, 2]], 0.0)


def test_only_the_order_of_scores_counts() -> None:
    close(advantages([10.0, -90.0, 9.0, 1e6]), [0.166667, -0.5, -0.166667, 0.5])


def test_equal_scores_share_a_rank() -> None:
    """Ranks [1, 2, 2, 1] of two: s = [1, 0, 0, 1]."""
    close(advantages([1.0, 0.0, 0.0, 1.0]), [0.5, -0.5, -0.5, 0.5], 1e-12)


def test_ties_and_pairs() -> None:
    close(push(RLRR, [0.3] * 4), [0.0] * 4, 0.0)
    close(push(RLRR, [1.3] * 4, form="hrr", bucket=100), [0.0] * 4, 0.0)
    close(pair_advantages(RLRR), [0.5, -0.5], 1e-12)


def test_a_correct_response_is_hardly_pushed_down_and_an_incorrect_one_hardly_up() -> None:
    """All correct, ranks 1 to 4: s = 1 + .1 tanh(4 / rank - 1); those below the mean get -xi.

    All incorrect likewise: those above it get xi.
    """
    right, wrong = (advantages([4.0, 3.0, 2.0, 1.0], form="hrr", threshold=t) for t in (0.0, 9.0))
    steps = tensor([3.0, 1.0, 1 / 3, 0.0]).tanh() * 0.1
    free = steps - steps.mean()
    close(right, [float(free[0]), float(free[1]), -1e-3, -1e-3], 1e-12)
    close(wrong, [1e-3, 1e-3, float(free[2]), float(free[3])], 1e-12)


def test_among_correct_responses_the_shorter_ranks_first() -> None:
    """With buckets of one step, lengths 3, 2, 1, 3 decide before scores do: ranks 4, 2, 1, 3."""
    found = advantages([1.0, 2.0, 3.0, 4.0], form="hrr", threshold=0.0, bucket=1, xi=1.0)
    assert found.argsort(descending=True).tolist() == [2, 1, 3, 0]
    wide = advantages([1.0, 2.0, 3.0, 4.0], form="hrr", threshold=0.0, xi=1.0)
    assert wide.argsort(descending=True).tolist() == [3, 2, 1, 0]


def test_no_rank_for_nan() -> None:
    with pytest.raises(PairBenchError, match="NaN has no rank"):
        dense_rank(torch.tensor([[[1.0, torch.nan, 2.0]]]))
