"""RAFT: the likelihood of the best of each group, and of nothing else."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pairbench.algorithms.raft import RAFT
from tests.support.fixtures import close, fixture_f


def on(**settings: Any) -> tuple[Tensor, Tensor]:
    """Returns the loss on F, and its gradient in the log-probabilities."""
    batch, output = fixture_f()
    method = RAFT(RAFT.Config.model_validate({"group_size": 4, **settings}))
    loss = method.loss(output, batch, method.prepare(batch, 0.0, 0)).value
    loss.backward()  # type: ignore[no-untyped-call]
    assert output.logp.grad is not None
    return loss, output.logp.grad


def test_golden_loss() -> None:
    """Scores [1, 0, .5, 2]: (1.5 + .9 + .4) / 3, and with the second best (2.8 + 3.5) / 6."""
    close(on()[0], 2.8 / 3, 1e-12)
    close(on(keep=2)[0], 6.3 / 6, 1e-12)


def test_only_the_best_is_learned() -> None:
    gradient = on()[1]
    close(gradient[3], [-1 / 3] * 3, 1e-12)
    assert not bool(gradient[:3].any())
