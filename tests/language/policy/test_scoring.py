"""Scores of completions: every short cut against a full forward pass of every row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pairbench.batch import Batch
from pairbench.language.policy import scoring
from tests.support.small_llama import (
    SIZE,
    batch,
    by_hand,
    gradients,
    loss,
    policy,
    prompts,
)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [1, SIZE])
def test_losses_and_gradients_are_those_of_each_row_alone(shared: bool, size: int) -> None:
    given = batch(size)
    ours = policy(shared_prompt=shared)
    expected = by_hand(ours.model, given)
    got = ours(given).logp
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert bool((got[given.mask == 0] == 0).all())
    torch.testing.assert_close(loss(got, given), loss(expected, given), atol=0, rtol=1e-5)
    tensors = ours.parameters()[0].tensors
    ideal = gradients(loss(by_hand(ours.model, given), given), tensors)
    gap = gradients(loss(got, given), tensors) - ideal
    assert float(gap.norm() / ideal.norm()) < 1e-5


def test_prompts_of_equal_length_need_no_mask() -> None:
    given = batch()
    ours = policy()
    contexts = prompts((5, 5, 5)).repeat_interleave(SIZE, 0)
    even = Batch(contexts, given.responses, given.mask, given.old_logp, given.group)
    torch.testing.assert_close(ours(even).logp, by_hand(ours.model, even), atol=1e-5, rtol=0)


@pytest.mark.parametrize("micro_rows", [1, 5, 8])
def test_chunks_give_the_same_gradient(micro_rows: int) -> None:
    given = batch()
    whole, chunked = policy(critic=True), policy(critic=True, micro_rows=micro_rows)
    results = []
    for ours in (whole, chunked):
        output = ours(given)
        assert output.value is not None and output.entropy is not None
        total = loss(output.logp, given) + (output.value - 1).square().sum()
        total = total + (output.entropy * given.mask).sum()
        tensors = [tensor for group in ours.parameters() for tensor in group.tensors]
        results.append((output.logp.detach(), gradients(total, tensors)))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-6, rtol=1e-6)
    gap = results[1][1] - results[0][1]
    assert float(gap.norm() / results[0][1].norm()) < 1e-6


def test_chunks_are_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = policy(micro_rows=5)
    seen: list[tuple[int, int]] = []
    original = scoring._chunk

    def watched(model: Any, how: Any, rows: Any, size: int, what: Any) -> Tensor:
        seen.append((len(rows.mask), size))
        return original(model, how, rows, size, what)

    monkeypatch.setattr(scoring, "_chunk", watched)
    ours(batch()).logp.sum().backward()  # type: ignore[no-untyped-call]
    assert seen == [(SIZE, SIZE)] * 6  # three groups forward, and again backward


def test_entropy_is_that_of_the_distribution() -> None:
    given = batch()
    ours = policy()
    entropy = ours(given).entropy
    assert entropy is not None
    context, response = given.contexts[0], given.responses[0]
    row = torch.cat([context[context >= 0], response[given.mask[0] > 0]])
    probabilities = ours.model(row.unsqueeze(0)).logits[0].softmax(1)
    places = slice(int((context >= 0).sum()) - 1, -1)
    expected = -(probabilities * probabilities.log()).sum(1)[places]
    torch.testing.assert_close(entropy[0, : len(expected)], expected, atol=1e-5, rtol=0)
