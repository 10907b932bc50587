"""Sampled completions: their probabilities, ends and independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pairbench import seeding
from pairbench.language.policy.policy import LanguagePolicy
from tests.support.small_llama import (
    EOS,
    SIZE,
    VOCAB,
    draw,
    llama,
    policy,
    prompts,
)


@pytest.mark.parametrize("ends", [(EOS,), (EOS, 13, 7)])
@pytest.mark.parametrize("min_length", [0, 3, 12])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_sampled_log_probabilities_are_those_of_scoring(
    min_length: int, temperature: float, ends: tuple[int, ...]
) -> None:
    """Whichever of a model's ends comes first, a response ends there."""
    ours = LanguagePolicy(llama(), ends, min_length=min_length)
    responses, mask, logp = draw(ours, temperature=temperature)
    contexts = prompts().repeat_interleave(SIZE, 0)
    torch.testing.assert_close(ours.logp(contexts, responses, mask), logp, atol=1e-4, rtol=0)
    assert bool(((responses >= 0) == (mask > 0)).all())
    found = torch.isin(responses, torch.tensor(ends)).nonzero()
    assert bool((found[:, 1] >= min_length).all())
    for row, column in found.tolist():
        assert mask[row].tolist() == [1.0] * (column + 1) + [0.0] * (11 - column)
    if min_length == 12:
        assert bool((mask == 1).all())


def test_some_completions_end_and_some_do_not() -> None:
    """What the other tests of sampling rest on."""
    responses, mask, _ = draw(policy(), size=16, length=20)
    lengths = mask.sum(1)
    assert 3 <= int((lengths < 20).sum()) < len(mask) and len(lengths.unique()) > 4
    assert int((responses == EOS).any(1).sum()) >= 3


def test_a_completion_does_not_depend_on_its_batch() -> None:
    whole = draw(policy(), size=8, length=20)
    chunked = draw(policy(micro_rows=8), size=8, length=20)
    assert torch.equal(whole[0], chunked[0])
    torch.testing.assert_close(whole[2], chunked[2], atol=1e-5, rtol=0)


def test_tokens_are_drawn_by_their_probabilities() -> None:
    ours = policy()
    prompt = prompts()[1:2]
    count = 20_000
    responses, _, _ = ours.sample(prompt, count, 1, 1.0, seeding.generator(0, "sampling"))
    ids = prompt[prompt >= 0]
    expected = ours.model(ids.unsqueeze(0)).logits[0, -1].softmax(0).detach()
    got = torch.bincount(responses[:, 0], minlength=VOCAB) / count
    error = (expected * (1 - expected) / count).sqrt()
    assert float(((got - expected) / error.clamp_min(1e-4)).abs().max()) < 4.5
    cold, _, _ = ours.sample(prompt, 10, 1, 0.0, seeding.generator(0, "sampling"))
    assert set(cold[:, 0].tolist()) == {int(expected.argmax())}


def test_forbidden_tokens_stay_forbidden_whatever_the_draw() -> None:
    class Edge:
        def random(self, shape: tuple[int, ...]) -> np.ndarray:
            return np.where(np.arange(np.prod(shape)).reshape(shape) % 2, 0.0, 1 - 2.0**-53)

    model = llama()
    ours = LanguagePolicy(model, VOCAB - 1, min_length=5)  # the last id, beyond all others
    responses, _, logp = ours.sample(prompts(), 2, 5, 1.0, Edge())  # type: ignore[arg-type]
    assert bool((responses < VOCAB - 1).all()) and bool(torch.isfinite(logp).all())
