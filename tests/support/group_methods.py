"""What the tests of group methods share: a method on fixture F, at its sampler, and on ties."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.policy import PolicyOutput
from tests.support.fixtures import OLD, fixture_f, fixture_f_pair, tensor


def make(cls: type[Algorithm], **settings: Any) -> Algorithm:
    """Returns the method for groups of four, or as `settings` say."""
    return cls(cls.Config.model_validate({"group_size": 4, **settings}))


def on_f(cls: type[Algorithm], **settings: Any) -> tuple[Tensor, Tensor]:
    """Returns the advantages (4,) and the loss of fixture F."""
    method = make(cls, **settings)
    batch, output = fixture_f()
    signal = method.prepare(batch, 0.0, 0)
    return signal["advantage"].view(-1), method.loss(output, batch, signal).value


def push(cls: type[Algorithm], score: list[float] | None = None, **settings: Any) -> Tensor:
    """Returns minus the gradient of F's loss at theta_old, (4,): summed over a row's steps."""
    method = make(cls, **settings)
    batch, _ = fixture_f()
    if score is not None:
        batch = replace(batch, score=tensor(score))
    logp = OLD.clone().requires_grad_()
    value = method.loss(PolicyOutput(logp), batch, method.prepare(batch, 0.0, 0)).value
    return -torch.autograd.grad(value, logp)[0].sum(1)


def pair_advantages(cls: type[Algorithm], **settings: Any) -> Tensor:
    """Returns the advantages (2,) of rows 3 and 1 of F, with scores 2 and 0, as a group of two."""
    batch, _ = fixture_f_pair()
    return make(cls, group_size=2, **settings).prepare(batch, 0.0, 0)["advantage"].view(-1)
