"""Dr.GRPO: TRL's value on fixture F, and the two divisions it leaves out."""

from __future__ import annotations

from pairbench.algorithms.dr_grpo import DrGRPO
from tests.support.fixtures import close
from tests.support.group_methods import on_f, pair_advantages, push


def test_golden_loss() -> None:
    """methods.md D.1: TRL 1.16 with dr_grpo, scale none, longest response 3: A = r - .875."""
    advantage, loss = on_f(DrGRPO)
    close(advantage, [0.125, -0.875, -0.375, 1.125], 1e-12)
    close(loss, -0.146402)
    close(on_f(DrGRPO, max_length=6)[1], -0.146402 / 2)


def test_every_step_pushes_alike_whatever_the_length_of_its_response() -> None:
    """At theta_old a row's push is A x its length / (B x 3): rows have 3, 2, 1 and 3 steps."""
    close(push(DrGRPO), [0.125 * 3 / 12, -0.875 * 2 / 12, -0.375 / 12, 1.125 * 3 / 12], 1e-12)


def test_ties_and_pairs() -> None:
    close(push(DrGRPO, [0.3] * 4), [0.0] * 4, 0.0)
    close(pair_advantages(DrGRPO), [1.0, -1.0], 1e-12)
    assert not DrGRPO(DrGRPO.Config()).needs.reference
