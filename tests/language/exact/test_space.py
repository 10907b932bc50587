"""Contexts and responses by number."""

from __future__ import annotations

import torch

from pairbench.language.exact.space import Space


def test_numbers_and_responses_are_inverse() -> None:
    space = Space(3, 4, 27)
    assert space.responses.shape == (81, 4)
    assert space.responses[5].tolist() == [0, 0, 1, 2]
    assert torch.equal(space.numbers(space.responses), torch.arange(81))


def test_all_contexts_or_some_of_them_the_same_each_time() -> None:
    assert Space(3, 4, 27).prompts.unique(dim=0).shape == (27, 3)
    some = Space(6, 4, 64).prompts
    assert some.unique(dim=0).shape == (64, 3)
    assert torch.equal(some, Space(6, 5, 64).prompts)
