"""PODS: the golden subset, brute force, ties, and what is counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, strategies as st
from pydantic import ValidationError

from pairbench import objectives as o
from pairbench.algorithms.grpo import GRPO
from pairbench.algorithms.pods import PODS
from pairbench.batch import Batch
from pairbench.policy import PolicyOutput
from tests.support.fixtures import close, fixture_f, tensor
from tests.support.two_steps import two_steps


def of_scores(score: torch.Tensor, size: int) -> Batch:
    """Returns groups of responses of one step, numbered by their row."""
    rows = len(score)
    return Batch(
        contexts=torch.zeros(rows, 1, dtype=torch.int64),
        responses=torch.arange(rows).unsqueeze(1),
        mask=torch.ones(rows, 1, dtype=torch.float64),
        old_logp=torch.zeros(rows, 1, dtype=torch.float64),
        group=torch.arange(rows // size).repeat_interleave(size),
        score=score,
    ).check()


def test_golden_subset_and_advantages() -> None:
    """Of [0, .2, .25, .5, .9, 1] keep 0, 4, 5 (variance .202222).

    The distances from their mean .633333 over sqrt(.202222) = .449691.
    """
    method = PODS(PODS.Config(group_size=6, keep=3, std="population", eps=0.0, beta=0.0))
    chosen = method.select(of_scores(tensor([0, 0.2, 0.25, 0.5, 0.9, 1]), 6)).check()
    assert chosen.responses[:, 0].tolist() == [0, 4, 5]
    assert chosen.score is not None
    close(chosen.score.var(correction=0), 0.202222)
    advantage = method.prepare(chosen, 0.0, 0)["advantage"][:, 0]
    close(advantage, [-1.408374, 0.592999, 0.815374])


@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8), st.data())
def test_no_subset_varies_more(scores: list[int], data: st.DataObject) -> None:
    """Held against all subsets: k lowest and m - k highest are enough."""
    keep = data.draw(st.integers(1, len(scores)))
    values = tensor([float(score) for score in scores])
    rows = o.most_varied(values, len(scores), keep)
    assert len(set(rows.tolist())) == keep and rows.tolist() == sorted(rows.tolist())
    best = max(
        float(values[list(part)].var(correction=0))
        for part in combinations(range(len(scores)), keep)
    )
    assert float(values[rows].var(correction=0)) == pytest.approx(best, abs=1e-9)


def test_groups_are_chosen_apart_and_stay_in_order() -> None:
    rows = o.most_varied(tensor([5, 1, 2, 9, 3, 3, 0, 3]), 4, 2)
    assert rows.tolist() == [1, 3, 6, 7]  # of three equal 3s the last


def test_a_tied_group_keeps_as_many_and_asks_for_nothing() -> None:
    method = PODS(PODS.Config(group_size=4, keep=2, beta=0.0))
    chosen = method.select(of_scores(tensor([0.3, 0.3, 0.3, 0.3]), 4))
    assert len(chosen) == 2
    close(method.advantages(chosen), [0.0, 0.0], 0.0)


@pytest.mark.parametrize("size", [2, 4])
def test_keeping_all_is_grpo(size: int) -> None:
    batch, output = fixture_f()
    batch = replace(batch, group=torch.arange(4 // size).repeat_interleave(size), pairs=None)
    pods = PODS(PODS.Config(group_size=size, keep=size))
    grpo = GRPO(GRPO.Config(group_size=size))
    chosen = pods.select(batch)
    values = [
        method.loss(output, batch, method.prepare(part, 0.0, 0)).value
        for method, part in ((pods, chosen), (grpo, batch))
    ]
    torch.testing.assert_close(values[0], values[1])


def test_the_loss_is_the_mean_over_what_was_kept() -> None:
    """Fixture F, m = 2: rows 1 and 3 (scores 0 and 2), advantages -1 and 1 (population).

    Their token means of ratio x A, clipped at .2: row 1 -(.904837 + .818731) / 2, row 3
    (.904837 + 1.105171 + 1.105171) / 3.
    """
    batch, output = fixture_f()
    method = PODS(PODS.Config(group_size=4, keep=2, std="population", eps=0.0, beta=0.0))
    chosen = method.select(replace(batch, pairs=None)).check()
    assert chosen.score is not None and chosen.score.tolist() == [0.0, 2.0]
    loss = method.loss(
        PolicyOutput(output.logp[torch.tensor([1, 3])]), chosen, method.prepare(chosen, 0.0, 0)
    )
    up, down = (0.904837 + 1.105171 + 1.105171) / 3, (0.904837 + 0.818731) / 2
    close(loss.value, -(up - down) / 2)


def test_more_cannot_be_kept_than_sampled() -> None:
    with pytest.raises(ValidationError, match="keep 8"):
        PODS.Config(group_size=4, keep=8)


def test_two_steps_on_the_bandit_count_all_that_was_sampled() -> None:
    cost = two_steps(PODS).cost
    assert cost.scores == cost.steps == 32 * 8
