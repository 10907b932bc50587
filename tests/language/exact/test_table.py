"""A table as a policy: its steps, its draws."""

from __future__ import annotations

import numpy as np
import torch

from pairbench.language.exact.space import Space
from pairbench.language.exact.table import Table

SPACE = Space(3, 4, 5)


def table() -> Table:
    log = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 81)) * 2)
    return Table(SPACE, log.log_softmax(1))


def test_steps_multiply_to_the_whole() -> None:
    where = torch.full((81,), 3)
    steps = table().dist(where, SPACE.responses)
    torch.testing.assert_close(steps.exp().sum(-1), torch.ones(81, 4))
    whole = steps.gather(-1, SPACE.responses.unsqueeze(-1)).double().sum((1, 2))
    torch.testing.assert_close(whole, table().log[3], atol=1e-5, rtol=1e-5)


def test_it_draws_what_it_says() -> None:
    where = torch.full((20_000,), 1)
    responses, dist = table().sample(where, np.random.default_rng(2))
    share = torch.bincount(SPACE.numbers(responses), minlength=81) / 20_000
    assert float((share - table().log[1].exp()).abs().max()) < 0.012
    assert dist.shape == (20_000, 4, 3)
